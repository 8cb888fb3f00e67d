//! One node.

use super::Reachable;
use crate::vetting::Checked;
use protocol::{
    hold::Hold,
    ids::{ModelDigest, NodeId},
    link::{NodeRow, ToNode},
};
use registry::Registry;
use scheduler::{LiveNode, LiveWorker, Now, Presence};
use std::{net::SocketAddr, sync::Arc};
use tokio::sync::mpsc;
use transport::Connection;

pub(super) struct Entry {
    pub(super) live: LiveNode,
    pub(super) label: String,
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) active_tasks: u32,
    pub(super) link: Option<Link>,
    // Since when it stands as it does.
    pub(super) since_unix_ms: u64,
    standing: Option<&'static str>,
    // What clients are told of the workers in `live`.
    offers: Vec<Offer>,
}

pub(super) struct Link {
    pub(super) number: u64,
    pub(super) connection: Connection,
    pub(super) outgoing: mpsc::Sender<ToNode>,
    pub(super) probe: Option<u64>,
}

struct Offer {
    model: ModelDigest,
    evidence: Option<Arc<Checked>>,
    context_tokens: u32,
}

/// A worker as it was vetted. One without evidence has a reason in `live.hold`.
pub(crate) struct Worker {
    pub(crate) live: LiveWorker,
    pub(crate) evidence: Option<Arc<Checked>>,
    pub(crate) context_tokens: u32,
}

impl Entry {
    pub(super) fn new(node: NodeId, now: Now) -> Self {
        let live = LiveNode {
            node,
            presence: Presence::Linked,
            silent_from_steady_ms: 0,
            probing: false,
            doubted_until_steady_ms: 0,
            hold: None,
            workers: Vec::new(),
        };
        Self {
            live,
            label: String::new(),
            addresses: Vec::new(),
            active_tasks: 0,
            link: None,
            since_unix_ms: now.unix_ms,
            standing: Some(Hold::Starting.code()),
            offers: Vec::new(),
        }
    }

    /// Replaces the workers. Reservations go: what the node says includes the tasks that have arrived.
    pub(super) fn set_workers(&mut self, workers: Vec<Worker>) {
        self.live.workers.clear();
        self.offers.clear();
        for Worker { live, evidence, context_tokens } in workers {
            self.offers.push(Offer { model: live.model, evidence, context_tokens });
            self.live.workers.push(live);
        }
    }

    /// Something was heard of it.
    pub(super) fn heard(&mut self, now: Now, silence_max_ms: u64) {
        self.live.silent_from_steady_ms = now.steady_ms.saturating_add(silence_max_ms);
        self.note_standing(now);
    }

    /// How it stands now; notes since when.
    pub(super) fn note_standing(&mut self, now: Now) -> Option<Hold> {
        let hold = scheduler::standing(&self.live, now);
        let code = hold.as_ref().map(Hold::code);
        if code != self.standing {
            self.standing = code;
            self.since_unix_ms = now.unix_ms;
            let (node, label) = (self.live.node.short(), &self.label);
            match &hold {
                // Comes and goes with the load.
                Some(Hold::Full { .. }) => {}
                Some(hold) => tracing::info!(%node, label, "no work for this node: {hold}"),
                None => tracing::info!(%node, label, "this node gets work"),
            }
        }
        hold
    }

    pub(super) fn worker_mut(&mut self, model: ModelDigest) -> Option<&mut LiveWorker> {
        self.live.workers.iter_mut().find(|worker| worker.model == model)
    }

    pub(super) fn reachable(&self, model: ModelDigest) -> Option<Reachable> {
        let offer = self.offers.iter().find(|offer| offer.model == model)?;
        let evidence = offer.evidence.clone()?;
        Some(Reachable { node: self.live.node, addresses: self.addresses.clone(), evidence })
    }

    /// Models that it serves now, busy or not, with their context.
    pub(super) fn serves(&self, now: Now) -> impl Iterator<Item = (ModelDigest, u32)> {
        let answers = self.live.is_responsive(now) && matches!(self.live.hold, None | Some(Hold::Full { .. }));
        let pairs = self.live.workers.iter().zip(&self.offers);
        pairs
            .filter(move |(worker, _)| answers && worker.hold.is_none() && worker.is_current(now))
            .map(|(worker, offer)| (worker.model, offer.context_tokens))
    }

    pub(super) fn row(&mut self, registry: &Registry, now: Now) -> NodeRow {
        let hold = self.note_standing(now);
        let name = |worker: &LiveWorker| {
            registry.model(&protocol::grant::ModelRef::Digest(worker.model)).map(|entry| entry.name.clone())
        };
        let slots = self.live.workers.iter().fold(0u32, |slots, worker| slots.saturating_add(worker.slots));
        NodeRow {
            node: self.live.node,
            label: self.label.clone(),
            models: self.live.workers.iter().filter_map(name).collect(),
            active_tasks: self.active_tasks,
            slots,
            hold,
            since_unix_ms: self.since_unix_ms,
        }
    }
}
