//! Who gets a task: the rule under test, and what it may know.

mod darkbloom;
mod rivals;

pub use darkbloom::Darkbloom;
pub use rivals::{Rival, Rule};

use crate::{catalogue::Rates, slab::Key, time::Micros, workload::Wish};
pub use protocol::grant::Purpose;
use protocol::link::End;

/// Number of a node in the simulation.
pub type NodeIndex = usize;

/// What an orchestrator is told of a node when it joins the pool.
#[derive(Debug, Clone)]
pub struct Member {
    /// Its number.
    pub node: NodeIndex,
    /// Answers at once.
    pub slots: u32,
    /// Tasks it takes before it is full.
    pub capacity: u32,
    /// The speed that it claims. Rules that believe claims use it.
    pub claimed: Rates,
    /// The speed that a measurement of its worker finds, with the prompts of the orchestrator's choice.
    pub measured: Rates,
    /// Whether a pool admitted it by ticket, or anybody may join.
    pub vouched: bool,
    /// Earlier sessions: from, until, and whether it went (it may be here still).
    pub history: Vec<(Micros, Micros, bool)>,
    /// Valid answers that it gave before the simulation began.
    pub earned: u32,
    /// Round trip to it, in microseconds, and its jitter; lost packets in a million.
    pub rtt_us: u32,
    /// Jitter of that, in microseconds.
    pub jitter_us: u32,
    /// Lost packets in a million.
    pub loss_ppm: u32,
}

/// What is asked of the orchestrator: metadata only.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// Key of the task.
    pub task: Key,
    /// What the asker wishes; the length of the answer is not for the rule to see.
    pub wish: &'a Wish,
    /// Why a place is asked for.
    pub purpose: Purpose,
    /// Tokens that the asker has already.
    pub received: u32,
    /// Nodes that have failed this task.
    pub excluded: &'a [NodeIndex],
}

/// A node that may serve, and what is expected of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pick {
    /// The node.
    pub node: NodeIndex,
    /// From the request to the first token; none where nothing is known.
    pub first_token: Option<Micros>,
}

/// A node to be tried with a task whose answer is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trial {
    /// Who is tried.
    pub subject: NodeIndex,
    /// Who scores the answer, if that takes somebody.
    pub referee: Option<NodeIndex>,
}

/// An orchestrator's answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// Take one of these, in this order; and try this node beside it.
    Granted(Vec<Pick>, Option<Trial>),
    /// A grant follows, or a refusal.
    Queued,
    /// Not now; ask again after this long.
    Refused(Option<Micros>),
}

/// What becomes of a task that was queued.
#[derive(Debug, Clone, PartialEq)]
pub struct Drained {
    /// The task.
    pub task: Key,
    /// Its grant, or its refusal.
    pub reply: Reply,
}

/// How a task ended on one node.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ended {
    /// The task.
    pub task: Key,
    /// The node.
    pub node: NodeIndex,
    /// How.
    pub end: End,
    /// Tokens of the prompt, resumed ones included.
    pub prompt_tokens: u32,
    /// Tokens that this node generated.
    pub tokens: u32,
    /// From the request to the first token.
    pub first_token: Option<Micros>,
    /// From the first token to the last.
    pub generation: Micros,
    /// For a trial: whether the answer was the model's.
    pub trial: Option<bool>,
}

/// How the clients of a rule behave when a node is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientRules {
    /// The answer goes on from the exact token; otherwise it begins again.
    pub resume: bool,
    /// A second node is started where the first token is late.
    pub hedge: bool,
    /// Nodes that are tried for one task, the first included.
    pub tries_max: u32,
}

/// The trust score of a node, with its parts.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ScoreParts {
    /// Attestation.
    pub attestation: f64,
    /// Hardware.
    pub hardware: f64,
    /// Network.
    pub network: f64,
    /// Uptime.
    pub uptime: f64,
    /// Results.
    pub results: f64,
    /// All together.
    pub total: f64,
}

/// A matching rule with its bookkeeping: an orchestrator as far as matching goes.
///
/// What it learns, it learns when an orchestrator would: a silent departure from a client's report or the missing
/// heartbeat, never from the simulator's own knowledge.
pub trait Policy {
    /// What its clients do.
    fn clients(&self) -> ClientRules;
    /// A machine becomes a member.
    fn join(&mut self, now: Micros, member: &Member);
    /// Its link is up, its worker ready; its session began at `since`.
    fn arrive(&mut self, now: Micros, node: NodeIndex, since: Micros);
    /// It said goodbye, or its silence was noticed.
    fn depart(&mut self, now: Micros, node: NodeIndex, goodbye: bool);
    /// A client reported it, and it is being probed.
    fn doubt(&mut self, now: Micros, node: NodeIndex);
    /// It answered the probe.
    fn answered(&mut self, now: Micros, node: NodeIndex);
    /// It says how many tasks are in it.
    fn load(&mut self, now: Micros, node: NodeIndex, tasks: u32);
    /// Somebody asks.
    fn ask(&mut self, now: Micros, ask: &Ask<'_>) -> Reply;
    /// Those who wait and whose turn it is, now that something changed.
    fn drain(&mut self, now: Micros, drained: &mut Vec<Drained>);
    /// A task ended on a node.
    fn ended(&mut self, now: Micros, ended: &Ended);
    /// Whether a client may start a second node beside a late one.
    fn may_hedge(&mut self, now: Micros) -> bool;
    /// Whether somebody who was turned away may ask again.
    fn may_retry(&mut self, now: Micros) -> bool;
    /// An hour has passed: observations are agreed on.
    fn epoch(&mut self, now: Micros);
    /// The score of a node, where the rule keeps scores.
    fn score(&self, now: Micros, node: NodeIndex) -> Option<ScoreParts>;
}
