//! What members say to each other beside what the engine says: bundles on channel [`FACTS`], where they are and snapshots on
//! channel [`CATCH_UP`]. What is in the messages belongs to the registry, so they stand above it and not in `protocol`.

use crate::snapshots::Head;
use protocol::{
    codec::{self, CodecError},
    header::Handover,
    limits,
};
use registry::snapshot::PARTS;
use serde::{Deserialize, Serialize};

/// Bundles, in the form of a block's body.
pub(crate) const FACTS: u8 = 5;
/// [`Message`]s.
pub(crate) const CATCH_UP: u8 = 6;

/// Without the channel's number.
const BYTES_MAX: usize = limits::PEER_BULK_BYTES_MAX - 1;

/// Where a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Here {
    /// The newest final block that it has taken in.
    pub(crate) height: u64,
    /// Of the block behind that.
    pub(crate) epoch: u64,
    /// The block after which its newest snapshot is.
    pub(crate) snapshot: Option<u64>,
    /// It may not vote until a later epoch.
    pub(crate) waits: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Message {
    WhereAreYou,
    Here(Here),
    /// Asks for the newest snapshot, by somebody who knows who signs until this epoch.
    AskSnapshot {
        from_epoch: u64,
    },
    Snapshot {
        handovers: Vec<Handover>,
        head: Box<Head>,
    },
    AskPart {
        height: u64,
        number: u16,
    },
    Part {
        height: u64,
        number: u16,
        /// `None`: it is not there any more.
        part: Option<Vec<u8>>,
    },
}

impl Message {
    pub(crate) fn encode(&self) -> Result<Vec<u8>, CodecError> {
        codec::encode(self, BYTES_MAX)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let message = codec::decode(bytes, BYTES_MAX).ok()?;
        match message {
            Self::AskPart { number, .. } | Self::Part { number, .. } if usize::from(number) >= PARTS => None,
            message => Some(message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_is_heard_and_garbage_is_not() {
        let part = Message::Part { height: 300, number: 255, part: Some(vec![1, 2, 3]) };
        let bytes = part.encode().unwrap();
        assert_eq!(bytes[0], 5, "the order of messages is part of the format");
        assert!(matches!(Message::decode(&bytes), Some(Message::Part { height: 300, number: 255, part: Some(_) })));
        for length in 0..bytes.len() {
            assert!(Message::decode(&bytes[..length]).is_none());
        }
        let beyond = Message::AskPart { height: 300, number: 256 };
        assert!(Message::decode(&beyond.encode().unwrap()).is_none(), "there is no such part");
        assert!(Message::decode(&[9]).is_none());
    }
}
