//! Clients with a link: how many links each has, and how many reports it may still make.

use crate::{rate::Bucket, shared::Shared};
use protocol::{ids::NodeId, limits};
use std::{collections::HashMap, sync::Arc};

/// A task that breaks off is one report; a client whose node dies under many tasks needs one probe, not many.
const REPORTS_BURST: u32 = 16;
const REPORTS_PER_SECOND: u32 = 2;

#[derive(Default)]
pub(crate) struct Clients(HashMap<NodeId, Client>);

struct Client {
    links: usize,
    reports: Bucket,
}

impl Clients {
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// Whether this client may report now; counts as one report.
    pub(crate) fn may_report(&mut self, client: NodeId, now_steady_ms: u64) -> bool {
        self.0.get_mut(&client).is_some_and(|client| client.reports.take(now_steady_ms))
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
        let now = shared.now().steady_ms;
        let mut clients = shared.clients();
        let entry = clients
            .0
            .entry(client)
            .or_insert_with(|| Client { links: 0, reports: Bucket::new(REPORTS_BURST, REPORTS_PER_SECOND, now) });
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
