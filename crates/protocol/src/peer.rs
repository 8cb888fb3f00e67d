//! Between two orchestrators of one pool. ALPN [`ALPN`].
//!
//! One connection for each pair; whoever has the lower id dials. Each side opens one stream for each [`Lane`] and sends
//! on it only, so that a large block never stands in front of a vote. The first byte on a stream names the lane; a message
//! is a channel's number and what belongs to that channel.
//!
//! | channels | lane | what |
//! |---|---|---|
//! | 0 to 2 | votes | votes, certificates and questions of the consensus engine |
//! | 3, 4 | blocks | blocks, and those that somebody missed |
//! | 5 | facts | bundles that are to be agreed on |
//! | 6 | bulk | snapshots |
//! | 7 | live | what nodes say of themselves |

pub mod live;

use crate::{ids::NodeId, limits};

/// Protocol name and version in the TLS handshake.
pub const ALPN: &[u8] = b"darkbloom/peer/1";

/// What nodes say of themselves.
pub const LIVE: u8 = 7;

/// Messages that wait for each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Small and urgent.
    Votes,
    /// Blocks.
    Blocks,
    /// Bundles.
    Facts,
    /// Snapshots.
    Bulk,
    /// Live state.
    Live,
}

impl Lane {
    /// Each of them; the place is its number on the wire.
    pub const ALL: [Self; 5] = [Self::Votes, Self::Blocks, Self::Facts, Self::Bulk, Self::Live];

    /// The lane of a channel; `None`: there is no such channel.
    pub fn of(channel: u8) -> Option<Self> {
        match channel {
            0..=2 => Some(Self::Votes),
            3 | 4 => Some(Self::Blocks),
            5 => Some(Self::Facts),
            6 => Some(Self::Bulk),
            LIVE => Some(Self::Live),
            _ => None,
        }
    }

    /// Its number on the wire.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// Longest message, its channel's number included.
    pub fn message_bytes_max(self) -> usize {
        match self {
            Self::Bulk => limits::PEER_BULK_BYTES_MAX,
            Self::Live => 1 + limits::GOSSIP_BYTES_MAX,
            _ => limits::PEER_MESSAGE_BYTES_MAX,
        }
    }
}

const PREFERENCE: &str = "darkbloom 2026-11 home 1";

/// How much a node prefers an orchestrator as its home: the highest first. Each prefers other ones (rendezvous hashing:
/// Thaler and Ravishankar, IEEE/ACM Transactions on Networking 6(1), 1998), so that a pool's nodes spread evenly over its
/// orchestrators, and over those that are left when one fails. Orchestrators rank a node's homes by it too: what is to be
/// done for a node once is done by its *first* home, the one it prefers of those that hold it.
pub fn preference(node: NodeId, orchestrator: NodeId) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key(PREFERENCE);
    hasher.update(&node.0).update(&orchestrator.0);
    *hasher.finalize().as_bytes()
}
