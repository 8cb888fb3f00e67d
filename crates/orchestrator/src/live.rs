//! What is known of nodes at this moment. In memory only: after a restart it comes back with the nodes.
//!
//! No call looks at every node: what needs all of them takes a slice at a time, and the lock is free in between.

mod arriving;
mod entry;
mod grant;
mod links;
mod own;
mod ready;
mod view;
mod words;

pub(crate) use entry::Worker;
#[cfg(test)]
pub(crate) use grant::Reachable;
pub(crate) use grant::{Drawn, Granted, Named, Tried, explain_avoided};
pub(crate) use links::Word;
pub(crate) use own::{Due, OwnTasks, Wish};

use crate::{rules::Rules, vetting::Vetted};
use arriving::Shares;
use entry::{Entry, Offer};
use protocol::{
    hold::Hold,
    ids::{ModelDigest, NodeId},
    limits,
    market::Price,
};
use ready::Ready;
use scheduler::{Ended, Fleet, LiveNode, Now, RESERVED_MS, Record};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use tokio::sync::Notify;
use trust::{observations::Observations, score::Attestation};

/// How long a node that is gone stays on the list, with its reason.
const GONE_KEPT_MS: u64 = 24 * 60 * 60 * 1000;
/// A task that fails so soon after its machine went failed because of that.
const DEPARTURE_MS: u64 = 6_000;
/// How long a node comes after the others that said no though it seemed to have a place.
const REFUSED_MS: u64 = 500;
/// Models that one node is the first to bring: a share of those that a pool can have.
pub(crate) const MODELS_BROUGHT_MAX: usize = limits::MODELS_MAX / 8;
/// Nodes that are looked at before the lock is free for others.
pub(crate) const SLICE: usize = 64;

#[derive(Default)]
pub(crate) struct Live {
    fleet: Fleet,
    nodes: BTreeMap<NodeId, Entry>,
    ready: Ready,
    shares: Shares,
    // Those without a link, the longest gone first.
    gone: BTreeSet<(u64, NodeId)>,
    // Those that others speak for.
    remote: BTreeSet<NodeId>,
    routable: usize,
    // Nodes of which other orchestrators may have to be told, and the signal that it is urgent.
    changed: BTreeSet<NodeId>,
    news: Arc<Notify>,
    // One sequence for links, probes and our own tasks.
    last_number: u64,
}

/// No room for another node.
#[derive(Debug)]
pub(crate) struct NoRoom;

/// What was observed of a node before it linked.
pub(crate) struct Known {
    pub(crate) seen: Observations,
    /// Since when its session lasts: a link that broke and came back at once is no new one.
    pub(crate) session_since_steady_ms: u64,
}

impl Live {
    /// A node asks something else for its work with a model.
    pub(crate) fn priced(&mut self, node: NodeId, model: ModelDigest, price: Price, now: Now) {
        self.fleet.update(node, now, |live| {
            if let Some(worker) = live.worker_mut(model) {
                worker.price = price;
            }
        });
    }

    fn number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    /// Changes what matching knows of a node, and what follows from it.
    fn change(&mut self, node: NodeId, now: Now, change: impl FnOnce(&mut LiveNode)) {
        self.fleet.update(node, now, change);
        self.note(node, now);
        self.touch(node);
    }

    /// Brings up to date how a node stands, and what is counted.
    fn note(&mut self, node: NodeId, now: Now) -> Option<Hold> {
        let (Some(entry), Some(live)) = (self.nodes.get_mut(&node), self.fleet.get(node)) else { return None };
        let hold = entry.note_standing(live, now);
        let parts = entry.parts(live, now);
        self.ready.change(&entry.parts, &parts);
        entry.parts = parts;
        let routable = entry.is_routable();
        let counted = std::mem::replace(&mut entry.counted, routable);
        self.routable = self.routable + usize::from(entry.counted) - usize::from(counted);
        if counted != routable && entry.direct().is_some() {
            self.changed.insert(node);
            self.news.notify_one();
        }
        hold
    }

    /// A node said how it is. After its goodbye nothing counts.
    pub(crate) fn state(&mut self, node: NodeId, link: u64, vetted: Vetted, now: Now, silence_max_ms: u64) {
        if self.is_linked(node) && self.of_link(node, link).is_some() {
            self.said(node, vetted, now.steady_ms.saturating_add(silence_max_ms), now);
        }
    }

    /// A node said that it is as it was. After its goodbye nothing counts. The models for which it may have a place that
    /// it did not seem to have.
    pub(crate) fn unchanged(&mut self, node: NodeId, link: u64, now: Now, silence_max_ms: u64) -> Vec<ModelDigest> {
        if !self.is_linked(node) {
            return Vec::new();
        }
        let Some(entry) = self.of_link(node, link) else { return Vec::new() };
        let is_free = entry.arrivals.is_empty();
        if is_free && entry.active_tasks == 0 {
            entry.idle_steady_ms.get_or_insert(now.steady_ms);
        }
        let was_there = self.fleet.heard(node, now.steady_ms.saturating_add(silence_max_ms), now);
        if was_there && is_free {
            return Vec::new();
        }
        let models: Vec<ModelDigest> =
            self.fleet.get(node).into_iter().flat_map(|live| &live.workers).map(|worker| worker.model).collect();
        let Some(entry) = self.nodes.get_mut(&node) else { return models };
        for arriving in models.iter().flat_map(|model| entry.arrivals.shown(*model, 0, now.steady_ms)) {
            self.shares.settled(arriving.client, false, now.steady_ms);
        }
        self.set_reserved(node, now);
        models
    }

    /// A node, or who speaks for it, said how it is.
    fn said(&mut self, node: NodeId, vetted: Vetted, silent_from_steady_ms: u64, now: Now) {
        let Some(before) = self.fleet.get(node) else { return };
        let tasks_before: Vec<_> = before.workers.iter().map(|worker| (worker.model, worker.active_tasks)).collect();
        let Some(entry) = self.nodes.get_mut(&node) else { return };
        let offers: Vec<Offer> = vetted.workers.iter().map(Offer::of).collect();
        entry.set_profile(vetted.label, vetted.addresses, offers);
        entry.active_tasks = vetted.active_tasks;
        let mut workers = Vec::with_capacity(vetted.workers.len());
        let mut seen = Vec::new();
        for Worker { mut live, bytes, .. } in vetted.workers {
            live.active_tasks = entry.others_tasks(live.model, live.active_tasks);
            live.rates = entry.rates(live.model, bytes);
            let before = tasks_before.iter().find(|(model, _)| *model == live.model).map_or(0, |(_, tasks)| *tasks);
            let more = live.active_tasks.saturating_sub(before);
            seen.extend(entry.arrivals.shown(live.model, more, now.steady_ms));
            let (reserved, youngest) = entry.arrivals.of(live.model);
            (live.reserved, live.reserved_until_steady_ms) = (reserved, youngest.saturating_add(RESERVED_MS));
            workers.push(live);
        }
        let idle = entry.active_tasks == 0 && entry.arrivals.is_empty();
        entry.idle_steady_ms = if idle { entry.idle_steady_ms.or(Some(now.steady_ms)) } else { None };
        for arriving in seen {
            self.shares.settled(arriving.client, false, now.steady_ms);
        }
        self.change(node, now, |live| {
            live.hold = vetted.hold;
            live.workers = workers;
            live.silent_from_steady_ms = silent_from_steady_ms;
        });
    }

    /// The pool's policy may say something else of a node than before. The models that it lets work now.
    pub(crate) fn rule(&mut self, node: NodeId, rules: &Rules<'_>, now: Now) -> Vec<ModelDigest> {
        let (Some(entry), Some(live)) = (self.nodes.get(&node), self.fleet.get(node)) else { return Vec::new() };
        let mut changed: Vec<(ModelDigest, Option<Hold>)> = Vec::new();
        for (worker, offer) in live.workers.iter().zip(&entry.offers) {
            let Some(evidence) = &offer.evidence else { continue };
            let hold = rules.hold(worker.model, evidence, now.unix_ms);
            if worker.hold.as_ref().is_none_or(Hold::is_of_policy) && worker.hold != hold {
                changed.push((worker.model, hold));
            }
        }
        if changed.is_empty() {
            return Vec::new();
        }
        self.change(node, now, |live| {
            for (model, hold) in &changed {
                if let Some(worker) = live.worker_mut(*model) {
                    worker.hold = hold.clone();
                }
            }
        });
        changed.into_iter().filter(|(_, hold)| hold.is_none()).map(|(model, _)| model).collect()
    }

    /// How a node stands, load apart: what it should know of itself.
    pub(crate) fn standing(&self, node: NodeId, now: Now) -> Option<Hold> {
        let hold = self.fleet.get(node).and_then(|live| scheduler::standing(live, now));
        hold.filter(|hold| !matches!(hold, Hold::Full { .. } | Hold::Unproven))
    }

    /// A node said no to a task though it seemed to have a place: others first, for a moment.
    pub(crate) fn refused(&mut self, node: NodeId, now: Now) {
        self.change(node, now, |live| {
            live.doubted_until_steady_ms = live.doubted_until_steady_ms.max(now.steady_ms + REFUSED_MS);
        });
    }

    /// A user's task on a node ended. Returns whether that ejected it.
    pub(crate) fn ended(&mut self, node: NodeId, model: ModelDigest, how: Ended, now: Now) -> bool {
        self.record(node, model, now, |record| record.ended(how, now.steady_ms))
    }

    /// An outcome is about a task that its node's record did not count as begun: now it does, for what follows.
    pub(crate) fn begun(&mut self, node: NodeId, model: ModelDigest, now: Now) {
        self.record(node, model, now, |record| record.started(now.steady_ms));
    }

    /// A user's task on a node failed, by words that eject nobody.
    pub(crate) fn alleged(&mut self, node: NodeId, model: ModelDigest, now: Now) {
        self.record(node, model, now, |record| record.alleged(now.steady_ms));
    }

    /// Whether a node has said itself that it goes, just now or for as long as it stands so: its owner came, or stops it.
    pub(crate) fn said_departure(&self, node: NodeId, now: Now) -> bool {
        let (Some(entry), Some(live)) = (self.nodes.get(&node), self.fleet.get(node)) else { return false };
        let stands_so = scheduler::standing(live, now).as_ref().is_some_and(entry::is_own_departure);
        let just_now = entry.own_departure_steady_ms.is_some_and(|at| now.steady_ms.saturating_sub(at) < DEPARTURE_MS);
        stands_so || just_now
    }

    /// Whether a task that was lost just now was lost because the machine went, as machines do: its link broke, it fell
    /// silent, its owner came. Of a node that has not proven itself it may be the nature: if its pool vouches for it, the
    /// first task of each departure counts, otherwise each. So does the first of a proven one that goes too often.
    pub(crate) fn is_excused(&mut self, node: NodeId, model: ModelDigest, now: Now) -> bool {
        let Some(entry) = self.nodes.get_mut(&node) else { return false };
        let departed = entry.departed_steady_ms.filter(|at| now.steady_ms.saturating_sub(*at) < DEPARTURE_MS);
        let (Some(departed), Some(live)) = (departed, self.fleet.get(node)) else { return false };
        let proven = live.record(model).is_proven();
        let counted = entry.departure_counted_steady_ms.replace(departed) == Some(departed);
        (proven && entry.departs_seldom(departed, now))
            || (counted && (proven || live.attestation >= Attestation::Vouched))
    }

    /// A task of our own that began at `begun_steady_ms` broke off. Returns whether that ejected the node.
    pub(crate) fn trial_broke(&mut self, node: NodeId, model: ModelDigest, begun_steady_ms: u64, now: Now) -> bool {
        self.record(node, model, now, |record| record.trial_broke(begun_steady_ms, now.steady_ms))
    }

    /// What became of users' tasks on a node.
    pub(crate) fn record_of(&self, node: NodeId, model: ModelDigest) -> Record {
        self.fleet.get(node).map_or(Record::NEW, |live| *live.record(model))
    }

    /// Whether a trial of an ejected node would come too early.
    pub(crate) fn is_tried_enough(&self, node: NodeId, model: ModelDigest, now: Now) -> bool {
        self.fleet.is_tried_enough(node, model, now)
    }

    /// A canary, or a trial of our own, came back. Returns whether that ejected the node.
    pub(crate) fn tried(&mut self, node: NodeId, model: ModelDigest, passed: bool, now: Now) -> bool {
        self.record(node, model, now, |record| record.canary(passed, now.steady_ms))
    }

    fn record(&mut self, node: NodeId, model: ModelDigest, now: Now, change: impl FnOnce(&mut Record)) -> bool {
        let mut ejected = false;
        self.change(node, now, |live| {
            let record = live.records.get_mut(model);
            let before = record.is_ejected();
            change(record);
            ejected = record.is_ejected() && !before;
            tracing::trace!(node = %node.short(), ?record, "its record");
        });
        ejected
    }
}

#[cfg(test)]
mod tests;
