//! The live state, indexed: a decision looks at a few nodes, however many there are.
//!
//! For each model the nodes that would get a task are kept in order of their cost, once for each of a few classes of
//! sizes that are asked for, in steps of about 4 %; those that would not, in order of how near their reason is. A change
//! of one node moves that node. A class that nobody asks for is forgotten by and by, and ordered anew when somebody does:
//! only then every node is looked at, for its place and not for its state. What changes by time alone (silence,
//! reservations, doubt, evidence) is in a list of deadlines, and is put right when the deadline has passed and somebody
//! asks. Gates are checked once more on each node that is looked at, so that the index decides where to look, never who is
//! eligible.

mod index;
mod ordered;
mod place;

use crate::{
    Ended, LiveNode, Now, Ranking, Rule, Task,
    cost::Outlook,
    gate::{back_ms, gate},
    rank::{drawn, mix, order, refusal},
};
pub use index::NEED_ONE_IN;
use index::{CostKey, Index, NUMBERS};
use place::{Class, Placed, Weights};
use protocol::{
    grant::{Locality, Refusal, RefusalKind},
    hold::Hold,
    ids::{ModelDigest, NodeId},
    limits,
};
use registry::Registry;
use std::collections::HashMap;

/// Nodes whose exact cost is computed for one decision: the best of the task's class.
const LOOKED_AT: usize = 24;
/// Nodes whose gates are looked at for one decision: more than that ask too much, or are passed over.
const SCANNED_MAX: usize = 4_096;
/// Tries to draw a node by its number alone.
const SAMPLE_DRAWS: u64 = 32;
/// Held nodes of one kind that are looked at for a refusal.
const REASONS_LOOKED_AT: usize = 2 * limits::REASONS_MAX;

/// What is known of every node at this moment, ready for decisions.
#[derive(Debug, Default)]
pub struct Fleet {
    weights: Weights,
    entries: Vec<Option<Entry>>,
    // Places in `entries` that are empty.
    free: Vec<u32>,
    by_id: HashMap<NodeId, u32>,
    index: Index,
    // Places that a node had, to be overwritten with those of the next that moves.
    spare: Placed,
}

#[derive(Debug)]
struct Entry {
    live: LiveNode,
    placed: Placed,
}

impl Fleet {
    /// An empty fleet that is ranked by this rule.
    pub fn new(rule: Rule) -> Self {
        Self { weights: Weights::new(rule), ..Self::default() }
    }

    /// Nodes in it.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// What is known of a node.
    pub fn get(&self, node: NodeId) -> Option<&LiveNode> {
        let at = *self.by_id.get(&node)?;
        self.entries[at as usize].as_ref().map(|entry| &entry.live)
    }

    /// Every node, in an order that depends on nothing but what was done to the fleet.
    pub fn iter(&self) -> impl Iterator<Item = &LiveNode> {
        self.entries.iter().flatten().map(|entry| &entry.live)
    }

    /// Nodes that had a place for this model when they were last looked at.
    pub fn ready(&self, model: ModelDigest) -> usize {
        self.index.routable(model, Class::FIRST).map_or(0, index::ByCost::len)
    }

    /// Adds a node, or replaces what is known of it; returns what was.
    pub fn insert(&mut self, live: LiveNode, now: Now) -> Option<LiveNode> {
        let node = live.node;
        if let Some(&at) = self.by_id.get(&node) {
            let entry = self.entries[at as usize].as_mut().expect("what has a number has an entry");
            let old = std::mem::replace(&mut entry.live, live);
            self.replace(at, now);
            return Some(old);
        }
        let entry = Some(Entry { live, placed: Placed::default() });
        let at = match self.free.pop() {
            Some(at) => {
                self.entries[at as usize] = entry;
                at
            }
            None => {
                assert!(self.entries.len() < NUMBERS, "a pool has fewer members, and lets nobody else in");
                self.entries.push(entry);
                u32::try_from(self.entries.len() - 1).expect("there are fewer numbers")
            }
        };
        self.by_id.insert(node, at);
        self.replace(at, now);
        None
    }

    /// Changes what is known of a node. `None`: there is no such node. The node's id stays what it is.
    pub fn update<R>(&mut self, node: NodeId, now: Now, change: impl FnOnce(&mut LiveNode) -> R) -> Option<R> {
        let at = *self.by_id.get(&node)?;
        let entry = self.entries[at as usize].as_mut()?;
        let result = change(&mut entry.live);
        entry.live.node = node;
        self.replace(at, now);
        Some(result)
    }

    /// A node was heard of, and nothing changed but until when it is believed to be there. Returns whether it was there
    /// all the time. Its place stays, so this costs a fraction of [`Self::update`].
    pub fn heard(&mut self, node: NodeId, silent_from_steady_ms: u64, now: Now) -> bool {
        let Some(&at) = self.by_id.get(&node) else { return false };
        let entry = self.entries[at as usize].as_mut().expect("what has a number has an entry");
        let was_there = entry.live.is_responsive(now);
        entry.live.silent_from_steady_ms = silent_from_steady_ms;
        let before = entry.placed.deadline_steady_ms;
        if was_there && before.is_some_and(|deadline| now.steady_ms < deadline) {
            let deadline = place::deadline(&entry.live, now);
            entry.placed.deadline_steady_ms = deadline;
            self.index.move_deadline(at, before, deadline);
        } else {
            self.replace(at, now);
        }
        was_there
    }

    /// Forgets a node.
    pub fn remove(&mut self, node: NodeId) -> Option<LiveNode> {
        let at = self.by_id.remove(&node)?;
        let entry = self.entries[at as usize].take()?;
        self.index.remove(at, node, &entry.placed);
        self.free.push(at);
        Some(entry.live)
    }

    /// Counts a task that is granted to a node as load of it, and as a task that it may fail.
    pub fn reserve(&mut self, node: NodeId, model: ModelDigest, now: Now) {
        self.update(node, now, |live| {
            if let Some(worker) = live.worker_mut(model) {
                worker.reserve(now);
                live.records.get_mut(model).started(now.steady_ms);
            }
        });
    }

    /// Notes how a task on a node ended.
    pub fn ended(&mut self, node: NodeId, model: ModelDigest, how: Ended, now: Now) {
        self.update(node, now, |live| live.records.get_mut(model).ended(how, now.steady_ms));
    }

    /// Notes that a canary is on its way to a node.
    pub fn canary_sent(&mut self, node: NodeId, model: ModelDigest, now: Now) {
        self.update(node, now, |live| live.records.get_mut(model).canary_sent(now.steady_ms));
    }

    /// Notes how a canary went.
    pub fn canary(&mut self, node: NodeId, model: ModelDigest, passed: bool, now: Now) {
        self.update(node, now, |live| live.records.get_mut(model).canary(passed, now.steady_ms));
    }

    /// Nodes that are due for a canary because it is their only way to work, longest due first, at most `most`.
    ///
    /// Where more than one of [`NEED_ONE_IN`] of the nodes that are there with a model are ejected, these follow, each as
    /// soon as [`crate::record::NEEDED_AGAIN_MS`] have passed since it was tried.
    pub fn canaries_due(&self, now: Now, most: usize) -> Vec<(NodeId, ModelDigest)> {
        let mut due: Vec<(u32, ModelDigest)> = self.index.canaries_due(now.steady_ms).take(most).collect();
        for needed in self.index.needed_due(now.steady_ms) {
            if due.len() >= most {
                break;
            }
            if !due.contains(&needed) {
                due.push(needed);
            }
        }
        let named = due.into_iter().map(|(at, model)| {
            let entry = self.entries[at as usize].as_ref().expect("what is indexed is there");
            (entry.live.node, model)
        });
        named.collect()
    }

    /// Whether a canary that this ejected node passed now would come too early; never of one that is not ejected.
    pub fn is_tried_enough(&self, node: NodeId, model: ModelDigest, now: Now) -> bool {
        let Some(live) = self.get(node) else { return false };
        let record = live.record(model);
        let needed = record.needed_canary_due_steady_ms().filter(|_| self.index.is_in_need(model));
        let due = needed.or_else(|| record.canary_due_steady_ms(live.attestation));
        record.is_ejected() && due.is_some_and(|due| now.steady_ms < due)
    }

    /// A node with a place for this model, at random: for an audit of one that gets work. Each with the same chance, so that
    /// none is drawn more often for being slower than all others.
    pub fn sample(&mut self, model: ModelDigest, now: Now, entropy: u64) -> Option<NodeId> {
        self.tick(now);
        let set = self.index.routable(model, Class::FIRST)?;
        let entries = self.entries.len() as u64;
        for draw in 0..SAMPLE_DRAWS {
            let drawn = mix(entropy.wrapping_add(draw)) % entries;
            if let Some(entry) = self.entries[drawn as usize].as_ref().filter(|entry| entry.placed.is_routable(model)) {
                return Some(entry.live.node);
            }
        }
        // Few of all nodes have one: count.
        let number = (mix(entropy) % set.len().max(1) as u64) as usize;
        let key = set.iter().nth(number)?;
        self.entries[key.at()].as_ref().map(|entry| entry.live.node)
    }

    /// The nodes with a place for this model that are the first in the order of costs.
    pub fn cheapest(&self, model: ModelDigest, most: usize) -> impl Iterator<Item = NodeId> {
        let keys = self.index.routable(model, Class::FIRST).into_iter().flat_map(index::ByCost::iter);
        keys.take(most).filter_map(|key| self.entries[key.at()].as_ref().map(|entry| entry.live.node))
    }

    /// Puts right what has changed by time alone since the last call. Every decision does it first.
    pub fn tick(&mut self, now: Now) {
        while let Some(at) = self.index.deadline_passed(now.steady_ms) {
            self.replace(at, now);
        }
    }

    /// Ranks the nodes that can take `task`, or says of the nearest why not.
    ///
    /// `entropy` is fresh for each call and decides between equals. The fleet is changed in its index only.
    pub fn rank<'a>(
        &mut self,
        registry: &'a Registry,
        task: &Task<'_>,
        now: Now,
        entropy: u64,
    ) -> Result<Ranking<'a>, Refusal> {
        let Some(model) = registry.model(&task.request.model) else {
            let known = registry.models().iter().map(|entry| entry.name.clone()).collect();
            return Err(Refusal {
                kind: RefusalKind::UnknownModel { known },
                reasons: Vec::new(),
                retry_after_ms: None,
            });
        };
        self.tick(now);
        self.keep(model.digest, Class::of(task));
        let found = self.find(model.digest, task, now, entropy);
        let candidates = order(found, &self.weights.rule, task, now, entropy);
        if candidates.is_empty() {
            return Err(self.refuse(model.digest, task, now));
        }
        Ok(Ranking { model, candidates })
    }

    /// Ranks, and reserves the first.
    pub fn grant<'a>(
        &mut self,
        registry: &'a Registry,
        task: &Task<'_>,
        now: Now,
        entropy: u64,
    ) -> Result<Ranking<'a>, Refusal> {
        let ranking = self.rank(registry, task, now, entropy)?;
        self.reserve(ranking.candidates[0].node, ranking.model.digest, now);
        Ok(ranking)
    }

    /// Has the nodes in the order of a class.
    fn keep(&mut self, model: ModelDigest, class: Class) {
        let places = self.entries.iter().zip(0..).filter_map(|(entry, at)| Some((&entry.as_ref()?.placed, at)));
        self.index.keep(model, class, || places.filter_map(|(placed, at)| placed.key(model, class, at)));
    }

    /// The few nodes to be looked at, with what they promise: all pass the gates.
    fn find<'f>(
        &'f self,
        model: ModelDigest,
        task: &Task<'_>,
        now: Now,
        entropy: u64,
    ) -> Vec<(&'f LiveNode, &'f Outlook)> {
        let mut found = Vec::with_capacity(LOOKED_AT);
        let passing = |entry: &'f Entry| match gate(&entry.live, model, task, now) {
            None => Some((&entry.live, entry.placed.outlook(model)?)),
            Some(_) => None,
        };
        if task.request.policy.locality == Locality::Device {
            let own = self.by_id.get(&task.client).and_then(|at| self.entries[*at as usize].as_ref());
            return own.and_then(passing).into_iter().collect();
        }
        let Some(set) = self.index.routable(model, Class::of(task)) else { return Vec::new() };
        let Some(cheapest) = set.first().map(CostKey::step) else { return Vec::new() };
        // Among equals from a random place on, around, and then the next best: a crowd of equals is looked at evenly.
        let middle = CostKey::new(cheapest, drawn(entropy, task.client) as u32, 0);
        let is_equal = move |key: &CostKey| key.step() == cheapest;
        let keys = set.from(middle).take_while(is_equal);
        let keys = keys.chain(set.iter().take_while(move |key| *key < middle)).chain(set.iter().skip_while(is_equal));
        // Nodes are passed over for being excluded, of which there are few, or for what time has changed, which is put
        // right by `tick`; or for their price, which is why the number is bounded.
        for key in keys.take(SCANNED_MAX) {
            if found.len() >= LOOKED_AT {
                break;
            }
            let entry = self.entries[key.at()].as_ref().expect("what is indexed is there");
            found.extend(passing(entry));
        }
        found
    }

    /// Why nobody takes the task: the nearest reasons, each from the gate itself.
    fn refuse(&self, model: ModelDigest, task: &Task<'_>, now: Now) -> Refusal {
        let mut reasons: Vec<(NodeId, Hold)> = Vec::new();
        let (mut back, is_needed) = (None, self.index.is_in_need(model));
        let mut note = |live: &LiveNode| {
            if let Some(hold) = gate(live, model, task, now) {
                back = back.into_iter().chain(back_ms(live, model, &hold, is_needed, now)).min();
                reasons.push((live.node, hold));
            }
        };
        // Its own node is who a task of this device is about.
        let own = (task.request.policy.locality == Locality::Device).then_some(task.client);
        if let Some(live) = own.and_then(|own| self.get(own)) {
            note(live);
        }
        let routable = self.index.routable(model, Class::of(task)).into_iter().flat_map(index::ByCost::iter);
        for key in routable.take(REASONS_LOOKED_AT) {
            note(&self.entries[key.at()].as_ref().expect("what is indexed is there").live);
        }
        for node in self.index.held(model).take(REASONS_LOOKED_AT) {
            note(self.get(node).expect("what is indexed is there"));
        }
        for nodes in self.index.elsewhere() {
            for (_, node) in nodes.iter().take(REASONS_LOOKED_AT) {
                let live = self.get(*node).expect("what is indexed is there");
                if live.worker(model).is_none() {
                    note(live);
                }
            }
        }
        reasons.sort_unstable_by_key(|(node, _)| *node);
        reasons.dedup_by_key(|(node, _)| *node);
        refusal(reasons, back)
    }

    /// Moves a node to where it belongs now.
    fn replace(&mut self, at: u32, now: Now) {
        let entry = self.entries[at as usize].as_mut().expect("what is indexed is there");
        self.spare.set(&entry.live, &self.weights, now);
        std::mem::swap(&mut entry.placed, &mut self.spare);
        self.index.move_to(at, entry.live.node, &self.spare, &entry.placed);
    }
}
