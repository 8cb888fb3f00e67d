use crate::{chain::SnapshotPace, durable::FileError};
use consensus::Pace;
use registry::{Genesis, GenesisError};
use std::path::PathBuf;
use trust::MachineKey;

/// What a member is started with.
#[derive(Debug, Clone)]
pub struct MemberConfig {
    /// Where it keeps everything. One process at a time.
    pub folder: PathBuf,
    /// The machine's key.
    pub key: MachineKey,
    /// How the pool began.
    pub genesis: Genesis,
    /// When blocks are made; `None`: by the size of the committee. Has to be the same at all members.
    pub pace: Option<Pace>,
    /// When snapshots are made and taken.
    pub snapshots: SnapshotPace,
}

impl MemberConfig {
    /// With nothing out of the ordinary.
    pub fn new(folder: PathBuf, key: MachineKey, genesis: Genesis) -> Self {
        Self { folder, key, genesis, pace: None, snapshots: SnapshotPace::default() }
    }
}

/// Why a member does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The genesis founds no pool.
    #[error("{0}")]
    Genesis(#[from] GenesisError),
    /// A file cannot be read or written.
    #[error("{0}")]
    File(#[from] FileError),
    /// Another process has the folder.
    #[error("{0} is in use by another process: end that one first")]
    InUse(PathBuf),
    /// The folder is another pool's.
    #[error("{0} belongs to another pool: choose another folder")]
    OtherPool(PathBuf),
    /// The engine does not start.
    #[error("{0}")]
    Consensus(#[from] consensus::StartError),
    /// What is on the disk leads nowhere.
    #[error("the blocks on the disk cannot be followed: {0}")]
    Blocks(String),
}
