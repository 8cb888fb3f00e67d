//! Tasks of the orchestrator's own on a node: when they may run, and that they give way.

use super::{
    Live,
    entry::{Entry, Own, Rated},
};
use crate::measuring::Target;
use protocol::ids::{ModelDigest, NodeId};
use scheduler::{LiveNode, Now, Presence};
use std::{ops::Bound, time::Duration};
use tokio_util::sync::CancellationToken;
use trust::observations::Rates;

/// Completed tasks in a row that contradict a measurement before it is made again.
const CONTRADICTIONS_MAX: u32 = 8;
/// A worker that could not be measured is not tried again for this time.
const FAILED_MS: u64 = 60_000;
/// Outside of this share of what was measured, in percent, a task contradicts it.
const CONTRADICTS_PERCENT: (u64, u64) = (50, 200);

/// What is wished to be done on a node for its own sake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    /// To time its worker.
    Measure,
    /// To see whether its worker answers.
    Try,
}

/// A place for tasks of our own, until they are done or have to give way.
pub(crate) struct OwnTasks {
    pub(crate) number: u64,
    pub(crate) target: Target,
    /// Somebody else's task comes.
    pub(crate) cancelled: CancellationToken,
}

/// When a node may be measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Due {
    pub(crate) after_idle_ms: u64,
    pub(crate) again_after_ms: u64,
}

impl Live {
    /// Workers in a slice of the nodes that could be measured now; with the last node looked at, or `None` at the end.
    pub(crate) fn unmeasured(
        &self,
        after: Option<NodeId>,
        due: Due,
        now: Now,
    ) -> (Vec<(NodeId, ModelDigest)>, Option<NodeId>) {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut found = Vec::new();
        let mut last = None;
        for (node, entry) in self.nodes.range((from, Bound::Unbounded)).take(super::SLICE) {
            last = Some(*node);
            let Some(live) = self.fleet.get(*node) else { continue };
            if is_idle(entry, live, due, now) {
                found.extend(entry.unmeasured(due, now).map(|model| (*node, model)));
            }
        }
        (found, last)
    }

    /// Nodes that are due for a trial because they get work in no other way.
    pub(crate) fn tries_due(&self, now: Now, most: usize) -> Vec<(NodeId, ModelDigest)> {
        self.fleet.canaries_due(now, most)
    }

    /// Takes a node for tasks of our own. A node that is to be measured has nothing else to do.
    pub(crate) fn begin_own(&mut self, node: NodeId, model: ModelDigest, wish: Wish, now: Now) -> Option<OwnTasks> {
        if wish == Wish::Try {
            // Whether or not it can be tried now: one that cannot does not stay in front of those that can.
            self.fleet.canary_sent(node, model, now);
        }
        let number = self.number();
        let live = self.fleet.get(node).filter(|live| live.is_responsive(now) && live.hold.is_none())?;
        let worker = live.worker(model).filter(|worker| worker.hold.is_none() && worker.is_current(now))?;
        let (slots, busy, round_trip) =
            (worker.slots, worker.tasks(now) > 0, Duration::from_micros(live.rtt_us.into()));
        let entry = self.nodes.get_mut(&node).filter(|entry| entry.direct().is_some() && entry.own.is_none())?;
        if wish == Wish::Measure && (busy || entry.active_tasks > 0) {
            return None;
        }
        let offer = entry.offer(model)?;
        let (evidence, chat) = (offer.evidence.clone()?, offer.chat);
        let target = Target { node, model, addresses: entry.addresses.clone(), evidence, slots, chat, round_trip };
        let cancelled = CancellationToken::new();
        let tasks = if wish == Wish::Measure { slots.min(8) } else { 1 };
        entry.own = Some(Own { number, model, tasks, cancel: cancelled.clone(), yields: wish == Wish::Measure });
        Some(OwnTasks { number, target, cancelled })
    }

    /// Whether others' tasks take all places of a worker: ours may only have waited.
    pub(crate) fn is_full(&self, node: NodeId, model: ModelDigest, now: Now) -> bool {
        let worker = self.fleet.get(node).and_then(|live| live.worker(model));
        worker.is_some_and(|worker| worker.tasks(now) >= u64::from(worker.slots))
    }

    /// Whether tasks of our own run on a node.
    pub(crate) fn has_own(&self, node: NodeId) -> bool {
        self.nodes.get(&node).is_some_and(|entry| entry.own.is_some())
    }

    /// Whether a node has a link, or another orchestrator speaks for it.
    pub(crate) fn is_linked(&self, node: NodeId) -> bool {
        self.fleet.get(node).is_some_and(|live| live.presence == Presence::Linked)
    }

    /// Our own tasks on a node are over.
    pub(crate) fn end_own(&mut self, node: NodeId, number: u64) {
        if let Some(entry) = self.nodes.get_mut(&node)
            && entry.own.as_ref().is_some_and(|own| own.number == number)
        {
            entry.own = None;
        }
    }

    /// A worker's rates were measured; `measurement`: of which program.
    pub(crate) fn measured(&mut self, node: NodeId, model: ModelDigest, rates: Rates, program: [u8; 32], now: Now) {
        if let Some(entry) = self.nodes.get_mut(&node) {
            entry.set_rated(Rated {
                model,
                rates,
                program: Some(program),
                at_steady_ms: now.steady_ms,
                contradictions: 0,
            });
        }
        self.set_rates(node, model, rates, now);
    }

    /// It could not be measured: not again for a while.
    pub(crate) fn not_measured(&mut self, node: NodeId, model: ModelDigest, now: Now) {
        if let Some(entry) = self.nodes.get_mut(&node) {
            entry.failed_measuring = Some((model, now.steady_ms));
        }
    }

    /// Rates were refined by what a task showed, which was so many thousandths of a token a second in this batch.
    pub(crate) fn refined(&mut self, node: NodeId, model: ModelDigest, rates: Rates, shown: (u32, u32), now: Now) {
        let (batch, stream_milli) = shown;
        if let Some(rated) = self.nodes.get_mut(&node).and_then(|entry| entry.rated_mut(model)) {
            let measured = 1e6 / rated.rates.step_ms(batch);
            let percent = (f64::from(stream_milli) * 100.0 / measured.max(1.0)) as u64;
            let agrees = (CONTRADICTS_PERCENT.0..=CONTRADICTS_PERCENT.1).contains(&percent);
            rated.contradictions = if agrees { 0 } else { (rated.contradictions + 1).min(CONTRADICTIONS_MAX) };
        }
        self.set_rates(node, model, rates, now);
    }

    pub(super) fn set_rates(&mut self, node: NodeId, model: ModelDigest, rates: Rates, now: Now) {
        self.change(node, now, |live| {
            if let Some(worker) = live.worker_mut(model) {
                worker.rates = rates;
            }
        });
    }
}

fn is_idle(entry: &Entry, live: &LiveNode, due: Due, now: Now) -> bool {
    let for_long = entry.idle_steady_ms.is_some_and(|since| now.steady_ms.saturating_sub(since) >= due.after_idle_ms);
    for_long && entry.own.is_none() && live.presence == Presence::Linked && scheduler::standing(live, now).is_none()
}

impl Entry {
    fn unmeasured(&self, due: Due, now: Now) -> impl Iterator<Item = ModelDigest> {
        self.offers.iter().filter_map(move |offer| {
            let program = offer.evidence.as_ref()?.measurement;
            let failed = self
                .failed_measuring
                .is_some_and(|(model, at)| model == offer.model && now.steady_ms.saturating_sub(at) < FAILED_MS);
            let rated = self.rated.iter().find(|rated| rated.model == offer.model);
            let is_current = rated.is_some_and(|rated| {
                let is_young = now.steady_ms.saturating_sub(rated.at_steady_ms) < due.again_after_ms;
                is_young && rated.program.is_none_or(|own| own == program) && rated.contradictions < CONTRADICTIONS_MAX
            });
            (offer.writes && !failed && !is_current).then_some(offer.model)
        })
    }

    pub(super) fn rated_mut(&mut self, model: ModelDigest) -> Option<&mut Rated> {
        self.rated.iter_mut().find(|rated| rated.model == model)
    }

    pub(super) fn set_rated(&mut self, new: Rated) {
        self.rated.retain(|rated| rated.model != new.model);
        if self.rated.len() >= protocol::limits::MODELS_PER_NODE_MAX {
            self.rated.remove(0);
        }
        self.rated.push(new);
    }
}
