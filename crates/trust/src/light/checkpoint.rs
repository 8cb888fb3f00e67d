//! What a light client keeps over its end.

use super::{Light, Newest, era::Era};
use protocol::{
    codec::{self, CodecError},
    header::Committee,
    ids::PoolId,
    limits,
};
use serde::{Deserialize, Serialize};

const FORM: u8 = 1;

/// What a [`Light`] knows, to be kept: no genesis is needed then, and no committee that was replaced before can tell it
/// another history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    form: u8,
    pool: PoolId,
    epoch_blocks: u32,
    from_epoch: u64,
    committee: Committee,
    height: u64,
    unix_ms: u64,
}

/// Bytes that are no checkpoint of the pool.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// Changed, or cut off.
    #[error("damaged: {0}")]
    Codec(#[from] CodecError),
    /// Of a later version of this program.
    #[error("it has a form that this program does not know: install a newer version")]
    Form,
    /// Of another pool.
    #[error("it is another pool's")]
    OtherPool,
}

impl Checkpoint {
    /// The form in which it is kept.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self, limits::CHECKPOINT_BYTES_MAX).expect("16 keys and a few numbers fit")
    }

    /// Reads one.
    pub fn decode(bytes: &[u8]) -> Result<Self, CheckpointError> {
        if bytes.first().is_some_and(|form| *form != FORM) {
            return Err(CheckpointError::Form);
        }
        Ok(codec::decode(bytes, limits::CHECKPOINT_BYTES_MAX)?)
    }

    /// Since which epoch its committee agrees.
    pub fn epoch(&self) -> u64 {
        self.from_epoch
    }

    /// The time of the newest block that was seen, in milliseconds since 1970.
    pub fn unix_ms(&self) -> u64 {
        self.unix_ms
    }
}

impl Light {
    /// What it knows now.
    pub fn checkpoint(&self) -> Checkpoint {
        Checkpoint {
            form: FORM,
            pool: self.pool,
            epoch_blocks: u32::try_from(self.epoch_blocks).expect("it was made of one"),
            from_epoch: self.current.from_epoch,
            committee: (*self.current.committee).clone(),
            height: self.newest.height,
            unix_ms: self.newest.unix_ms,
        }
    }

    /// Goes on from what was kept.
    pub fn resume(pool: PoolId, checkpoint: Checkpoint) -> Result<Self, CheckpointError> {
        if checkpoint.pool != pool {
            return Err(CheckpointError::OtherPool);
        }
        // An epoch without blocks would be divided by.
        if !(limits::EPOCH_BLOCKS_MIN..=limits::EPOCH_BLOCKS_MAX).contains(&checkpoint.epoch_blocks) {
            return Err(CodecError::Malformed.into());
        }
        let era = Era::new(checkpoint.committee, checkpoint.from_epoch);
        let newest = Newest { unix_ms: checkpoint.unix_ms, height: checkpoint.height };
        Ok(Self::since(pool, checkpoint.epoch_blocks, era, newest))
    }
}
