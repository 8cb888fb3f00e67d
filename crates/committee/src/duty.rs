//! Whether this member may vote, kept on the disk.
//!
//! A member that has lost its disk does not know what it voted. If it voted again it might contradict itself, and be named
//! a liar for an accident. So it waits until the epochs in which it can have voted are over.

use crate::durable::{self, FileError};
use protocol::ids::PoolId;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// In the member's folder.
const FILE: &str = "duty";

/// What a member knows of its own past.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Duty {
    pub(crate) pool: PoolId,
    /// The first epoch in which it votes.
    pub(crate) signs_from_epoch: u64,
}

impl Duty {
    /// Of a folder. `None`: nobody has voted from it.
    pub(crate) fn load(folder: &Path) -> Result<Option<Self>, FileError> {
        durable::read(&folder.join(FILE))
    }

    /// Has to be on the disk before the first vote.
    pub(crate) fn save(&self, folder: &Path) -> Result<(), FileError> {
        durable::write(&folder.join(FILE), self)
    }

    /// From which epoch on a member without a past votes, after what others have said of the epochs that they are in.
    /// `None` stands for those who have not begun. It can have voted in the epoch behind the newest one only if it saw
    /// that begin before the others did, and in no later one.
    pub(crate) fn of_newcomer(epochs: impl IntoIterator<Item = Option<u64>>) -> u64 {
        epochs.into_iter().flatten().max().map_or(0, |epoch| epoch + 2)
    }
}
