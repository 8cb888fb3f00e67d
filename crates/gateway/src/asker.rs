//! What the gateway needs from whoever carries tasks to workers: the seam between HTTP and the private path.

use futures_util::{future::BoxFuture, stream::BoxStream};
use protocol::{
    ids::{ModelDigest, NodeId, TaskId},
    task::{Frame, Task, TaskError},
};

/// Carries tasks to workers. The client implements it; tests put a pool in memory behind it.
pub trait Asker: Send + Sync + 'static {
    /// The models that the pool can serve, or could if a node were ready.
    fn models(&self) -> BoxFuture<'_, Result<Vec<ModelEntry>, AskError>>;

    /// Sends a task to a worker that serves `model`; `default` is the pool's default chat model.
    fn ask<'a>(&'a self, model: &'a str, task: Task) -> BoxFuture<'a, Result<Answer, AskError>>;

    /// Whether a link to an orchestrator is up.
    fn is_connected(&self) -> bool;
}

/// An answer that is being generated. Dropping it cancels the task.
pub struct Answer {
    /// The task it answers.
    pub task: TaskId,
    /// The model's own name, whatever alias was asked for.
    pub model: String,
    /// The machine that the worker runs on.
    pub node: NodeId,
    /// The frames in order; ends after the final one or after an error.
    pub frames: BoxStream<'static, Result<Frame, AskError>>,
}

/// One model of the pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelEntry {
    /// Its name.
    pub name: String,
    /// Other names for it.
    pub aliases: Vec<String>,
    /// The hash of its weights.
    pub digest: ModelDigest,
    /// Tokens that its context holds.
    pub context_tokens: u32,
    /// Whether `default` means this one.
    pub default: bool,
    /// Nodes that could take a task for it now.
    pub ready_nodes: u32,
    /// When it came into the catalogue, in seconds since 1970.
    pub created_unix_s: u64,
}

/// Why a task got no answer, or no whole one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// The catalogue has no such model.
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
        /// When to try again, where that is known.
        retry_after_ms: Option<u64>,
    },
    /// Every node has enough to do.
    #[error("the pool has enough to do")]
    Overloaded {
        /// When to try again.
        retry_after_ms: u64,
    },
    /// The task is outside its bounds; nothing was sent.
    #[error(transparent)]
    Invalid(TaskError),
    /// No orchestrator or node answers.
    #[error("the pool is out of reach: {reason}")]
    Unreachable {
        /// What was tried.
        reason: String,
    },
    /// The stream died or carried something that the worker did not seal.
    #[error("the answer broke off: {reason}")]
    Broken {
        /// What happened.
        reason: String,
    },
    /// The worker refused or failed.
    #[error(transparent)]
    Task(TaskError),
}
