//! Matching: what a client asks of an orchestrator (metadata only), and what it is granted.

use crate::{
    hold::Hold,
    ids::{ModelDigest, NodeId, PoolId, TaskId},
    market::Price,
    sealing::SealingKey,
    signed::{Signable, Signed},
    witness::{Shown, Witness},
};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// How far a task may travel. Ordered: each includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Locality {
    /// This machine.
    Device,
    /// A machine of the pool.
    Pool,
    /// Any machine.
    Network,
}

/// How much is known about a worker. Ordered: more is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Tier {
    /// The node's own word, signed with its machine key: its root user could read the worker's memory.
    SelfSigned,
}

/// What a client demands of whoever serves it. The client checks it itself on the evidence (promise P2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// How far the task may travel.
    pub locality: Locality,
    /// The least tier of a worker.
    pub tier_min: Tier,
}

impl Default for Policy {
    fn default() -> Self {
        Self { locality: Locality::Pool, tier_min: Tier::SelfSigned }
    }
}

/// What goes first where places are few. Ordered: later goes first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Priority {
    /// Nobody waits for it.
    Batch,
    /// Somebody waits for it.
    #[default]
    Interactive,
}

/// Why a place is asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// The task begins.
    #[default]
    First,
    /// The nodes that were granted before did not take it.
    Retry,
    /// A node was lost in the middle: work that is done would be lost with it, so it goes before what begins.
    Resume,
    /// A second node beside one that is late.
    Hedge,
}

/// Which model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ModelRef {
    /// A name or alias of the pool's catalogue; `default` is the pool's default chat model.
    Name(String),
    /// Exactly this file.
    Digest(ModelDigest),
}

/// "Who can take this?" Nothing of the content is in it; sizes are in powers of two.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MatchRequest {
    /// The task.
    pub task: TaskId,
    /// The model.
    pub model: ModelRef,
    /// Bucket of the prompt's length, in bytes.
    pub prompt_bucket_bytes: u32,
    /// Bucket of the longest answer, in tokens; 0 where the asker set no bound.
    pub answer_bucket_tokens: u32,
    /// What the client will insist on.
    pub policy: Policy,
    /// Nodes that have failed this task already.
    pub exclude: Vec<NodeId>,
    /// What goes first.
    pub priority: Priority,
    /// Why it is asked.
    pub purpose: Purpose,
    /// How long the asker waits for a place, in milliseconds. Where that is too short, it is told at once.
    pub wait_ms_max: u32,
    /// The most that its node may ask; `None`: whatever it asks.
    pub price_max: Option<Price>,
}

impl MatchRequest {
    /// A task of a user's that begins, on any node of the pool that has a place now.
    pub fn new(task: TaskId, model: ModelRef, prompt_bucket_bytes: u32, answer_bucket_tokens: u32) -> Self {
        Self {
            task,
            model,
            prompt_bucket_bytes,
            answer_bucket_tokens,
            policy: Policy::default(),
            exclude: Vec::new(),
            priority: Priority::default(),
            purpose: Purpose::default(),
            wait_ms_max: 0,
            price_max: None,
        }
    }
}

/// An orchestrator's answer to a [`MatchRequest`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum MatchReply {
    /// Take one of these, in this order.
    Granted(Grant),
    /// Nobody, and why.
    Refused(Refusal),
}

/// Who may serve a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Grant {
    /// The model that the name meant.
    pub model: ModelDigest,
    /// Its canonical name.
    pub model_name: String,
    /// What the pool has agreed on, for what is shown of the candidates.
    pub witness: Box<Witness>,
    /// Best first, between 1 and [`crate::limits::CANDIDATES_MAX`].
    pub candidates: Vec<Candidate>,
    /// Now and then: whose answer is to be checked by others.
    pub audit: Option<Audit>,
}

/// Whose answer is to be checked by others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Audit {
    /// What the first candidate writes of the answer to this very task. Who reads it is asked for when it is there
    /// ([`crate::link::Question::Audit`]): nobody's place is held for the length of an answer.
    Answer,
    /// That of a node which gets no users' tasks: a canary, beside the task.
    Canary(Box<Canary>),
}

/// A node to be tried, and who says whether its answer is the model's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Canary {
    /// Who is tried, and under which task.
    pub subject: Errand,
    /// Who scores its answer, at most [`crate::limits::REFEREES_MAX`]: the second where the first disagrees.
    pub referees: Vec<Errand>,
}

/// Who reads an answer that was drawn for an audit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// Under which task the audit is spoken of: its outcome names the subject, and carries the verdict.
    pub task: TaskId,
    /// Whose answer was drawn.
    pub subject: NodeId,
    /// What the pool has agreed on, for what is shown of the referees.
    pub witness: Witness,
    /// Who scores it, at most [`crate::limits::REFEREES_MAX`]: the second where the first disagrees.
    pub referees: Vec<Errand>,
}

/// One more task, for one node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Errand {
    /// The task that the candidate's permit is for.
    pub task: TaskId,
    /// Who is to run it.
    pub candidate: Candidate,
}

/// One node that may serve the task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// The node.
    pub node: NodeId,
    /// Where it listens.
    pub addresses: Vec<SocketAddr>,
    /// What it says of its worker, signed by it.
    pub evidence: Signed<WorkerEvidence>,
    /// The orchestrator's permission, to be shown to the node.
    pub permit: Signed<Permit>,
    /// What is expected of it for this task: later is late.
    pub expected: Expected,
    /// What the pool has agreed on about it. An orchestrator that is its own client needs none.
    pub shown: Option<Shown>,
}

/// How fast a node is expected to be, from what was measured of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expected {
    /// From the request to the first token, in milliseconds; 0: unknown.
    pub first_token_ms: u32,
    /// From one token to the next, in microseconds; 0: unknown.
    pub token_us: u32,
}

/// Permission for one client to run one task on one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Permit {
    /// In which pool.
    pub pool: PoolId,
    /// Which task.
    pub task: TaskId,
    /// Who asks: the id of its connection.
    pub client: NodeId,
    /// Who serves.
    pub node: NodeId,
    /// With which model.
    pub model: ModelDigest,
    /// Until when, in milliseconds since 1970.
    pub expires_unix_ms: u64,
    /// What the node is paid, as the pool has agreed on its ask; `None`: nothing. Machines of one account pay each other
    /// nothing, nor does anybody pay for trials.
    pub price: Option<Price>,
}

impl Signable for Permit {
    const CONTEXT: &'static str = "darkbloom/permit/1";
}

/// What a node says of one of its workers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerEvidence {
    /// The node it runs on.
    pub node: NodeId,
    /// The model it has loaded.
    pub model: ModelDigest,
    /// BLAKE3 of the worker's program file.
    pub measurement: [u8; 32],
    /// Public keys that it made in its sandbox, one for each suite.
    pub keys: Vec<SealingKey>,
    /// What backs this evidence.
    pub tier: Tier,
    /// Since when, in milliseconds since 1970.
    pub issued_unix_ms: u64,
    /// Until when, in milliseconds since 1970.
    pub expires_unix_ms: u64,
}

impl Signable for WorkerEvidence {
    const CONTEXT: &'static str = "darkbloom/worker-evidence/1";
}

/// Why nobody can take a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// What kind of no.
    pub kind: RefusalKind,
    /// For each node that came into question, why not.
    pub reasons: Vec<(NodeId, Hold)>,
    /// When asking again makes sense, where that is known, in milliseconds.
    pub retry_after_ms: Option<u32>,
}

/// The kinds of no.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RefusalKind {
    /// The pool has no model of this name.
    UnknownModel {
        /// The names it has.
        known: Vec<String>,
    },
    /// No node can take it now.
    NoNode,
    /// Every node that could take it is full.
    Overloaded,
    /// The orchestrator cannot show yet what the pool has agreed on.
    NotReady,
}
