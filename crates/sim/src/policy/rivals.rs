//! The rules to beat: random, round-robin, least-loaded, and the published cost formula of d-inference.
//!
//! The first three have the clients of this project: the same failover, the same liveness, so that only the matching
//! differs. They send a task to a machine with a free slot while there is one, and let it wait in one line otherwise.
//! d-inference is simulated as published (three attempts, no hedge, no resume: the answer begins again) and, for honesty,
//! with our failover.

use super::{Ask, ClientRules, Drained, Ended, Member, NodeIndex, Pick, Policy, Reply, ScoreParts};
use crate::{
    random::{Concern, Random},
    slab::Key,
    time::{Micros, SECOND},
    workload::Wish,
};
use std::collections::{BTreeMap, VecDeque};

/// Which rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Anybody with a free slot.
    Random,
    /// One after another.
    RoundRobin,
    /// Who has the fewest tasks.
    LeastLoaded,
    /// The cost formula of d-inference.
    DInference,
}

/// Those who wait; later ones are refused.
const LINE_MAX: usize = 2_000;
/// How long somebody waits before being refused.
const PATIENCE: Micros = 30 * SECOND;
/// d-inference takes costs within this many milliseconds for equal.
const D_INFERENCE_TIE_MS: f64 = 3_000.0;

#[derive(Debug, Clone)]
struct Known {
    slots: u32,
    capacity: u32,
    decode: f64,
    prefill: f64,
    up: bool,
    doubted: bool,
    /// Granted, and not yet ended: the task and the tokens it may write.
    granted: BTreeMap<Key, u32>,
    /// What d-inference expects of it: for each task it looks at every node, whose tasks seldom change.
    outlook: Outlook,
}

/// The part of d-inference's cost that is the same for every task.
#[derive(Debug, Clone, Copy, Default)]
struct Outlook {
    /// Milliseconds for what is pending.
    pending_ms: f64,
    /// Tokens in a second.
    rate: f64,
}

impl Known {
    fn is_open(&self, rule: Rule) -> bool {
        let places = if rule == Rule::DInference { self.capacity } else { self.slots };
        self.up && !self.doubted && (self.granted.len() as u32) < places
    }

    /// Changes what is granted.
    fn change(&mut self, change: impl FnOnce(&mut BTreeMap<Key, u32>)) {
        change(&mut self.granted);
        self.outlook = Outlook::of(self);
    }

    /// d-inference's published cost, in milliseconds.
    fn cost_ms(&self, wish: &Wish) -> f64 {
        let (prompt, answer) = (f64::from(wish.prompt), f64::from(wish.answer_max));
        self.outlook.pending_ms + (prompt / self.prefill + answer / self.outlook.rate) * 1000.0
    }
}

impl Outlook {
    /// Every node runs, is known, and is healthy; with one model its pending tasks are those of the model.
    fn of(known: &Known) -> Self {
        let pending = known.granted.len() as f64;
        let running = pending.min(f64::from(known.slots));
        let backlog: f64 = known.granted.values().map(|tokens| f64::from(*tokens)).sum();
        let rate = known.decode / (1.0 + 0.27 * running);
        Self { pending_ms: 3000.0 * pending + 750.0 * pending + backlog / rate * 1000.0, rate }
    }
}

#[derive(Debug, Clone)]
struct Waiting {
    task: Key,
    wish: Wish,
    excluded: Vec<NodeIndex>,
    until: Micros,
}

/// One of the rivals.
#[derive(Debug, Clone)]
pub struct Rival {
    rule: Rule,
    clients: ClientRules,
    nodes: Vec<Option<Known>>,
    line: VecDeque<Waiting>,
    random: Random,
    turn: usize,
}

impl Rival {
    /// The rule, with its clients.
    pub fn new(rule: Rule, clients: ClientRules, seed: u64) -> Self {
        Self {
            rule,
            clients,
            nodes: Vec::new(),
            line: VecDeque::new(),
            random: Random::new(seed, Concern::Matching, rule as u64),
            turn: 0,
        }
    }

    fn node(&mut self, node: NodeIndex) -> Option<&mut Known> {
        self.nodes.get_mut(node)?.as_mut()
    }

    fn choose(&mut self, wish: &Wish, excluded: &[NodeIndex]) -> Option<NodeIndex> {
        let known = self.nodes.iter().enumerate().filter_map(|(index, known)| Some((index, known.as_ref()?)));
        let open = known.filter(|(index, known)| known.is_open(self.rule) && !excluded.contains(index));
        let equals: Vec<NodeIndex> = match self.rule {
            Rule::Random => open.map(|(index, _)| index).collect(),
            Rule::RoundRobin => {
                let open: Vec<NodeIndex> = open.map(|(index, _)| index).collect();
                let next = open.iter().find(|index| **index >= self.turn).or(open.first()).copied();
                self.turn = next.map_or(self.turn, |index| index + 1);
                return next;
            }
            Rule::LeastLoaded => least_loaded(open.map(|(index, known)| (index, known.granted.len()))),
            Rule::DInference => {
                // Those that may turn out to be near the best; what is pending is a part of the cost.
                let (mut best, mut near) = (f64::INFINITY, Vec::with_capacity(self.nodes.len()));
                for (index, known) in open {
                    if known.outlook.pending_ms <= best + D_INFERENCE_TIE_MS {
                        let cost = known.cost_ms(wish);
                        best = best.min(cost);
                        near.push((cost, index, known.granted.len()));
                    }
                }
                let near = near.into_iter().filter(|(cost, ..)| *cost <= best + D_INFERENCE_TIE_MS);
                least_loaded(near.map(|(_, index, tasks)| (index, tasks)))
            }
        };
        (!equals.is_empty()).then(|| equals[self.random.below(equals.len())])
    }

    fn grant(&mut self, task: Key, wish: &Wish, excluded: &[NodeIndex]) -> Option<Reply> {
        let node = self.choose(wish, excluded)?;
        let tokens = wish.answer_max;
        self.node(node)?.change(|granted| _ = granted.insert(task, tokens));
        Some(Reply::Granted(vec![Pick { node, first_token: None }], None))
    }
}

/// Of nodes with so many tasks, those that have the fewest.
fn least_loaded(nodes: impl Iterator<Item = (NodeIndex, usize)>) -> Vec<NodeIndex> {
    let (mut least, mut equals) = (usize::MAX, Vec::new());
    for (index, tasks) in nodes {
        if tasks < least {
            least = tasks;
            equals.clear();
        }
        if tasks == least {
            equals.push(index);
        }
    }
    equals
}

impl Policy for Rival {
    fn clients(&self) -> ClientRules {
        self.clients
    }

    fn join(&mut self, _now: Micros, member: &Member) {
        if self.nodes.len() <= member.node {
            self.nodes.resize(member.node + 1, None);
        }
        let decode = member.claimed.decode(1);
        let mut known = Known {
            slots: member.slots,
            capacity: member.capacity,
            decode,
            // The router's own default.
            prefill: 4.0 * decode,
            up: false,
            doubted: false,
            granted: BTreeMap::new(),
            outlook: Outlook::default(),
        };
        known.change(|_| ());
        self.nodes[member.node] = Some(known);
    }

    fn arrive(&mut self, _now: Micros, node: NodeIndex, _since: Micros) {
        if let Some(known) = self.node(node) {
            (known.up, known.doubted) = (true, false);
            known.change(BTreeMap::clear);
        }
    }

    fn depart(&mut self, _now: Micros, node: NodeIndex, _goodbye: bool) {
        if let Some(known) = self.node(node) {
            known.up = false;
        }
    }

    fn doubt(&mut self, _now: Micros, node: NodeIndex) {
        if let Some(known) = self.node(node) {
            known.doubted = true;
        }
    }

    fn answered(&mut self, _now: Micros, node: NodeIndex) {
        if let Some(known) = self.node(node) {
            known.doubted = false;
        }
    }

    fn load(&mut self, _now: Micros, _node: NodeIndex, _tasks: u32) {}

    fn ask(&mut self, now: Micros, ask: &Ask<'_>) -> Reply {
        if let Some(reply) = self.grant(ask.task, ask.wish, ask.excluded) {
            return reply;
        }
        if self.line.len() >= LINE_MAX {
            return Reply::Refused(Some(SECOND));
        }
        let waiting =
            Waiting { task: ask.task, wish: *ask.wish, excluded: ask.excluded.to_vec(), until: now + PATIENCE };
        self.line.push_back(waiting);
        Reply::Queued
    }

    fn drain(&mut self, now: Micros, drained: &mut Vec<Drained>) {
        while let Some(first) = self.line.front() {
            let reply = if first.until <= now {
                Reply::Refused(Some(SECOND))
            } else {
                let (task, wish, excluded) = (first.task, first.wish, first.excluded.clone());
                let Some(reply) = self.grant(task, &wish, &excluded) else { break };
                reply
            };
            let task = self.line.pop_front().expect("it was there").task;
            drained.push(Drained { task, reply });
        }
    }

    fn ended(&mut self, _now: Micros, ended: &Ended) {
        if let Some(known) = self.node(ended.node) {
            known.change(|granted| _ = granted.remove(&ended.task));
        }
    }

    fn may_hedge(&mut self, _now: Micros) -> bool {
        false
    }

    fn may_retry(&mut self, _now: Micros) -> bool {
        true
    }

    fn epoch(&mut self, _now: Micros) {}

    fn score(&self, _now: Micros, _node: NodeIndex) -> Option<ScoreParts> {
        None
    }
}
