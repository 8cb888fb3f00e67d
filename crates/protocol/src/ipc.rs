//! Between a node daemon and its worker: length-prefixed messages on one socketpair. The daemon sees ciphertext and
//! counts, nothing else.

use crate::{
    ids::TaskId,
    sealing::{SealedTask, SealingKey},
    task::Usage,
};
use serde::{Deserialize, Serialize};

/// Descriptor of the model file in the worker, open for reading.
pub const MODEL_FD: i32 = 3;
/// Descriptor of the worker's end of the socketpair.
pub const SOCKET_FD: i32 = 4;

/// From the daemon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ToWorker {
    /// Run a task.
    Run {
        /// Its id, part of the sealing.
        task: TaskId,
        /// The sealed task.
        sealed: SealedTask,
    },
    /// Stop a task, within a token. Nothing more is sent about it.
    Cancel {
        /// Which.
        task: TaskId,
    },
    /// End: running tasks get a sealed error.
    Shutdown,
}

/// From the worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum FromWorker {
    /// Confined, loaded, ready for tasks. The first message.
    Ready {
        /// Public keys, one for each suite, to be published in evidence.
        keys: Vec<SealingKey>,
        /// What the model is.
        model: ModelFacts,
        /// The sandbox as it stands, in JSON, for `status` and `doctor`.
        sandbox_json: String,
    },
    /// The keys have changed; tasks sealed to the previous ones are accepted for a while.
    Keys {
        /// The new public keys, one for each suite.
        keys: Vec<SealingKey>,
    },
    /// The next frames of an answer, each sealed, in order.
    Frames {
        /// Of which task.
        task: TaskId,
        /// Sealed frames, at most [`crate::limits::FRAMES_PER_MESSAGE_MAX`].
        #[serde(deserialize_with = "crate::stream::frames")]
        frames: Vec<Vec<u8>>,
    },
    /// The answer has ended; its last frame has been sent.
    Finished {
        /// Of which task.
        task: TaskId,
        /// What it took; zero where it failed.
        usage: Usage,
    },
    /// The task could not be opened or taken, so no sealed answer is possible.
    Rejected {
        /// Which.
        task: TaskId,
        /// Why.
        why: Rejection,
    },
    /// The process runs; every [`crate::stream::KEEP_ALIVE_MS`] while tasks are in it.
    Alive,
    /// Loading failed; the worker ends.
    Failed {
        /// Why, for the owner.
        why: String,
    },
}

/// What a loaded model is, as far as scheduling needs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelFacts {
    /// Its architecture, as the file says.
    pub architecture: String,
    /// Tokens of context for one task.
    pub context_tokens: u32,
    /// Tasks at once.
    pub slots: u32,
    /// Length of an embedding; 0 where it makes none.
    pub embedding_length: u32,
    /// Whether it has a chat template.
    pub chat: bool,
}

/// Why a worker did not take a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// Sealed to a key that this worker does not have (any more).
    #[error("sealed to a key that this worker does not hold")]
    UnknownKey,
    /// Truncated, changed, or sealed under another id.
    #[error("the sealed task is not authentic")]
    NotAuthentic,
    /// This sealing has been run before.
    #[error("the sealed task has been run before")]
    Replayed,
    /// A task of this id is running.
    #[error("a task of this id is running")]
    Duplicate,
    /// No place, and the queue is full.
    #[error("the worker is full")]
    Full,
    /// The worker is going away.
    #[error("the worker is shutting down")]
    ShuttingDown,
}
