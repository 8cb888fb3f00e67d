//! The nodes as others are shown them, a slice at a time.

use super::{GONE_KEPT_MS, Live, MODELS_BROUGHT_MAX, SLICE};
use protocol::{
    grant::ModelRef,
    ids::NodeId,
    link::{ModelOffer, NodeRow, RateRow, ScoreRow},
};
use registry::Registry;
use scheduler::Now;
use std::ops::Bound;

impl Live {
    fn slice(&self, after: Option<NodeId>) -> Vec<NodeId> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.nodes.range((from, Bound::Unbounded)).take(SLICE).map(|(node, _)| *node).collect()
    }

    /// The ids of the next nodes; none: that was all.
    pub(crate) fn ids_after(&self, after: Option<NodeId>) -> Vec<NodeId> {
        self.slice(after)
    }

    /// The next nodes by their ids; none: that was all.
    pub(crate) fn rows(&mut self, registry: &Registry, after: Option<NodeId>, now: Now) -> Vec<NodeRow> {
        let nodes = self.slice(after);
        nodes.into_iter().filter_map(|node| self.row(registry, node, now)).collect()
    }

    fn row(&mut self, registry: &Registry, node: NodeId, now: Now) -> Option<NodeRow> {
        let hold = self.note(node, now);
        let (entry, live) = (self.nodes.get(&node)?, self.fleet.get(node)?);
        let name = |model| registry.model(&ModelRef::Digest(model)).map(|entry| entry.name.clone());
        let slots = live.workers.iter().fold(0u32, |slots, worker| slots.saturating_add(worker.slots));
        let rates = live.workers.iter().filter_map(|worker| {
            let rated = entry.rated.iter().find(|rated| rated.model == worker.model)?;
            let (prefill_milli, decode_milli) = (rated.rates.prefill_milli, rated.rates.decode_milli);
            Some(RateRow { model: worker.model, prefill_milli, decode_milli })
        });
        Some(NodeRow {
            node,
            label: entry.label.clone(),
            models: live.workers.iter().filter_map(|worker| name(worker.model)).collect(),
            active_tasks: entry.active_tasks,
            slots,
            hold,
            since_unix_ms: entry.since_unix_ms,
            score: entry.score,
            rates: rates.collect(),
        })
    }

    /// Every model of the pool, and who serves it: nodes that are merely full count.
    pub(crate) fn offers(&self, registry: &Registry) -> Vec<ModelOffer> {
        let offer = |entry: &protocol::link::ModelEntry| {
            let serving = self.ready.of(entry.digest);
            ModelOffer {
                entry: entry.clone(),
                ready_nodes: serving.map_or(0, super::ready::Serving::count),
                context_tokens: serving.map_or(0, super::ready::Serving::context_tokens_max),
            }
        };
        registry.models().iter().map(offer).collect()
    }

    /// Notes in a slice of the nodes who fell silent and which tasks never came. Returns the last node looked at.
    pub(crate) fn sweep(&mut self, after: Option<NodeId>, now: Now) -> Option<NodeId> {
        let nodes = self.slice(after);
        for node in &nodes {
            self.lapse(*node, now);
            self.settle_idle(*node, now);
            self.note(*node, now);
        }
        nodes.last().copied()
    }

    /// Forgets who has been gone for long, a few at a time, and clients against whom there is nothing.
    pub(crate) fn sweep_gone(&mut self, now: Now) {
        for _ in 0..SLICE {
            let old = self.gone.first().filter(|(since, _)| now.unix_ms.saturating_sub(*since) >= GONE_KEPT_MS);
            let Some((_, node)) = old.copied() else { break };
            self.remove(node);
        }
        self.shares.sweep(now.steady_ms);
    }

    /// Nodes with a link of their own, those that others speak for, and of both those that get work, as far as was noted.
    pub(crate) fn counts(&self) -> (usize, usize, usize) {
        (self.nodes.len() - self.gone.len() - self.remote.len(), self.remote.len(), self.routable)
    }

    /// Puts a node's score in place, and what follows from what was observed of it.
    pub(crate) fn scored(&mut self, node: NodeId, score: ScoreRow, hazard: trust::survival::Hazard, now: Now) {
        if let Some(entry) = self.nodes.get_mut(&node) {
            entry.score = score;
        }
        self.change(node, now, |live| (live.score_ppm, live.hazard) = (score.total_ppm, hazard));
    }

    /// Whether a node may bring a model that the pool does not have.
    pub(crate) fn may_bring(&self, node: NodeId) -> bool {
        self.nodes.get(&node).is_some_and(|entry| entry.brought < MODELS_BROUGHT_MAX)
    }

    /// A node brought a model.
    pub(crate) fn brought(&mut self, node: NodeId) {
        if let Some(entry) = self.nodes.get_mut(&node) {
            entry.brought += 1;
        }
    }

    /// The way to a node was sampled. What is about the same changes nothing.
    pub(crate) fn round_trip(&mut self, node: NodeId, rtt_us: u32, now: Now) {
        let known = self.fleet.get(node).map_or(0, |live| live.rtt_us);
        if known.abs_diff(rtt_us) > known / 16 {
            self.fleet.update(node, now, |live| live.rtt_us = rtt_us);
        }
    }
}
