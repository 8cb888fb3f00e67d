//! What is kept of one node beside what matching needs.

use super::{arriving::Arrivals, ready::Part};
use crate::vetting::Checked;
use protocol::{
    hold::Hold,
    ids::{ModelDigest, NodeId},
    link::{ScoreRow, ToNode},
    peer::live::{Load, Seen},
};
use scheduler::{LiveNode, LiveWorker, Now};
use std::{net::SocketAddr, sync::Arc};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use transport::Connection;
use trust::observations::Rates;

/// Departures of a proven node that cost tasks and are excused, in an hour: an owner comes and goes less often.
const EXCUSED_PER_HOUR_MAX: usize = 12;
const HOUR_MS: u64 = 60 * 60 * 1000;

#[derive(Default)]
pub(super) struct Entry {
    pub(super) label: String,
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) active_tasks: u32,
    pub(super) link: Option<Link>,
    /// Since when it has no link, where that is so.
    pub(super) gone_unix_ms: Option<u64>,
    /// Since when it stands as it does.
    pub(super) since_unix_ms: u64,
    // When it went the last time, in whatever way machines do.
    pub(super) departed_steady_ms: Option<u64>,
    // When it said itself that it goes.
    pub(super) own_departure_steady_ms: Option<u64>,
    // Departures of the last hour that were excused.
    pub(super) excused_steady_ms: Vec<u64>,
    // Which departure has counted against it.
    pub(super) departure_counted_steady_ms: Option<u64>,
    pub(super) standing: Option<&'static str>,
    /// What clients are told of its workers.
    pub(super) offers: Vec<Offer>,
    /// As it was counted the last time.
    pub(super) parts: Vec<Part>,
    pub(super) arrivals: Arrivals,
    pub(super) score: ScoreRow,
    /// What was measured of its workers.
    pub(super) rated: Vec<Rated>,
    /// A worker that could not be measured, and when.
    pub(super) failed_measuring: Option<(ModelDigest, u64)>,
    /// Models that it was the first to bring.
    pub(super) brought: usize,
    /// Whether it is among those that get work, as counted.
    pub(super) counted: bool,
    /// A task of the orchestrator's own on it: ended when somebody else's comes.
    pub(super) own: Option<Own>,
    /// From when on an answer of it is drawn for an audit.
    pub(super) audit_due_steady_ms: u64,
    /// Since when it has had nothing to do.
    pub(super) idle_steady_ms: Option<u64>,
    /// Tasks of which nobody spoke are written off since then.
    pub(super) settled: bool,
    /// What other orchestrators are told of it, where it has a link of its own.
    pub(super) told: Told,
    /// Its first home has ejected it, so it is doubted here.
    pub(super) suspected: bool,
}

/// What other orchestrators were told of a node the last time.
#[derive(Default)]
pub(super) struct Told {
    pub(super) load: Option<Load>,
    pub(super) seen: Option<Seen>,
    /// Of its profile as it is now, where it has been computed.
    pub(super) mark: Option<u64>,
}

/// How a node is known to be there.
pub(super) struct Link {
    pub(super) number: u64,
    pub(super) way: Way,
}

pub(super) enum Way {
    /// By a link of its own. It counts before whatever others say.
    Direct(Direct),
    /// By the word of another orchestrator, which has a link to it.
    Through { home: NodeId },
}

pub(super) struct Direct {
    pub(super) connection: Connection,
    pub(super) outgoing: mpsc::Sender<Box<ToNode>>,
    pub(super) probe: Option<u64>,
}

impl Link {
    pub(super) fn direct(&self) -> Option<&Direct> {
        match &self.way {
            Way::Direct(direct) => Some(direct),
            Way::Through { .. } => None,
        }
    }
}

/// Tasks of the orchestrator's own.
pub(super) struct Own {
    pub(super) number: u64,
    pub(super) model: ModelDigest,
    /// As many as there are at most: they are no load that anybody has to wait for.
    pub(super) tasks: u32,
    pub(super) cancel: CancellationToken,
    /// Whether they end when somebody else's task comes. A trial is short, and runs on.
    pub(super) yields: bool,
}

/// A measurement of one worker.
pub(super) struct Rated {
    pub(super) model: ModelDigest,
    pub(super) rates: Rates,
    /// Of which program; `None`: it was measured before this start, and is believed.
    pub(super) program: Option<[u8; 32]>,
    pub(super) at_steady_ms: u64,
    /// Tasks in a row that contradicted it.
    pub(super) contradictions: u32,
}

#[derive(Clone)]
pub(super) struct Offer {
    pub(super) model: ModelDigest,
    pub(super) bytes: u64,
    pub(super) slots: u32,
    pub(super) capacity: u32,
    pub(super) evidence: Option<Arc<Checked>>,
    pub(super) context_tokens: u32,
    pub(super) chat: bool,
    /// Whether it generates text at all.
    pub(super) writes: bool,
}

/// A worker as it was vetted. One without evidence has a reason in `live.hold`.
#[derive(Clone)]
pub(crate) struct Worker {
    pub(crate) live: LiveWorker,
    pub(crate) evidence: Option<Arc<Checked>>,
    pub(crate) context_tokens: u32,
    pub(crate) chat: bool,
    pub(crate) writes: bool,
    pub(crate) bytes: u64,
}

impl Offer {
    /// Of a worker as it was vetted.
    pub(super) fn of(worker: &Worker) -> Self {
        let Worker { live, evidence, context_tokens, chat, writes, bytes } = worker;
        Self {
            model: live.model,
            bytes: *bytes,
            slots: live.slots,
            capacity: live.capacity,
            evidence: evidence.clone(),
            context_tokens: *context_tokens,
            chat: *chat,
            writes: *writes,
        }
    }

    /// Whether nothing has changed. Evidence that was checked once is the same evidence.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let same_evidence = match (&self.evidence, &other.evidence) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (None, None) => true,
            _ => false,
        };
        let fixed = |offer: &Self| {
            (offer.model, offer.bytes, offer.slots, offer.capacity, offer.context_tokens, offer.chat, offer.writes)
        };
        same_evidence && fixed(self) == fixed(other)
    }
}

impl Entry {
    /// What it said of itself that seldom changes.
    pub(super) fn set_profile(&mut self, label: String, addresses: Vec<SocketAddr>, offers: Vec<Offer>) {
        let same_offers = self.offers.len() == offers.len()
            && self.offers.iter().zip(&offers).all(|(before, after)| before.is_same(after));
        if !same_offers || self.label != label || self.addresses != addresses {
            self.told.mark = None;
        }
        (self.label, self.addresses, self.offers) = (label, addresses, offers);
    }

    /// Its own link.
    pub(super) fn direct(&self) -> Option<&Direct> {
        self.link.as_ref().and_then(Link::direct)
    }

    pub(super) fn direct_mut(&mut self) -> Option<&mut Direct> {
        match &mut self.link.as_mut()?.way {
            Way::Direct(direct) => Some(direct),
            Way::Through { .. } => None,
        }
    }

    pub(super) fn offer(&self, model: ModelDigest) -> Option<&Offer> {
        self.offers.iter().find(|offer| offer.model == model)
    }

    /// Whether it gets work, or would if it were not full.
    pub(super) fn is_routable(&self) -> bool {
        matches!(self.standing, None | Some("full" | "unproven"))
    }

    /// How it stands now; notes since when.
    pub(super) fn note_standing(&mut self, live: &LiveNode, now: Now) -> Option<Hold> {
        let hold = scheduler::standing(live, now);
        let code = hold.as_ref().map(Hold::code);
        if code != self.standing {
            self.standing = code;
            self.since_unix_ms = now.unix_ms;
            if hold.as_ref().is_some_and(is_departure) {
                self.departed_steady_ms = Some(now.steady_ms);
            }
            if hold.as_ref().is_some_and(is_own_departure) {
                self.own_departure_steady_ms = Some(now.steady_ms);
            }
            let (node, label) = (live.node.short(), &self.label);
            match &hold {
                // They come and go with the load.
                Some(Hold::Full { .. } | Hold::Unproven) => {}
                Some(hold) => tracing::info!(%node, label, "no work for this node: {hold}"),
                None => tracing::info!(%node, label, "this node gets work"),
            }
        }
        hold
    }

    /// What it gives now, busy or not.
    pub(super) fn parts(&self, live: &LiveNode, now: Now) -> Vec<Part> {
        if !live.is_responsive(now) || !matches!(live.hold, None | Some(Hold::Full { .. })) {
            return Vec::new();
        }
        let pairs = live.workers.iter().zip(&self.offers);
        let serving = pairs.filter(|(worker, _)| {
            let record = live.record(worker.model).hold(live.attestation, now.steady_ms);
            let gets_work = !matches!(record, Some(Hold::Ejected { .. } | Hold::Probation));
            worker.hold.is_none() && worker.is_current(now) && gets_work
        });
        serving
            .map(|(worker, offer)| Part {
                model: worker.model,
                context_tokens: offer.context_tokens,
                slots: worker.slots,
                // More than it has places for is its own queue: no reason to believe that the pool is busy.
                tasks: worker.active_tasks.min(worker.slots),
            })
            .collect()
    }

    /// Tasks of others in a worker that has so many.
    pub(super) fn others_tasks(&self, model: ModelDigest, said_tasks: u32) -> u32 {
        let own = self.own.as_ref().filter(|own| own.model == model).map_or(0, |own| own.tasks);
        said_tasks.saturating_sub(own)
    }

    /// What is believed of the speed of a worker.
    pub(super) fn rates(&self, model: ModelDigest, model_bytes: u64) -> Rates {
        let rated = self.rated.iter().find(|rated| rated.model == model);
        rated.map_or_else(|| Rates::sceptical(model_bytes), |rated| rated.rates)
    }

    /// Whether one more departure is excused without a look at what was lost by it. Each is asked about once for each
    /// task that it cost.
    pub(super) fn departs_seldom(&mut self, departed_steady_ms: u64, now: Now) -> bool {
        self.excused_steady_ms.retain(|at| now.steady_ms.saturating_sub(*at) < HOUR_MS);
        if self.excused_steady_ms.contains(&departed_steady_ms) {
            return true;
        }
        let seldom = self.excused_steady_ms.len() < EXCUSED_PER_HOUR_MAX;
        if seldom {
            self.excused_steady_ms.push(departed_steady_ms);
        }
        seldom
    }

    /// Ends a measurement, because somebody's task comes.
    pub(super) fn give_way(&mut self) {
        if self.own.as_ref().is_some_and(|own| own.yields) {
            self.end_own();
        }
    }

    /// Ends what the orchestrator runs on it for itself.
    pub(super) fn end_own(&mut self) {
        if let Some(own) = self.own.take() {
            own.cancel.cancel();
        }
    }
}

/// Whether a node that stands so has gone, or is about to, as machines do.
fn is_departure(hold: &Hold) -> bool {
    is_own_departure(hold) || matches!(hold, Hold::Unresponsive)
}

/// Whether a node that stands so has said itself that it goes.
pub(super) fn is_own_departure(hold: &Hold) -> bool {
    matches!(hold, Hold::Left | Hold::Draining | Hold::Paused { .. } | Hold::Owner { .. })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_departs_too_often_is_not_excused() {
        let mut entry = Entry::default();
        let at = |steady_ms| Now { unix_ms: steady_ms, steady_ms };
        for departed in 0..EXCUSED_PER_HOUR_MAX as u64 {
            assert!(entry.departs_seldom(departed, at(departed)) && entry.departs_seldom(departed, at(departed)));
        }
        assert!(!entry.departs_seldom(1_000, at(1_000)));
        assert!(entry.departs_seldom(1_000 + HOUR_MS, at(1_000 + HOUR_MS)), "an hour later");
    }
}
