//! What a committee agrees on, block by block, and what shows it to somebody who was not there.
//!
//! A [`Header`] names the block before, the block's body, and the root of the pool's state after it. A quorum of the
//! [`Committee`] signs the header's digest: header and [`Certificate`] together are an [`Anchor`], from which proofs
//! ([`crate::proof`]) lead to single records. What the committee signs is the message of the consensus engine, so that its
//! own votes are the certificate and nothing has to be signed twice.
//!
//! ```
//! use protocol::{header::{Committee, CommitteeError}, ids::NodeId};
//!
//! let four = Committee::new((0..4).map(|id| NodeId([id; 32])).collect())?;
//! assert_eq!((four.quorum(), four.faults()), (3, 1));
//! assert_eq!(Committee::new(vec![NodeId([1; 32]); 2]), Err(CommitteeError::Repeated));
//! # Ok::<(), CommitteeError>(())
//! ```

use crate::{
    codec,
    ids::{NodeId, PoolId},
    limits,
    proof::Digest,
    signed::Signature,
};
use serde::{Deserialize, Serialize};

const BLOCK: &str = "darkbloom 2026-11 block 1";
const COMMITTEE: &str = "darkbloom 2026-11 committee 1";
/// In front of what the engine signs, before the pool's id.
const NAMESPACE: &[u8] = b"darkbloom/";
/// What the engine puts behind the namespace of a vote that makes a block final.
const FINALIZE: &[u8] = b"_FINALIZE";

/// Who agrees: keys in ascending order, each once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<NodeId>", into = "Vec<NodeId>")]
pub struct Committee(Vec<NodeId>);

/// Machines that are no committee.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommitteeError {
    /// Nobody could agree on anything.
    #[error("a pool needs an orchestrator")]
    Empty,
    /// More than [`limits::ORCHESTRATORS_MAX`].
    #[error("a pool has at most {} orchestrators", limits::ORCHESTRATORS_MAX)]
    TooMany,
    /// One is named twice.
    #[error("an orchestrator is named twice")]
    Repeated,
}

impl Committee {
    /// Of these machines, in whatever order.
    pub fn new(mut members: Vec<NodeId>) -> Result<Self, CommitteeError> {
        members.sort_unstable();
        match members.len() {
            0 => Err(CommitteeError::Empty),
            count if count > limits::ORCHESTRATORS_MAX => Err(CommitteeError::TooMany),
            _ if members.windows(2).any(|pair| pair[0] == pair[1]) => Err(CommitteeError::Repeated),
            _ => Ok(Self(members)),
        }
    }

    /// Its members, ascending: the place of one is its number in a [`Certificate`].
    pub fn members(&self) -> &[NodeId] {
        &self.0
    }

    /// Whether this machine is one of them.
    pub fn contains(&self, member: NodeId) -> bool {
        self.0.binary_search(&member).is_ok()
    }

    /// How many of them may lie or be silent: fewer than a third.
    pub fn faults(&self) -> usize {
        (self.0.len() - 1) / 3
    }

    /// How many have to sign.
    pub fn quorum(&self) -> usize {
        self.0.len() - self.faults()
    }

    /// Its hash, as headers name it.
    pub fn digest(&self) -> Digest {
        let mut hasher = blake3::Hasher::new_derive_key(COMMITTEE);
        for member in &self.0 {
            hasher.update(&member.0);
        }
        *hasher.finalize().as_bytes()
    }
}

impl TryFrom<Vec<NodeId>> for Committee {
    type Error = CommitteeError;

    fn try_from(members: Vec<NodeId>) -> Result<Self, Self::Error> {
        Self::new(members)
    }
}

impl From<Committee> for Vec<NodeId> {
    fn from(committee: Committee) -> Self {
        committee.0
    }
}

/// The head of a block. Its digest is the block's identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Of which pool.
    pub pool: PoolId,
    /// Of which epoch: its height divided by the blocks of an epoch.
    pub epoch: u64,
    /// Blocks before it; the genesis is block 0.
    pub height: u64,
    /// The digest of the block before.
    pub parent: Digest,
    /// The only time there is for facts, in milliseconds since 1970; later than of the block before.
    pub unix_ms: u64,
    /// The root of the state after the block.
    pub state: Digest,
    /// The hash of the body.
    pub body: Digest,
    /// Who signs this block: the digest of the committee.
    pub committee: Digest,
    /// Who signs the next one. It differs from `committee` only in the last block of an epoch.
    pub next_committee: Digest,
}

impl Header {
    /// The block's identity.
    pub fn digest(&self) -> Digest {
        let bytes = codec::encode(self, limits::ANCHOR_BYTES_MAX).expect("a header has fewer than 300 bytes");
        blake3::derive_key(BLOCK, &bytes)
    }
}

/// That a quorum of a committee has made a block final.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// In which round of its epoch it was proposed.
    pub view: u64,
    /// In which round the block before it was.
    pub parent_view: u64,
    /// One bit for each member that has signed: the lowest is the first member's.
    pub signers: u16,
    /// Their signatures, in the order of the members.
    pub signatures: Vec<Signature>,
}

impl Certificate {
    /// What each of them has signed: the bytes that the consensus engine signs for a vote to finalise.
    pub fn message(&self, header: &Header) -> Vec<u8> {
        let mut message = Vec::with_capacity(128);
        let namespace = namespace(header.pool);
        put_varint(&mut message, (namespace.len() + FINALIZE.len()) as u64);
        message.extend_from_slice(&namespace);
        message.extend_from_slice(FINALIZE);
        put_varint(&mut message, header.epoch);
        put_varint(&mut message, self.view);
        put_varint(&mut message, self.parent_view);
        message.extend_from_slice(&header.digest());
        message
    }
}

/// What a pool's committee puts in front of everything that it signs as a committee.
pub fn namespace(pool: PoolId) -> Vec<u8> {
    [NAMESPACE, &pool.0].concat()
}

// LEB128, as the engine encodes lengths and numbers.
fn put_varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// A block that is final, to whoever knows the committee: the root in it is the pool's state at that time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anchor {
    /// The head of the block.
    pub header: Header,
    /// Who has signed it.
    pub certificate: Certificate,
}

/// From one committee to the next: the last block of an epoch, and who signs from there on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handover {
    /// Signed by the committee that ends.
    pub last: Anchor,
    /// The committee that its header names as the next.
    pub next: Committee,
}
