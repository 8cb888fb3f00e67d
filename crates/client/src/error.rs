use protocol::{ids::NodeId, task::TaskError};

/// Why a task got no answer, or no whole one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// The pool has no such model.
    #[error("no model `{model}` in this pool; it has: {}", known.join(", "))]
    UnknownModel {
        /// What was asked for.
        model: String,
        /// What there is.
        known: Vec<String>,
    },
    /// No node may or can take the task.
    #[error("no node can take this task: {}", reasons.join("; "))]
    NoNode {
        /// Why not, node by node.
        reasons: Vec<String>,
        /// When to try again, where that is known, in milliseconds.
        retry_after_ms: Option<u64>,
    },
    /// Every node has enough to do.
    #[error("every node of the pool is full")]
    Overloaded {
        /// When to try again, in milliseconds.
        retry_after_ms: u64,
    },
    /// The task is outside its bounds; nothing was sent.
    #[error(transparent)]
    Invalid(TaskError),
    /// The pool does not admit this client.
    #[error("{0}")]
    Denied(protocol::link::Denied),
    /// An orchestrator does not answer this, or not now.
    #[error("{0}")]
    Unanswered(protocol::link::Unanswered),
    /// No orchestrator answers.
    #[error("the pool is out of reach: {reason}")]
    Unreachable {
        /// What was tried.
        reason: String,
    },
    /// An orchestrator granted, or showed, what does not hold. Nothing was sent to any node.
    #[error("orchestrator {} is not believed: {reason}", orchestrator.short())]
    NotBelieved {
        /// Which.
        orchestrator: NodeId,
        /// What does not hold.
        reason: String,
    },
    /// The stream died or carried something that the worker did not seal.
    #[error("the answer broke off: {reason}")]
    Broken {
        /// What happened.
        reason: String,
    },
    /// A matter of the ledger that is not so.
    #[error("{reason}")]
    Ledger {
        /// Why not.
        reason: String,
    },
    /// The worker could not answer.
    #[error(transparent)]
    Task(TaskError),
}
