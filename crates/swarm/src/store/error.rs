//! Why the store could not do what it was asked.

use protocol::ids::ModelDigest;
use std::{
    io,
    path::{Path, PathBuf},
};

/// Why the store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The model is not here.
    #[error("model {} is not in the store: no file `{}`", digest.short(), path.display())]
    Missing {
        /// Its hash.
        digest: ModelDigest,
        /// Where it would be.
        path: PathBuf,
    },
    /// The file is not the one that was verified. It is no longer in the store.
    #[error("`{}` is corrupt: expected BLAKE3 {expected}, found {actual}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// The hash that names it.
        expected: ModelDigest,
        /// The hash of its bytes.
        actual: ModelDigest,
        /// It is its owner's file, used in place; it was not deleted.
        in_place: bool,
    },
    /// A local file that is no GGUF file.
    #[error("`{}` is not a GGUF file", path.display())]
    NotGguf {
        /// The file.
        path: PathBuf,
    },
    /// The record of learned hashes is damaged. It is not overwritten: what it fixed must not be forgotten silently.
    #[error("`{}` is damaged: {why}", path.display())]
    LearnedDamaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The disk is full.
    #[error("the disk is full: could not {action} `{}`", path.display())]
    DiskFull {
        /// What was being done.
        action: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// The system refused.
    #[error("could not {action} `{}`", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Whether an error of the system means that the disk, or this user's share of it, is used up.
pub(super) fn is_disk_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

impl StoreError {
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        if is_disk_full(&source) { Self::DiskFull { action, path } } else { Self::Io { action, path, source } }
    }

    /// What a person can do about it.
    pub fn remedy(&self) -> String {
        match self {
            Self::Missing { .. } => "fetch the model again, or name its file with `--model FILE.gguf`".to_owned(),
            Self::Corrupt { in_place: true, .. } => {
                "the file changed since it was taken up: name it again with `--model` if that is what you want"
                    .to_owned()
            }
            Self::Corrupt { .. } => {
                "it was removed and will be fetched again; if this repeats, check the disk".to_owned()
            }
            Self::NotGguf { .. } => "give a model in GGUF form".to_owned(),
            Self::LearnedDamaged { path, .. } => {
                format!("repair `{}`, or delete it to trust the hub's hashes once more", path.display())
            }
            Self::DiskFull { path, .. } => format!("free space on the disk of `{}`", path.display()),
            Self::Io { path, .. } => format!("check that this user may read and write `{}`", path.display()),
        }
    }
}
