//! Between client and node: one QUIC stream for one task. ALPN [`ALPN`].
//!
//! The client sends its permit, a `Signed<Permit>` of at most [`crate::limits::PERMIT_BYTES_MAX`], and behind it the
//! [`crate::sealing::SealedTask`]: a node reads the large message of a client with a valid permit only. Then the client
//! listens to [`Reply`]s; when it stops listening, the task is cancelled.

use crate::ipc::Rejection;
use serde::{Deserialize, Serialize};

/// Protocol name and version in the TLS handshake.
pub const ALPN: &[u8] = b"darkbloom/task/1";

/// While a task is in it, the worker gives a sign of life at least this often, and the node passes it on: silence means
/// trouble in one of the two.
pub const KEEP_ALIVE_MS: u64 = 250;
/// Silence after which a client reports the node and gives up on it.
pub const SILENCE_MS_MAX: u64 = 1_000;

/// The node's messages.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Reply {
    /// The task is with the worker.
    Accepted,
    /// Sealed frames, in order.
    Frames(Vec<Vec<u8>>),
    /// Still at work: the worker gave a sign of life.
    KeepAlive,
    /// The machine's owner takes it back: go on elsewhere. Nothing follows.
    HandedBack,
    /// The answer has ended; its last frame has been sent.
    Finished,
    /// The node or its worker did not take the task. Nothing of it was run.
    Refused(Refused),
    /// The worker died while it ran the task.
    WorkerLost,
}

/// Why a node did not take a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// The message could not be read.
    #[error("malformed request")]
    Malformed,
    /// The permit is not of an orchestrator of this pool, or not for this client, node or model.
    #[error("the permit does not hold here: {why}")]
    Permit {
        /// What does not hold.
        why: String,
    },
    /// The permit was used before.
    #[error("the permit has been used before")]
    Replayed,
    /// No place.
    #[error("the node is full")]
    Full,
    /// The node takes no more.
    #[error("the node is draining")]
    Draining,
    /// The worker is not ready.
    #[error("the worker is not ready")]
    NotReady,
    /// The worker's own no.
    #[error("{0}")]
    Worker(Rejection),
}
