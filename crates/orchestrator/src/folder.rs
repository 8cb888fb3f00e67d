//! What an orchestrator keeps in its folder beside what was agreed on: which pool it serves and where it listened.
//!
//! | file | what |
//! |---|---|
//! | `founding` | the pool's [`Founding`], with the secret that admits; for its owner only |
//! | `member` | the orchestrator whose folder this is, and its port |
//! | `committee/` | blocks, votes and state: `committee::Member` |
//! | `history/` | how credits moved (`history`) |
//! | `lock` | keeps the folder to one process |

use protocol::{founding::Founding, ids::NodeId, line::ParseLineError};
use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// Readable and writable by the owner only.
const OWNER_ONLY: u32 = 0o600;
/// No file here is longer.
const FILE_BYTES_MAX: u64 = 16 << 10;

/// Why the folder cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FolderError {
    /// Another process has it.
    #[error("{} is in use by another orchestrator: stop that one, or choose another folder", path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// It cannot be read or written.
    #[error("cannot use {}: {cause}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// The line that leads into the pool is none.
    #[error("{}: {cause}; restore it from a copy", path.display())]
    Founding {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        cause: ParseLineError,
    },
    /// There is an agreed state, and not the line that it began with.
    #[error("{} is missing: restore it from a copy, or found a new pool in another folder", path.display())]
    NoFounding {
        /// The file.
        path: PathBuf,
    },
    /// The file that says whose folder it is says something else.
    #[error("{} is damaged: restore it from a copy", path.display())]
    Member {
        /// The file.
        path: PathBuf,
    },
}

/// An orchestrator's folder. While it lives, no other process has it.
pub(crate) struct Folder {
    root: PathBuf,
    _lock: File,
}

/// Whose folder it is, and where that one listened last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Own {
    pub(crate) id: NodeId,
    pub(crate) port: Option<u16>,
}

impl Folder {
    /// Takes the folder; makes it where there is none.
    pub(crate) fn take(root: &Path) -> Result<Self, FolderError> {
        let fail = |path: &Path| {
            let path = path.to_owned();
            move |cause| FolderError::File { path, cause }
        };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(root).map_err(fail(root))?;
        let path = root.join("lock");
        let mut options = OpenOptions::new();
        let lock =
            options.write(true).create(true).truncate(false).mode(OWNER_ONLY).open(&path).map_err(fail(&path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { root: root.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(FolderError::InUse { path: root.to_owned() }),
            Err(TryLockError::Error(cause)) => Err(FolderError::File { path, cause }),
        }
    }

    /// Where what was agreed on lies.
    pub(crate) fn committee(&self) -> PathBuf {
        self.root.join("committee")
    }

    /// Where the history of the ledger lies.
    pub(crate) fn history(&self) -> PathBuf {
        self.root.join("history")
    }

    /// The pool that it serves, if it serves one already.
    pub(crate) fn founding(&self) -> Result<Option<Founding>, FolderError> {
        let path = self.root.join("founding");
        match self.read("founding")? {
            Some(line) => line.parse().map(Some).map_err(|cause| FolderError::Founding { path, cause }),
            None if self.committee().exists() => Err(FolderError::NoFounding { path }),
            None => Ok(None),
        }
    }

    /// Serves this pool from now on. On the disk when this returns.
    pub(crate) fn found(&self, founding: &Founding) -> Result<(), FolderError> {
        self.write("founding", &format!("{founding}\n"))
    }

    /// Whose folder it is, if somebody's.
    pub(crate) fn own(&self) -> Result<Option<Own>, FolderError> {
        let Some(text) = self.read("member")? else { return Ok(None) };
        let damaged = || FolderError::Member { path: self.root.join("member") };
        let mut words = text.split_whitespace();
        let id = words.next().and_then(|id| id.parse().ok()).ok_or_else(damaged)?;
        let port = words.next().map(|port| port.parse().map_err(|_| damaged())).transpose()?;
        Ok(Some(Own { id, port }))
    }

    /// Remembers whose folder it is, and the port.
    pub(crate) fn set_own(&self, own: Own) -> Result<(), FolderError> {
        let port = own.port.map_or_else(String::new, |port| format!(" {port}"));
        self.write("member", &format!("{}{port}\n", own.id))
    }

    fn read(&self, name: &str) -> Result<Option<String>, FolderError> {
        let path = self.root.join(name);
        let fail = |cause| FolderError::File { path: path.clone(), cause };
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(fail(error)),
        };
        if file.metadata().map_err(fail)?.permissions().mode() & 0o077 != 0 {
            tracing::warn!(path = %path.display(), "others could read this file; closing it to them now");
            file.set_permissions(fs::Permissions::from_mode(OWNER_ONLY)).map_err(fail)?;
        }
        let mut text = String::new();
        file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(fail)?;
        Ok(Some(text))
    }

    /// Complete or not at all, whenever the power fails.
    fn write(&self, name: &str, text: &str) -> Result<(), FolderError> {
        let (path, new) = (self.root.join(name), self.root.join(format!("{name}.new")));
        let write = || -> io::Result<()> {
            match fs::remove_file(&new) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = OpenOptions::new().write(true).create_new(true).mode(OWNER_ONLY).open(&new)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            File::open(&self.root)?.sync_all()
        };
        write().map_err(|cause| FolderError::File { path: path.clone(), cause })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::genesis::Genesis;

    fn founding() -> Founding {
        Founding {
            genesis: Genesis::new(vec![NodeId([1; 32])], &[7; 32], 5),
            orchestrators: Vec::new(),
            secret: [7; 32],
        }
    }

    #[test]
    fn what_is_kept_comes_back_and_one_process_has_it() {
        let parent = tempfile::tempdir().unwrap();
        let root = parent.path().join("pool");
        let folder = Folder::take(&root).unwrap();
        assert!(folder.founding().unwrap().is_none() && folder.own().unwrap().is_none());
        // What a crash left behind is no obstacle.
        fs::write(root.join("founding.new"), "half").unwrap();
        folder.found(&founding()).unwrap();
        let own = Own { id: NodeId([1; 32]), port: Some(4000) };
        folder.set_own(Own { port: None, ..own }).unwrap();
        folder.set_own(own).unwrap();
        assert!(matches!(Folder::take(&root), Err(FolderError::InUse { .. })));
        drop(folder);
        let folder = Folder::take(&root).unwrap();
        assert_eq!((folder.founding().unwrap(), folder.own().unwrap()), (Some(founding()), Some(own)));
    }

    #[test]
    fn the_secret_is_the_owners() {
        let parent = tempfile::tempdir().unwrap();
        let folder = Folder::take(parent.path()).unwrap();
        folder.found(&founding()).unwrap();
        let path = parent.path().join("founding");
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(), 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(folder.founding().unwrap().is_some());
        assert_eq!(mode(), 0o600, "closed again");
    }

    #[test]
    fn what_is_damaged_or_missing_is_refused_with_its_place() {
        let parent = tempfile::tempdir().unwrap();
        let folder = Folder::take(parent.path()).unwrap();
        fs::create_dir(folder.committee()).unwrap();
        assert!(matches!(folder.founding(), Err(FolderError::NoFounding { .. })));
        fs::write(parent.path().join("founding"), "nonsense").unwrap();
        assert!(matches!(folder.founding(), Err(FolderError::Founding { .. })));
        fs::write(parent.path().join("member"), "nonsense").unwrap();
        assert!(matches!(folder.own(), Err(FolderError::Member { .. })));
    }
}
