//! Links to an orchestrator. ALPN [`ALPN`].
//!
//! Each connection starts with a stream on which the member shows its ticket ([`Hello`]) and learns the pool
//! ([`Welcome`]). A node keeps that stream: state up, probes down. A client opens one more stream for each question.

use crate::{
    grant::{MatchReply, MatchRequest, Reading, WorkerEvidence},
    hold::Hold,
    ids::{ModelDigest, NodeId, PoolId, TaskId},
    ipc::ModelFacts,
    market::{Word, WordOutcome},
    pool::{Listing, Page, Redemption},
    signed::Signed,
    statement::{LedgerAnswer, LedgerQuestion},
    ticket::OrchestratorAddress,
    witness::{Agreement, Lineage, Proofs},
};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// Protocol name and version in the TLS handshake.
pub const ALPN: &[u8] = b"darkbloom/link/2";

/// A node says something this often when nothing changes.
pub const HEARTBEAT_MS: u64 = 2_000;
/// Every so many heartbeats it repeats its state, changed or not.
pub const STATE_EVERY_HEARTBEATS: u32 = 15;
/// An idle node is gone after this long without a word.
pub const HEARTBEAT_MS_MAX: u64 = 6_000;
/// A node that a client reports must answer a probe within this time.
pub const PROBE_MS_MAX: u64 = 500;

/// First message of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Which pool.
    pub pool: PoolId,
    /// The admission secret of the ticket; a member that is known already needs none.
    pub secret: Option<[u8; 32]>,
    /// The use of the ticket's invite.
    pub redemption: Option<Signed<Redemption>>,
    /// What it comes as.
    pub role: Role,
    /// A node: since which epoch it knows the committee; 0: from the genesis on.
    pub known_epoch: u64,
}

/// What a member comes as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// Lends its machine.
    Node,
    /// Asks.
    Client,
}

/// Answer to [`Hello`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum HelloReply {
    /// Admitted.
    Welcome(Welcome),
    /// Not admitted.
    Denied(Denied),
}

/// What a member learns on admission.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The pool's orchestrators, and where they listen, as far as that is known. Whose permits hold is not believed of it.
    pub orchestrators: Vec<OrchestratorAddress>,
    /// To a node: who the committee is, so that it can verify it. A client asks ([`Question::Committee`]).
    pub agreement: Option<Box<Agreement>>,
}

/// Why a member was not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum Denied {
    /// The orchestrator serves another pool.
    #[error("this orchestrator serves another pool")]
    OtherPool,
    /// It is noted, and an administrator has to approve it.
    #[error("the pool knows of this machine now, and an administrator has to approve it: try again then")]
    AwaitsApproval,
    /// Unknown machine without a valid secret.
    #[error("the ticket does not admit this machine: ask for a new ticket")]
    NotAdmitted,
    /// Too many connections.
    #[error("the orchestrator is full")]
    Full,
}

/// A model of the pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelEntry {
    /// Canonical name.
    pub name: String,
    /// Other names.
    pub aliases: Vec<String>,
    /// The file.
    pub digest: ModelDigest,
    /// Its length in bytes.
    pub bytes: u64,
    /// Its licence, as an SPDX expression or the name its authors gave it.
    pub licence: String,
    /// Since when the pool has it, in seconds since 1970.
    pub created_unix_s: u64,
}

/// A node's messages, after its welcome.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum FromNode {
    /// The whole state; sent on every change and every [`STATE_EVERY_HEARTBEATS`].
    State(NodeState),
    /// Answer to a probe.
    Alive {
        /// The probe's number.
        probe: u64,
    },
    /// Out of routing, at once.
    Goodbye,
    /// To be agreed on: at most [`crate::limits::WORDS_MAX`].
    Words {
        /// Given back with the answer.
        number: u64,
        /// About money.
        words: Vec<Word>,
    },
    /// The state is what it was; sent every [`HEARTBEAT_MS`]. A state has two kilobytes and takes an orchestrator some 20
    /// times as long.
    Unchanged,
}

/// What a node can do now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeState {
    /// What people call the machine.
    pub label: String,
    /// Where it listens.
    pub addresses: Vec<SocketAddr>,
    /// Its workers that are ready.
    pub workers: Vec<WorkerState>,
    /// Tasks that it runs now.
    pub active_tasks: u32,
    /// Why it takes no work now, if so.
    pub hold: Option<Hold>,
}

/// One ready worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkerState {
    /// The model's entry, so that a pool learns of models that its nodes bring.
    pub model: ModelEntry,
    /// What the model is.
    pub facts: ModelFacts,
    /// Keys and measurement, signed by the node.
    pub evidence: Signed<WorkerEvidence>,
    /// Tasks in it, running or waiting.
    pub active_tasks: u32,
    /// Tasks that it takes before it is full: its slots and a short queue.
    pub capacity: u32,
}

/// An orchestrator's messages to a node, after its welcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToNode {
    /// Answer at once with [`FromNode::Alive`].
    Probe {
        /// To be given back.
        probe: u64,
    },
    /// How the orchestrator sees the node now; sent when that changes, load apart.
    Standing {
        /// Why it matches no task to it, if so.
        hold: Option<Hold>,
    },
    /// Another committee has taken over.
    Agreed(Box<Agreement>),
    /// What became of words, in their order.
    Said {
        /// Of which message.
        number: u64,
        /// One for each.
        outcomes: Vec<WordOutcome>,
    },
}

/// A client's question: one stream each.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Question {
    /// Who can take this?
    Match(MatchRequest),
    /// Which models are there?
    Models,
    /// This node went silent or broke off while it served me.
    Report {
        /// Which.
        node: NodeId,
    },
    /// The pool as the orchestrator sees it.
    Nodes,
    /// How a task that was granted to me has ended.
    Outcome(Outcome),
    /// The answer to a task of mine is there whose grant said [`crate::grant::Audit::Answer`]: who reads it?
    Audit {
        /// The task.
        task: TaskId,
    },
    /// How did the committee come to be, from this epoch on?
    Committee {
        /// The first that is asked about.
        from_epoch: u64,
    },
    /// Agree on this: a bundle of facts that its author has signed (`registry::Bundle`), encoded.
    Submit {
        /// The bundle.
        bundle: Vec<u8>,
    },
    /// What has the pool agreed on under these keys of its state? At most [`crate::limits::PROVEN_MAX`], each at most
    /// [`crate::limits::STATE_KEY_BYTES_MAX`] long.
    Prove {
        /// The keys.
        keys: Vec<Vec<u8>>,
    },
    /// Who is there?
    List {
        /// Of what.
        what: Listing,
        /// Behind which entry; `None`: from the first on.
        after: Option<[u8; 32]>,
    },
    /// Agree on this word about money.
    Word(Box<Word>),
    /// How does the ledger stand?
    Ledger(Box<Signed<LedgerQuestion>>),
}

/// What became of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Submitted {
    /// It is final.
    Final {
        /// How much it changed; 0: all was so already.
        events: u32,
    },
    /// It is not, and why.
    Refused {
        /// At most [`crate::limits::WHY_CHARS_MAX`] characters.
        why: String,
    },
}

/// Why a question is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum Unanswered {
    /// Too many of the kind at a time.
    #[error("too many questions at a time: try again in a moment")]
    Busy,
    /// Whoever asks may read what the pool has agreed on, and nothing else.
    #[error("who only reads a pool neither lends to it nor asks it: a member does")]
    ReadsOnly,
    /// Accounts and what is held for tasks are shown to those whom they concern ([`Question::Ledger`]), and to those who
    /// read the whole ledger.
    #[error("only the pool's auditors, administrators and owners read all accounts")]
    NotYours,
    /// The orchestrator cannot show yet what the pool has agreed on.
    #[error("the orchestrator has only just begun: try again in a moment")]
    NotReady,
}

/// How a task ended on one node, in the words of its asker. Counts and times, nothing of the content. Believed only of
/// the client that the task was granted to, once for each task and node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The task of the permit.
    pub task: TaskId,
    /// The node.
    pub node: NodeId,
    /// How it ended there.
    pub end: End,
    /// Tokens of the prompt, those of a resumed answer included, where the node got so far.
    pub prompt_tokens: u32,
    /// Tokens that this node generated.
    pub completion_tokens: u32,
    /// From the first token to the last, in milliseconds.
    pub generation_ms: u32,
    /// What the audit found, if this was one.
    pub audit: Option<AuditVerdict>,
}

/// How a task ended on one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum End {
    /// With its final frame.
    Completed,
    /// It did not take the task.
    Refused,
    /// It could not be reached, or its stream broke.
    Died,
    /// It was silent, or its worker made no progress.
    Stalled,
    /// What it sent was not what its worker sealed.
    Corrupt,
    /// Its owner took the machine back, or it was shut down: no fault.
    HandedBack,
    /// The asker did not want it any more, or another node was faster: no fault.
    Cancelled,
}

/// What an audit found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditVerdict {
    /// Whether the answer is that of the model.
    pub passed: bool,
    /// How far its log-probabilities are from the referee's, in thousandths.
    pub distance_milli: u32,
}

/// An orchestrator's answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Answer {
    /// To `Match`.
    Match(MatchReply),
    /// To `Models`: each with the number of nodes that can serve it now and the context they give; the first is the
    /// default.
    Models(Vec<ModelOffer>),
    /// To `Report` and `Outcome`: noted.
    Noted,
    /// To `Nodes`.
    Nodes(Vec<NodeRow>),
    /// To `Audit`; `None`: it was not drawn, or asked for before, or nobody has time for it.
    Audit(Option<Box<Reading>>),
    /// To `Committee`.
    Committee(Box<Lineage>),
    /// The question could not be read.
    Malformed,
    /// To `Submit`.
    Submitted(Submitted),
    /// To `Prove`.
    Proven(Box<Proofs>),
    /// To `List`.
    Listed(Page),
    /// To any.
    Unanswered(Unanswered),
    /// To `Word`.
    Word(WordOutcome),
    /// To `Ledger`.
    Ledger(Box<LedgerAnswer>),
}

/// A model and who can serve it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelOffer {
    /// The model.
    pub entry: ModelEntry,
    /// Nodes that can serve it now.
    pub ready_nodes: u32,
    /// The longest context that one of them gives; 0 where none is ready.
    pub context_tokens: u32,
}

/// One node as an orchestrator sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRow {
    /// The node.
    pub node: NodeId,
    /// What people call the machine.
    pub label: String,
    /// Names of the models that it serves.
    pub models: Vec<String>,
    /// Tasks that it runs.
    pub active_tasks: u32,
    /// Tasks that it can run at once.
    pub slots: u32,
    /// Why it gets no work, if so.
    pub hold: Option<Hold>,
    /// Since when it is in this condition, in milliseconds since 1970.
    pub since_unix_ms: u64,
    /// How far it is trusted, and why.
    pub score: ScoreRow,
    /// What was measured of its workers.
    pub rates: Vec<RateRow>,
}

/// A Trusted Compute Score with its parts, in millionths.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScoreRow {
    /// The score.
    pub total_ppm: u32,
    /// What backs its evidence.
    pub attestation_ppm: u32,
    /// How fast it was measured to be, against the pool's median.
    pub hardware_ppm: u32,
    /// How steady its network is.
    pub network_ppm: u32,
    /// How likely it stays.
    pub uptime_ppm: u32,
    /// How surely its results are valid.
    pub results_ppm: u32,
}

/// Measured rates of one worker, in thousandths of a token a second; 0: not measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateRow {
    /// Its model.
    pub model: ModelDigest,
    /// Reading a prompt.
    pub prefill_milli: u32,
    /// Generating 1, 2, 4 and 8 answers at a time, all together.
    pub decode_milli: [u32; 4],
}
