//! How a pool begins.

use crate::{
    codec,
    header::{Committee, CommitteeError},
    ids::{AccountId, NodeId, PoolId},
    limits,
    proof::Digest,
};
use serde::{Deserialize, Serialize};

/// Blocks of one epoch, where nobody says otherwise.
const EPOCH_BLOCKS: u32 = 1024;

/// How a pool began. Its hash is the pool's id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Genesis {
    /// The first committee: machines that agree on what happens in the pool, and whose permits hold in it.
    pub orchestrators: Vec<NodeId>,
    /// Who owns the pool.
    pub owner: AccountId,
    /// BLAKE3 of the secret that admits; the secret itself is never a fact.
    pub secret_hash: [u8; 32],
    /// When, in milliseconds since 1970.
    pub created_unix_ms: u64,
    /// Blocks after which a changed committee takes over; between [`limits::EPOCH_BLOCKS_MIN`] and
    /// [`limits::EPOCH_BLOCKS_MAX`].
    pub epoch_blocks: u32,
}

/// A genesis that founds no pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GenesisError {
    /// Its orchestrators are no committee.
    #[error("a pool is founded by a committee: {0}")]
    Committee(#[from] CommitteeError),
    /// An epoch that is too short or too long.
    #[error("an epoch has between {} and {} blocks", limits::EPOCH_BLOCKS_MIN, limits::EPOCH_BLOCKS_MAX)]
    Epoch,
}

impl Genesis {
    /// The genesis of a pool that `secret` admits to, owned by the machine of its first orchestrator.
    pub fn new(orchestrators: Vec<NodeId>, secret: &[u8; 32], created_unix_ms: u64) -> Self {
        let owner = orchestrators.first().map_or(AccountId([0; 32]), |first| AccountId::from(*first));
        let secret_hash = *blake3::hash(secret).as_bytes();
        Self { orchestrators, owner, secret_hash, created_unix_ms, epoch_blocks: EPOCH_BLOCKS }
    }

    /// The first committee.
    pub fn committee(&self) -> Result<Committee, CommitteeError> {
        Committee::new(self.orchestrators.clone())
    }

    /// The pool's id: BLAKE3 of the encoded genesis.
    pub fn pool(&self) -> Result<PoolId, GenesisError> {
        self.committee()?;
        if !(limits::EPOCH_BLOCKS_MIN..=limits::EPOCH_BLOCKS_MAX).contains(&self.epoch_blocks) {
            return Err(GenesisError::Epoch);
        }
        let bytes = codec::encode(self, limits::FACT_BYTES_MAX).expect("16 orchestrators fit a fact");
        Ok(PoolId(*blake3::hash(&bytes).as_bytes()))
    }

    /// What the first block names as the one before it. It names the pool, and so its committee.
    pub fn digest(&self) -> Result<Digest, GenesisError> {
        Ok(self.pool()?.0)
    }
}
