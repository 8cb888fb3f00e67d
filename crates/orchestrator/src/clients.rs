//! Clients with a link: how many links each has, how many reports it may still make, and how often it may ask again.

use crate::shared::Shared;
use protocol::{grant::Purpose, ids::NodeId, limits};
use scheduler::Budget;
use std::{collections::HashMap, sync::Arc};

/// A task that breaks off is one report; a client whose node dies under many tasks needs one probe, not many.
const REPORTS_BURST: u32 = 16;
const REPORTS_PER_SECOND: u32 = 2;
/// People change a pool a few times a day; a program that pays for tasks does it more often.
const SUBMITS_BURST: u32 = 16;
const SUBMITS_PER_SECOND: u32 = 4;
/// Proofs and lists: a whole pool of some thousands is read at once, and larger ones in a minute.
const READINGS_BURST: u32 = 256;
const READINGS_PER_SECOND: u32 = 32;

#[derive(Default)]
pub(crate) struct Clients(HashMap<NodeId, Client>);

struct Client {
    links: usize,
    reports: Budget,
    submits: Budget,
    readings: Budget,
    retries: Budget,
    hedges: Budget,
    resumes: Budget,
}

/// Resumes of one client: one for each task that it began, one a second besides, at most so many at once.
const RESUMES: (u64, u64, u64) = (1_000, 1_000, 64);

impl Client {
    fn new() -> Self {
        let (share_milli, reserve_milli_per_s, held_max) = RESUMES;
        Self {
            links: 0,
            reports: Budget::per_second(REPORTS_PER_SECOND, REPORTS_BURST),
            submits: Budget::per_second(SUBMITS_PER_SECOND, SUBMITS_BURST),
            readings: Budget::per_second(READINGS_PER_SECOND, READINGS_BURST),
            retries: Budget::retries(),
            hedges: Budget::hedges(),
            resumes: Budget::new(share_milli, reserve_milli_per_s, held_max),
        }
    }
}

impl Clients {
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// Whether this client may ask for this purpose now; counts as done. Beginnings fill the budgets of the others.
    pub(crate) fn pay(&mut self, client: NodeId, purpose: Purpose, now_steady_ms: u64) -> bool {
        let Some(client) = self.0.get_mut(&client) else { return false };
        match purpose {
            Purpose::First => {
                client.retries.deposit();
                client.hedges.deposit();
                client.resumes.deposit();
                true
            }
            Purpose::Retry => client.retries.withdraw(now_steady_ms),
            Purpose::Hedge => client.hedges.withdraw(now_steady_ms),
            Purpose::Resume => client.resumes.withdraw(now_steady_ms),
        }
    }

    /// Whether this client may have something agreed on now; counts as done.
    pub(crate) fn may_submit(&mut self, client: NodeId, now_steady_ms: u64) -> bool {
        self.0.get_mut(&client).is_some_and(|client| client.submits.withdraw(now_steady_ms))
    }

    /// Whether this client may read what is agreed on now; counts as one reading.
    pub(crate) fn may_read(&mut self, client: NodeId, now_steady_ms: u64) -> bool {
        self.0.get_mut(&client).is_some_and(|client| client.readings.withdraw(now_steady_ms))
    }

    /// Whether this client may report now; counts as one report.
    pub(crate) fn may_report(&mut self, client: NodeId, now_steady_ms: u64) -> bool {
        self.0.get_mut(&client).is_some_and(|client| client.reports.withdraw(now_steady_ms))
    }
}

/// One link of a client, as long as this lives.
pub(crate) struct ClientLink {
    shared: Arc<Shared>,
    client: NodeId,
}

impl ClientLink {
    /// Counts a link; `None` where the client has too many.
    pub(crate) fn enter(shared: &Arc<Shared>, client: NodeId) -> Option<Self> {
        let mut clients = shared.clients();
        let entry = clients.0.entry(client).or_insert_with(Client::new);
        if entry.links >= limits::LINKS_PER_CLIENT_MAX {
            return None;
        }
        entry.links += 1;
        Some(Self { shared: Arc::clone(shared), client })
    }

    pub(crate) fn client(&self) -> NodeId {
        self.client
    }
}

impl Drop for ClientLink {
    fn drop(&mut self) {
        let mut clients = self.shared.clients();
        if let Some(client) = clients.0.get_mut(&self.client) {
            client.links -= 1;
            if client.links == 0 {
                clients.0.remove(&self.client);
            }
        }
    }
}
