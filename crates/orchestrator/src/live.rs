//! What is known of nodes at this moment. In memory only: after a restart it comes back with the nodes.

mod entry;

pub(crate) use entry::Worker;

use crate::vetting::Vetted;
use entry::{Entry, Link};
use protocol::{
    grant::Refusal,
    hold::Hold,
    ids::{ModelDigest, NodeId},
    limits,
    link::{ModelOffer, NodeRow, ToNode},
};
use registry::Registry;
use scheduler::{LiveNode, Now, Presence, Task};
use std::{collections::HashMap, net::SocketAddr, sync::Arc};
use tokio::sync::mpsc;
use transport::Connection;

/// How long a node that is gone stays on the list, with its reason.
const GONE_KEPT_MS: u64 = 24 * 60 * 60 * 1000;
/// How long a granted task counts as load of a node that says nothing new.
const RESERVED_MS: u64 = 2_000;
/// How long a node that failed a probe comes after the others.
const DOUBTED_MS: u64 = 30_000;

#[derive(Default)]
pub(crate) struct Live {
    nodes: HashMap<NodeId, Entry>,
    // One sequence for links and probes.
    last_number: u64,
}

/// No room for another node.
#[derive(Debug)]
pub(crate) struct NoRoom;

/// What a client needs to reach one candidate.
pub(crate) struct Reachable {
    pub(crate) node: NodeId,
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) evidence: Arc<crate::vetting::Checked>,
}

/// A probe on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Probe {
    node: NodeId,
    number: u64,
}

impl Live {
    fn number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    /// A node has a link; one that it had before is replaced. Returns the link's number.
    pub(crate) fn link(
        &mut self,
        node: NodeId,
        connection: Connection,
        outgoing: mpsc::Sender<ToNode>,
        now: Now,
        silence_max_ms: u64,
    ) -> Result<u64, NoRoom> {
        if !self.nodes.contains_key(&node) && self.nodes.len() >= limits::NODES_MAX {
            let gone = self.nodes.values().filter(|entry| entry.link.is_none()).min_by_key(|entry| entry.since_unix_ms);
            let gone = gone.map(|entry| entry.live.node).ok_or(NoRoom)?;
            self.nodes.remove(&gone);
        }
        let number = self.number();
        let entry = self.nodes.entry(node).or_insert_with(|| Entry::new(node, now));
        if let Some(old) = entry.link.replace(Link { number, connection, outgoing, probe: None }) {
            old.connection.close("replaced by a newer link of this machine");
        }
        entry.live.presence = Presence::Linked;
        entry.live.probing = false;
        entry.live.hold = None;
        entry.set_workers(Vec::new());
        entry.heard(now, silence_max_ms);
        Ok(number)
    }

    /// The entry of a link that still counts.
    fn of_link(&mut self, node: NodeId, link: u64) -> Option<&mut Entry> {
        self.nodes.get_mut(&node).filter(|entry| entry.link.as_ref().is_some_and(|own| own.number == link))
    }

    /// A link is gone.
    pub(crate) fn unlink(&mut self, node: NodeId, link: u64, now: Now) {
        if let Some(entry) = self.of_link(node, link) {
            entry.link = None;
            entry.live.probing = false;
            if entry.live.presence == Presence::Linked {
                entry.live.presence = Presence::Lost;
            }
            entry.note_standing(now);
        }
    }

    /// Removes a node for good.
    pub(crate) fn forget(&mut self, node: NodeId) {
        if let Some(link) = self.nodes.remove(&node).and_then(|entry| entry.link) {
            link.connection.close("removed from the pool");
        }
    }

    /// A node said how it is. After its goodbye nothing counts.
    pub(crate) fn state(&mut self, node: NodeId, link: u64, vetted: Vetted, now: Now, silence_max_ms: u64) {
        if let Some(entry) = self.of_link(node, link)
            && entry.live.presence == Presence::Linked
        {
            entry.label = vetted.label;
            entry.addresses = vetted.addresses;
            entry.active_tasks = vetted.active_tasks;
            entry.live.hold = vetted.hold;
            entry.set_workers(vetted.workers);
            entry.heard(now, silence_max_ms);
        }
    }

    /// How a node stands, load apart: what it should know of itself.
    pub(crate) fn standing(&self, node: NodeId, now: Now) -> Option<Hold> {
        let hold = self.nodes.get(&node).and_then(|entry| scheduler::standing(&entry.live, now));
        hold.filter(|hold| !matches!(hold, Hold::Full { .. }))
    }

    /// A node answered a probe.
    pub(crate) fn alive(&mut self, node: NodeId, link: u64, number: u64, now: Now, silence_max_ms: u64) {
        if let Some(entry) = self.of_link(node, link) {
            let own = entry.link.as_mut().expect("found by its link");
            if own.probe == Some(number) {
                own.probe = None;
                entry.live.probing = false;
            }
            entry.heard(now, silence_max_ms);
        }
    }

    /// A node goes.
    pub(crate) fn goodbye(&mut self, node: NodeId, link: u64, now: Now) {
        if let Some(entry) = self.of_link(node, link) {
            entry.live.presence = Presence::Left;
            entry.note_standing(now);
        }
    }

    /// Asks a node for a sign of life; `None` where it has been asked already, or has no link.
    pub(crate) fn probe(&mut self, node: NodeId) -> Option<Probe> {
        let number = self.number();
        let entry = self.nodes.get_mut(&node).filter(|entry| entry.live.presence == Presence::Linked)?;
        let link = entry.link.as_mut().filter(|link| link.probe.is_none())?;
        link.probe = Some(number);
        entry.live.probing = true;
        // Where the queue is full the node does not read, and fails the probe rightly.
        let _ = link.outgoing.try_send(ToNode::Probe { probe: number });
        Some(Probe { node, number })
    }

    /// The time for an answer is over. Whether the node failed.
    pub(crate) fn probe_over(&mut self, probe: Probe, now: Now) -> bool {
        let Some(entry) = self.nodes.get_mut(&probe.node) else { return false };
        let Some(link) = entry.link.as_mut().filter(|link| link.probe == Some(probe.number)) else { return false };
        link.probe = None;
        entry.live.probing = false;
        entry.live.silent_from_steady_ms = now.steady_ms;
        entry.live.doubted_until_steady_ms = now.steady_ms + DOUBTED_MS;
        entry.note_standing(now);
        true
    }

    /// Ranks the nodes for a task, and counts it as load of the first.
    pub(crate) fn grant<'a>(
        &mut self,
        registry: &'a Registry,
        task: &Task<'_>,
        now: Now,
        entropy: u64,
    ) -> Result<(&'a protocol::link::ModelEntry, Vec<Reachable>), Refusal> {
        let ranking = scheduler::rank(registry, Nodes(&self.nodes), task, now, entropy)?;
        let model = ranking.model.digest;
        let candidates = ranking.candidates.iter().filter_map(|node| self.nodes.get(node)?.reachable(model)).collect();
        if let Some(worker) = ranking.candidates.first().and_then(|first| self.nodes.get_mut(first)?.worker_mut(model))
        {
            if now.steady_ms >= worker.reserved_until_steady_ms {
                worker.reserved = 0;
            }
            worker.reserved = worker.reserved.saturating_add(1);
            worker.reserved_until_steady_ms = now.steady_ms + RESERVED_MS;
        }
        Ok((ranking.model, candidates))
    }

    /// Every node, by its id.
    pub(crate) fn rows(&mut self, registry: &Registry, now: Now) -> Vec<NodeRow> {
        let mut rows: Vec<NodeRow> = self.nodes.values_mut().map(|entry| entry.row(registry, now)).collect();
        rows.sort_unstable_by_key(|row| row.node);
        rows
    }

    /// Every model of the pool, and who serves it: nodes that are merely full count.
    pub(crate) fn offers(&self, registry: &Registry, now: Now) -> Vec<ModelOffer> {
        let mut ready: HashMap<ModelDigest, (u32, u32)> = HashMap::new();
        for entry in self.nodes.values() {
            for (model, context_tokens) in entry.serves(now) {
                let (nodes, context_tokens_max) = ready.entry(model).or_default();
                *nodes += 1;
                *context_tokens_max = context_tokens.max(*context_tokens_max);
            }
        }
        let offer = |entry: &protocol::link::ModelEntry| {
            let (ready_nodes, context_tokens) = ready.get(&entry.digest).copied().unwrap_or_default();
            ModelOffer { entry: entry.clone(), ready_nodes, context_tokens }
        };
        registry.models().iter().map(offer).collect()
    }

    /// Notes who fell silent, and forgets who has been gone for long.
    pub(crate) fn sweep(&mut self, now: Now) {
        self.nodes.retain(|_, entry| {
            entry.note_standing(now);
            entry.link.is_some() || now.unix_ms.saturating_sub(entry.since_unix_ms) < GONE_KEPT_MS
        });
    }

    /// Nodes with a link, and those that get work.
    pub(crate) fn counts(&self, now: Now) -> (usize, usize) {
        let linked = self.nodes.values().filter(|entry| entry.link.is_some()).count();
        let free = |entry: &&Entry| matches!(scheduler::standing(&entry.live, now), None | Some(Hold::Full { .. }));
        (linked, self.nodes.values().filter(free).count())
    }
}

#[derive(Clone, Copy)]
struct Nodes<'l>(&'l HashMap<NodeId, Entry>);

impl<'l> IntoIterator for Nodes<'l> {
    type Item = &'l LiveNode;
    type IntoIter =
        std::iter::Map<std::collections::hash_map::Values<'l, NodeId, Entry>, fn(&'l Entry) -> &'l LiveNode>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.values().map(|entry| &entry.live)
    }
}
