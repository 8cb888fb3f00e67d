//! Between client and node: one QUIC stream for one task. ALPN [`ALPN`].
//!
//! The client sends its permit, a `Signed<Permit>` of at most [`crate::limits::PERMIT_BYTES_MAX`], and behind it the
//! [`crate::sealing::SealedTask`]: a node reads the large message of a client with a valid permit only. Then the client
//! listens to [`Reply`]s; when it stops listening, the task is cancelled.
//!
//! **Money.** Where the permit names a price, the client says more behind the task, as [`Payment`]s: its order at once, an
//! acknowledgement every [`crate::market::ACK_TOKENS`] tokens, and when it wants no more, for whatever reason, the last
//! one, exactly. The node answers that with the receipt ([`Reply::Due`]), even behind the end of the answer; the client
//! countersigns it, and both are done. What a node is not given a receipt for it can claim with the last acknowledgement.

use crate::{
    ipc::Rejection,
    limits::FRAMES_PER_MESSAGE_MAX,
    market::{Ack, Order, Receipt},
    signed::{Signature, Signed},
};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error, SeqAccess, Visitor},
};
use std::fmt;

/// Protocol name and version in the TLS handshake.
pub const ALPN: &[u8] = b"darkbloom/task/1";

/// While a task is in it, the worker gives a sign of life at least this often, and the node passes it on: silence means
/// trouble in one of the two.
pub const KEEP_ALIVE_MS: u64 = 250;
/// Silence after which a client reports the node and seeks another beside it. It gives up on it later: once another
/// goes on with the answer, or after some seconds more without a sign of life.
pub const SILENCE_MS_MAX: u64 = 1_000;

/// What a client says about money.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Payment {
    /// Before anything is run: so much is held for the node.
    Order(Signed<Order>),
    /// So much has arrived.
    Ack(Signed<Ack>),
    /// So much has arrived, and no more is wanted.
    Last(Signed<Ack>),
    /// The receipt is right.
    Countersigned(Signature),
}

/// The node's messages.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Reply {
    /// The task is with the worker.
    Accepted,
    /// Sealed frames, in order, at most [`FRAMES_PER_MESSAGE_MAX`].
    Frames(#[serde(deserialize_with = "frames")] Vec<Vec<u8>>),
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
    /// What the client owes, to be countersigned. Only after [`Payment::Last`].
    Due(Signed<Receipt>),
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
    /// It would not be paid, or cannot know that it is.
    #[error("{why}")]
    Unpaid {
        /// What is missing.
        why: String,
    },
}

/// Decodes sealed frames, and stops at [`FRAMES_PER_MESSAGE_MAX`]: an empty frame is one byte on the wire and 24 in memory.
pub(crate) fn frames<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Vec<u8>>, D::Error> {
    struct Frames;

    impl<'de> Visitor<'de> for Frames {
        type Value = Vec<Vec<u8>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "at most {FRAMES_PER_MESSAGE_MAX} frames")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Self::Value, A::Error> {
            let mut frames = Vec::new();
            while let Some(frame) = sequence.next_element()? {
                if frames.len() == FRAMES_PER_MESSAGE_MAX {
                    return Err(A::Error::custom("too many frames in one message"));
                }
                frames.push(frame);
            }
            Ok(frames)
        }
    }

    deserializer.deserialize_seq(Frames)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        codec::{CodecError, decode, encode},
        ids::TaskId,
        ipc::FromWorker,
        limits::STREAM_MESSAGE_BYTES_MAX as LIMIT,
    };

    #[test]
    fn a_message_of_many_frames_is_refused_while_it_is_decoded() {
        let task = TaskId([3; 16]);
        let both = |count: usize| {
            let frames = vec![Vec::new(); count];
            let worker = FromWorker::Frames { task, frames: frames.clone() };
            (encode(&Reply::Frames(frames), LIMIT).unwrap(), encode(&worker, LIMIT).unwrap())
        };
        let (reply, worker) = both(FRAMES_PER_MESSAGE_MAX);
        assert_eq!(decode::<Reply>(&reply, LIMIT), Ok(Reply::Frames(vec![Vec::new(); FRAMES_PER_MESSAGE_MAX])));
        assert!(decode::<FromWorker>(&worker, LIMIT).is_ok());
        for count in [FRAMES_PER_MESSAGE_MAX + 1, LIMIT - 64] {
            let (reply, worker) = both(count);
            assert_eq!(decode::<Reply>(&reply, LIMIT), Err(CodecError::Malformed));
            assert_eq!(decode::<FromWorker>(&worker, LIMIT), Err(CodecError::Malformed));
        }
    }
}
