//! Matching: what a client asks of an orchestrator (metadata only), and what it is granted.

use crate::{
    ids::{ModelDigest, NodeId, PoolId, TaskId},
    sealing::SealingKey,
    signed::{Signable, Signed},
};
use serde::{Deserialize, Serialize};
use std::{fmt, net::SocketAddr};

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
    /// Best first, between 1 and [`crate::limits::CANDIDATES_MAX`].
    pub candidates: Vec<Candidate>,
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
}

/// Why a node gets no work (promise P10): one code, one sentence, one remedy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Hold {
    /// Its worker is starting or loading the model.
    Starting,
    /// It serves other models.
    OtherModel,
    /// All its places are taken.
    Full {
        /// How many it has.
        slots: u32,
    },
    /// It said goodbye.
    Left,
    /// It finishes what it has and takes no more.
    Draining,
    /// It did not answer when it should have.
    Unresponsive,
    /// Its worker died and is restarted.
    WorkerDown {
        /// What the node says about it.
        why: String,
    },
    /// Its evidence has run out.
    EvidenceExpired,
    /// Less than the tier that was asked for.
    BelowTier,
    /// Outside the locality that was asked for.
    OutsideLocality,
    /// It has failed this task already.
    Excluded,
    /// What it says of itself does not hold.
    Refused {
        /// What does not hold.
        why: String,
    },
}

impl Hold {
    /// For programs: stable, in kebab case.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::OtherModel => "other-model",
            Self::Full { .. } => "full",
            Self::Left => "left",
            Self::Draining => "draining",
            Self::Unresponsive => "unresponsive",
            Self::WorkerDown { .. } => "worker-down",
            Self::EvidenceExpired => "evidence-expired",
            Self::BelowTier => "below-tier",
            Self::OutsideLocality => "outside-locality",
            Self::Excluded => "excluded",
            Self::Refused { .. } => "refused",
        }
    }

    /// What its owner can do about it, where something can be done.
    pub fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::Left | Self::Unresponsive => Some("start it again with `darkbloom join` on that machine"),
            Self::WorkerDown { .. } | Self::Refused { .. } => Some("run `darkbloom doctor` on that machine"),
            Self::EvidenceExpired => Some("check the clock of that machine"),
            Self::Full { .. } => Some("lend another machine with `darkbloom join`"),
            _ => None,
        }
    }
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting => f.write_str("its worker is loading the model"),
            Self::OtherModel => f.write_str("it does not serve this model"),
            Self::Full { slots } => write!(f, "all {slots} places are taken"),
            Self::Left => f.write_str("it said goodbye"),
            Self::Draining => f.write_str("it is draining"),
            Self::Unresponsive => f.write_str("it stopped answering"),
            Self::WorkerDown { why } => write!(f, "its worker is down: {why}"),
            Self::EvidenceExpired => f.write_str("its evidence has expired"),
            Self::BelowTier => f.write_str("its trust tier is below the policy's"),
            Self::OutsideLocality => f.write_str("it is outside the policy's locality"),
            Self::Excluded => f.write_str("it has failed this task already"),
            Self::Refused { why } => write!(f, "what it says of itself does not hold: {why}"),
        }
    }
}
