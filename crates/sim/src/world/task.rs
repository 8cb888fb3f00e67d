//! What is under way: tasks, and the nodes' tries at them.

use crate::{
    device::{AttemptKey, Work},
    policy::{NodeIndex, Pick},
    slab::Key,
    time::Micros,
    workload::Wish,
};

/// How often somebody who was told to come back later does so.
const PATIENCE: u32 = 2;

/// A user's task, or a trial.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) wish: Wish,
    /// It came within the measuring window.
    pub(super) counts: bool,
    pub(super) first_token: Option<Micros>,
    /// Tokens that the reader has.
    pub(super) received: f64,
    pub(super) live: Vec<AttemptKey>,
    pub(super) candidates: Vec<Pick>,
    pub(super) excluded: Vec<NodeIndex>,
    pub(super) tries: u32,
    pub(super) grants: u32,
    pub(super) asks: u32,
    pub(super) patience: u32,
    pub(super) hedged: bool,
    pub(super) resumed: bool,
    /// Its prompt has been read once for good.
    pub(super) prompt_read: bool,
    pub(super) useful_s: f64,
    pub(super) wasted_s: f64,
    pub(super) noise: bool,
}

/// One node's try at a task.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) task: Key,
    pub(super) node: NodeIndex,
    pub(super) sent: Micros,
    /// Tokens to read and to write.
    pub(super) prompt: f64,
    pub(super) answer: f64,
    pub(super) first_token: Option<Micros>,
    pub(super) on_device: bool,
    pub(super) work: Work,
    pub(super) kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A user's task.
    User,
    /// A node is tried; its answer is scored by this one.
    Trial { referee: Option<NodeIndex> },
    /// A referee's scoring.
    Score,
}

impl Task {
    pub(super) fn new(wish: Wish, counts: bool) -> Self {
        Self {
            wish,
            counts,
            first_token: None,
            received: 0.0,
            live: Vec::new(),
            candidates: Vec::new(),
            excluded: Vec::new(),
            tries: 0,
            grants: 0,
            asks: 0,
            patience: PATIENCE,
            hedged: false,
            resumed: false,
            prompt_read: false,
            useful_s: 0.0,
            wasted_s: 0.0,
            noise: false,
        }
    }
}

impl Attempt {
    pub(super) fn new(task: Key, node: NodeIndex, sent: Micros, prompt: f64, answer: f64, kind: Kind) -> Self {
        Self { task, node, sent, prompt, answer, first_token: None, on_device: false, work: Work::default(), kind }
    }
}
