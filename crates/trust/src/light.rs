//! Whether a pool has agreed on something, for one who was not there and believes nobody: a light client.
//!
//! A [`Light`] begins with the pool's id, which a ticket names, and the [`Genesis`] that the id is the hash of. So it knows
//! the first committee. Each [`Handover`] is signed by the committee that it knows, and names the next one. A block is
//! final if a quorum of its committee has signed its header; the [`Root`] in the header is then the pool's state, and
//! proofs (`protocol::proof`) lead from it to single records.
//!
//! Nothing is read or sent here, and the time is an argument.
//!
//! ```
//! use protocol::{genesis::Genesis, header::{Committee, Header}};
//! use trust::{MachineKey, light::{AnchorError, Light, certify}};
//!
//! let keys: Vec<MachineKey> = (0..4).map(|_| MachineKey::generate()).collect();
//! let genesis = Genesis::new(keys.iter().map(MachineKey::id).collect(), &[7; 32], 1);
//! let (pool, committee) = (genesis.pool()?, genesis.committee()?);
//! let header = Header {
//!     pool, epoch: 0, height: 9, parent: [0; 32], unix_ms: 50_000, state: [5; 32], body: [0; 32],
//!     committee: committee.digest(), next_committee: committee.digest(),
//! };
//! let mut light = Light::new(pool, &genesis)?;
//!
//! let root = light.check(&certify(&header, &committee, &keys[..3]), 51_000)?;
//! assert_eq!(root.state(), &[5; 32]);
//!
//! let other = Header { state: [6; 32], ..header };
//! let too_few = light.check(&certify(&other, &committee, &keys[2..]), 51_000);
//! assert_eq!(too_few.err(), Some(AnchorError::TooFewSignatures { valid: 2, needed: 3 }));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! **What it cannot know.** Keys of a committee that was replaced long ago can sign another history, and a machine that
//! has nothing but an old ticket cannot tell the two apart. One that has been in the pool can: it keeps a [`Checkpoint`].

mod checkpoint;
mod era;

pub use checkpoint::{Checkpoint, CheckpointError};

use crate::MachineKey;
use era::Era;
use protocol::{
    genesis::{Genesis, GenesisError},
    header::{Anchor, Certificate, Committee, Handover, Header},
    ids::PoolId,
    limits,
    proof::Digest,
};
use std::{collections::VecDeque, sync::Arc};

/// Blocks that are remembered as final: orchestrators share few anchors at a time.
const REMEMBERED_MAX: usize = 8;

/// What a light client knows of a pool.
#[derive(Debug, Clone)]
pub struct Light {
    pool: PoolId,
    epoch_blocks: u64,
    current: Era,
    /// An orchestrator may be a moment behind: what the committee before signed still counts for as long as anything of
    /// that time does.
    previous: Option<Era>,
    newest: Newest,
    /// Blocks whose signatures were verified, the newest last.
    verified: VecDeque<(Digest, Root)>,
}

/// The newest block that was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Newest {
    unix_ms: u64,
    height: u64,
}

/// The state of a pool, as its committee agreed on it. There is no other way to make one than to verify signatures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    pool: PoolId,
    height: u64,
    unix_ms: u64,
    state: Digest,
    committee: Arc<Committee>,
}

impl Root {
    /// Of which pool.
    pub fn pool(&self) -> PoolId {
        self.pool
    }

    /// After how many blocks.
    pub fn height(&self) -> u64 {
        self.height
    }

    /// When, in milliseconds since 1970.
    pub fn unix_ms(&self) -> u64 {
        self.unix_ms
    }

    /// What proofs are checked against.
    pub fn state(&self) -> &Digest {
        &self.state
    }

    /// Who agreed: machines whose permits hold in the pool.
    pub fn committee(&self) -> &Committee {
        &self.committee
    }
}

/// A genesis that is not the pool's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LineageError {
    /// It founds no pool.
    #[error("{0}: ask another orchestrator")]
    Genesis(#[from] GenesisError),
    /// It founds another.
    #[error("the genesis is another pool's: ask another orchestrator, or for a new ticket")]
    OtherPool,
}

/// Why a block does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AnchorError {
    /// Of another pool.
    #[error("the block is another pool's: ask another orchestrator")]
    OtherPool,
    /// Its height is of another epoch than it says.
    #[error("the block says epoch {epoch}, and its height says another: ask another orchestrator")]
    OtherEpoch {
        /// Which it says.
        epoch: u64,
    },
    /// Too old to say what holds now.
    #[error(
        "the newest that it shows the pool to have agreed on is {} s old: ask another orchestrator; where all say the same, \
         `darkbloom status` on one of them says why nothing is agreed on",
        age_ms / 1000
    )]
    Stale {
        /// How old, in milliseconds.
        age_ms: u64,
    },
    /// Later than now.
    #[error("the block is {} s ahead of this machine's clock: set the clock", ahead_ms / 1000)]
    FromTheFuture {
        /// By how much, in milliseconds.
        ahead_ms: u64,
    },
    /// This machine has seen later ones.
    #[error("the block is {} s older than one that this machine has seen: ask another orchestrator", behind_ms / 1000)]
    OlderThanSeen {
        /// By how much, in milliseconds.
        behind_ms: u64,
    },
    /// Nothing shows that its committee is the pool's.
    #[error("the committee of epoch {epoch} is not known: ask how it came to be, or ask another orchestrator")]
    UnknownCommittee {
        /// Of which epoch.
        epoch: u64,
    },
    /// As many signatures as signers, of members only: it is not so.
    #[error("the signatures are not those of the signers that it names: ask another orchestrator")]
    Signers,
    /// Not enough have signed.
    #[error("{valid} of the {needed} signatures that make it final hold: ask another orchestrator")]
    TooFewSignatures {
        /// How many hold.
        valid: usize,
        /// How many there must be.
        needed: usize,
    },
}

/// Why a handover leads nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandoverError {
    /// Its block does not count.
    #[error("{0}")]
    Anchor(#[from] AnchorError),
    /// One before it is missing.
    #[error(
        "the handover of epoch {epoch} is by a committee that nothing leads to from epoch {known}: ask for those between, \
         or ask another orchestrator"
    )]
    Gap {
        /// Since which epoch the committee is known.
        known: u64,
        /// Of which epoch the handover is.
        epoch: u64,
    },
    /// Its block is not the last of an epoch.
    #[error("block {height} is not the last of its epoch: ask another orchestrator")]
    NotLast {
        /// The block.
        height: u64,
    },
    /// The committee beside it is not the one that its block names.
    #[error("the next committee is not the one that was agreed on: ask another orchestrator")]
    OtherCommittee,
}

/// Whether enough members of this committee have signed the block: for one who knows from elsewhere that the committee is
/// the block's.
pub fn check_signatures(committee: &Committee, anchor: &Anchor) -> Result<(), AnchorError> {
    Era::new(committee.clone(), anchor.header.epoch).check_signatures(anchor)
}

impl Light {
    /// Knows how the pool began.
    pub fn new(pool: PoolId, genesis: &Genesis) -> Result<Self, LineageError> {
        if genesis.pool()? != pool {
            return Err(LineageError::OtherPool);
        }
        let committee = genesis.committee().map_err(GenesisError::from)?;
        Ok(Self::since(pool, genesis.epoch_blocks, Era::new(committee, 0), Newest { unix_ms: 0, height: 0 }))
    }

    fn since(pool: PoolId, epoch_blocks: u32, current: Era, newest: Newest) -> Self {
        let epoch_blocks = u64::from(epoch_blocks);
        Self { pool, epoch_blocks, current, previous: None, newest, verified: VecDeque::new() }
    }

    /// Of which pool.
    pub fn pool(&self) -> PoolId {
        self.pool
    }

    /// The epoch since which its committee agrees: of later handovers it has not heard.
    pub fn epoch(&self) -> u64 {
        self.current.from_epoch
    }

    /// Who agrees now, as far as it has heard.
    pub fn committee(&self) -> &Committee {
        &self.current.committee
    }

    /// The time of the newest block that it has seen, in milliseconds since 1970.
    pub fn newest_unix_ms(&self) -> u64 {
        self.newest.unix_ms
    }

    /// Takes a handover; whether it was new.
    pub fn advance(&mut self, handover: &Handover) -> Result<bool, HandoverError> {
        let header = &handover.last.header;
        self.check_place(header)?;
        if header.epoch < self.current.from_epoch {
            return Ok(false);
        }
        if header.committee != self.current.digest {
            return Err(HandoverError::Gap { known: self.current.from_epoch, epoch: header.epoch });
        }
        let next_epoch =
            header.epoch.checked_add(1).filter(|_| header.height % self.epoch_blocks == self.epoch_blocks - 1);
        let next_epoch = next_epoch.ok_or(HandoverError::NotLast { height: header.height })?;
        if handover.next.digest() != header.next_committee {
            return Err(HandoverError::OtherCommittee);
        }
        self.current.check_signatures(&handover.last)?;
        self.note(header);
        let next = Era::new(handover.next.clone(), next_epoch);
        self.previous = Some(std::mem::replace(&mut self.current, next));
        Ok(true)
    }

    /// The state in a block that is final, and at most [`limits::ROOT_AGE_MS_MAX`] old.
    pub fn check(&mut self, anchor: &Anchor, now_unix_ms: u64) -> Result<Root, AnchorError> {
        self.check_within(anchor, limits::ROOT_AGE_MS_MAX, now_unix_ms)
    }

    /// As [`Light::check`], with another age: what a pool's policy says.
    pub fn check_within(&mut self, anchor: &Anchor, age_ms_max: u64, now_unix_ms: u64) -> Result<Root, AnchorError> {
        let header = &anchor.header;
        self.check_place(header)?;
        self.check_time(header, age_ms_max, now_unix_ms)?;
        let digest = header.digest();
        if let Some((_, root)) = self.verified.iter().find(|(verified, _)| *verified == digest) {
            return Ok(root.clone());
        }
        let era = self.era(header)?;
        era.check_signatures(anchor)?;
        let root = Root {
            pool: self.pool,
            height: header.height,
            unix_ms: header.unix_ms,
            state: header.state,
            committee: Arc::clone(&era.committee),
        };
        self.note(header);
        if self.verified.len() >= REMEMBERED_MAX {
            self.verified.pop_front();
        }
        self.verified.push_back((digest, root.clone()));
        Ok(root)
    }

    /// Pool, and height within the epoch.
    fn check_place(&self, header: &Header) -> Result<(), AnchorError> {
        if header.pool != self.pool {
            return Err(AnchorError::OtherPool);
        }
        if header.height / self.epoch_blocks != header.epoch {
            return Err(AnchorError::OtherEpoch { epoch: header.epoch });
        }
        Ok(())
    }

    fn check_time(&self, header: &Header, age_ms_max: u64, now_unix_ms: u64) -> Result<(), AnchorError> {
        let ahead_ms = header.unix_ms.saturating_sub(now_unix_ms);
        if ahead_ms > limits::CLOCK_SKEW_MS_MAX {
            return Err(AnchorError::FromTheFuture { ahead_ms });
        }
        let behind_ms = self.newest.unix_ms.saturating_sub(header.unix_ms);
        if behind_ms > limits::ROOT_BEHIND_MS_MAX {
            return Err(AnchorError::OlderThanSeen { behind_ms });
        }
        let age_ms = now_unix_ms.saturating_sub(header.unix_ms);
        if age_ms > age_ms_max.saturating_add(limits::CLOCK_SKEW_MS_MAX) {
            return Err(AnchorError::Stale { age_ms });
        }
        Ok(())
    }

    /// The committee that a block must be of.
    fn era(&self, header: &Header) -> Result<&Era, AnchorError> {
        let known = if header.epoch >= self.current.from_epoch { Some(&self.current) } else { self.previous.as_ref() };
        known
            .filter(|era| era.digest == header.committee && header.epoch >= era.from_epoch)
            .ok_or(AnchorError::UnknownCommittee { epoch: header.epoch })
    }

    fn note(&mut self, header: &Header) {
        self.newest = self.newest.max(Newest { unix_ms: header.unix_ms, height: header.height });
    }
}

/// What a committee shows of a block where these of its members have signed it; others are left out. A committee's own
/// engine makes the same: this is for those who stand in for one.
pub fn certify<'a>(
    header: &Header,
    committee: &Committee,
    signers: impl IntoIterator<Item = &'a MachineKey>,
) -> Anchor {
    let mut certificate = Certificate { view: header.height, parent_view: 0, signers: 0, signatures: Vec::new() };
    let mut signed: Vec<_> =
        signers.into_iter().filter_map(|key| Some((committee.members().binary_search(&key.id()).ok()?, key))).collect();
    signed.sort_unstable_by_key(|(place, _)| *place);
    signed.dedup_by_key(|(place, _)| *place);
    for (place, key) in signed {
        certificate.signers |= 1 << place;
        certificate.signatures.push(key.finalise(header, &certificate));
    }
    Anchor { header: header.clone(), certificate }
}

#[cfg(test)]
mod tests;
