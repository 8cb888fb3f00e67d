//! A transfer that has not ended: a file that grows, its two hashes, what is needed to go on after a kill, and the lock
//! that keeps others away.

use super::{error::is_disk_full, remove_if_there, replace};
use crate::digest::Sha256Digest;
use protocol::ids::ModelDigest;
use serde::{Deserialize, Serialize};
use sha2::Digest;
use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

/// Held by whoever fetches a model. Freed by the system when its holder dies.
#[derive(Debug)]
pub(crate) struct FetchLock {
    _file: File,
}

impl FetchLock {
    /// Takes the lock; `None` if another process, or another task of this one, has it.
    pub(crate) fn try_take(directory: &Path, key: &str) -> io::Result<Option<Arc<Self>>> {
        // The lock file stays for good: removing it would let two holders lock two files of one name.
        let file = File::create(directory.join(format!("{key}.lock")))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Arc::new(Self { _file: file }))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

/// What a later run must know to go on with a transfer.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PartState {
    /// The origin, as text.
    pub(crate) origin: String,
    /// The validator that the sending server gave for its file.
    #[serde(default)]
    pub(crate) etag: Option<String>,
    /// The SHA-256 that the origin published.
    #[serde(default)]
    pub(crate) sha256: Option<Sha256Digest>,
    /// Bytes of the whole file.
    pub(crate) bytes_total: u64,
}

/// Why bytes could not be added.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PartError {
    #[error("more bytes than the {bytes_total} announced")]
    TooLong { bytes_total: u64 },
    #[error("the disk is full")]
    DiskFull { path: PathBuf },
    #[error("could not write `{}`", path.display())]
    Io { path: PathBuf, source: io::Error },
}

/// The hashes of a finished transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Digests {
    pub(crate) blake3: ModelDigest,
    /// `None`: nobody published one to compare with, so it was not worth a pass over the bytes.
    pub(crate) sha256: Option<Sha256Digest>,
    pub(crate) bytes: u64,
}

/// The growing file. Every byte is hashed once, as it is written, or as it is read back after a kill.
#[derive(Debug)]
pub(crate) struct Part {
    path: PathBuf,
    state_path: PathBuf,
    file: File,
    blake3: blake3::Hasher,
    sha256: Option<sha2::Sha256>,
    bytes: u64,
    bytes_total: u64,
    /// Bytes that an earlier run, or an earlier attempt, had received.
    resumed_bytes: u64,
    _lock: Arc<FetchLock>,
}

impl Part {
    /// Opens the part of a model for a file of `bytes_total` bytes. What is there is kept and hashed if `keep` says so.
    pub(crate) fn open(
        directory: &Path,
        key: &str,
        lock: Arc<FetchLock>,
        bytes_total: u64,
        with_sha256: bool,
        keep: impl FnOnce(&PartState) -> bool,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Self, PartError> {
        let path = directory.join(format!("{key}.part"));
        let state_path = directory.join(format!("{key}.toml"));
        let state: Option<PartState> = fs::read_to_string(&state_path).ok().and_then(|text| toml::from_str(&text).ok());
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(|source| io_error(&path, source))?;
        let length = file.metadata().map_err(|source| io_error(&path, source))?.len();
        let mut part = Self {
            path,
            state_path,
            file,
            blake3: blake3::Hasher::new(),
            sha256: with_sha256.then(sha2::Sha256::new),
            bytes: 0,
            bytes_total,
            resumed_bytes: 0,
            _lock: lock,
        };
        if length > 0 && length <= bytes_total && state.is_some_and(|state| keep(&state)) {
            part.read_back(length, progress)?;
        } else {
            part.restart()?;
        }
        Ok(part)
    }

    fn read_back(&mut self, length: u64, progress: &mut dyn FnMut(u64, u64)) -> Result<(), PartError> {
        let mut buffer = vec![0; 512 << 10];
        while self.bytes < length {
            let count = self.file.read(&mut buffer).map_err(|source| io_error(&self.path, source))?;
            if count == 0 {
                break;
            }
            self.hash(&buffer[..count]);
            progress(self.bytes, length);
        }
        self.resumed_bytes = self.bytes;
        Ok(())
    }

    /// Begins again from nothing.
    pub(crate) fn restart(&mut self) -> Result<(), PartError> {
        self.file
            .set_len(0)
            .and_then(|()| self.file.seek(SeekFrom::Start(0)))
            .map_err(|source| io_error(&self.path, source))?;
        self.blake3.reset();
        if let Some(sha256) = &mut self.sha256 {
            sha256.reset();
        }
        self.bytes = 0;
        self.resumed_bytes = 0;
        Ok(())
    }

    /// Notes what a later run needs to know.
    pub(crate) fn note(&self, state: &PartState) -> Result<(), PartError> {
        let text = toml::to_string(state).map_err(io::Error::other);
        text.and_then(|text| replace(&self.state_path, &text)).map_err(|source| io_error(&self.state_path, source))
    }

    /// The state that was noted last.
    pub(crate) fn state(&self) -> Option<PartState> {
        toml::from_str(&fs::read_to_string(&self.state_path).ok()?).ok()
    }

    /// Appends bytes. Never more than the whole file has.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), PartError> {
        if self.bytes + bytes.len() as u64 > self.bytes_total {
            return Err(PartError::TooLong { bytes_total: self.bytes_total });
        }
        self.file.write_all(bytes).map_err(|source| io_error(&self.path, source))?;
        self.hash(bytes);
        Ok(())
    }

    fn hash(&mut self, bytes: &[u8]) {
        self.blake3.update(bytes);
        if let Some(sha256) = &mut self.sha256 {
            sha256.update(bytes);
        }
        self.bytes += bytes.len() as u64;
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn bytes_total(&self) -> u64 {
        self.bytes_total
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.bytes == self.bytes_total
    }

    pub(crate) fn resumed_bytes(&self) -> u64 {
        self.resumed_bytes
    }

    pub(crate) fn digests(&self) -> Digests {
        Digests {
            blake3: ModelDigest(*self.blake3.finalize().as_bytes()),
            sha256: self.sha256.clone().map(|sha256| Sha256Digest(sha256.finalize().into())),
            bytes: self.bytes,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Removes the bytes and the state: they are not what they should be.
    pub(crate) fn discard(self) {
        for path in [&self.path, &self.state_path] {
            if let Err(error) = remove_if_there(path) {
                tracing::warn!(path = %path.display(), %error, "a refused transfer could not be removed");
            }
        }
    }

    /// The bytes are in the store now; only the state is left to remove.
    pub(crate) fn forget(self) {
        if let Err(error) = remove_if_there(&self.state_path) {
            tracing::warn!(path = %self.state_path.display(), %error, "the state of a finished transfer could not be removed");
        }
    }
}

fn io_error(path: &Path, source: io::Error) -> PartError {
    let path = path.to_owned();
    if is_disk_full(&source) { PartError::DiskFull { path } } else { PartError::Io { path, source } }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(directory: &Path, total: u64, keep: bool) -> Part {
        let lock = FetchLock::try_take(directory, "k").unwrap().expect("free");
        Part::open(directory, "k", lock, total, true, |_| keep, &mut |_, _| ()).unwrap()
    }

    #[test]
    fn a_part_goes_on_where_it_stopped() {
        let directory = tempfile::tempdir().unwrap();
        let mut part = open(directory.path(), 6, true);
        part.note(&PartState::default()).unwrap();
        part.write(b"abc").unwrap();
        drop(part);
        let mut part = open(directory.path(), 6, true);
        assert_eq!((part.bytes(), part.resumed_bytes()), (3, 3));
        part.write(b"def").unwrap();
        assert!(part.is_whole());
        assert_eq!(part.digests().blake3.0, *blake3::hash(b"abcdef").as_bytes());
        assert_eq!(part.digests().sha256, Some(Sha256Digest(sha2::Sha256::digest(b"abcdef").into())));
        assert!(matches!(part.write(b"g"), Err(PartError::TooLong { bytes_total: 6 })));
        drop(part);
        assert_eq!(open(directory.path(), 6, false).bytes(), 0, "not kept");
    }

    #[test]
    fn bytes_without_their_state_are_not_trusted() {
        let directory = tempfile::tempdir().unwrap();
        let mut part = open(directory.path(), 6, true);
        part.write(b"abc").unwrap();
        drop(part);
        assert_eq!(open(directory.path(), 6, true).bytes(), 0, "no state was ever noted");
        fs::write(directory.path().join("k.toml"), "nonsense").unwrap();
        fs::write(directory.path().join("k.part"), "abc").unwrap();
        assert_eq!(open(directory.path(), 6, true).bytes(), 0, "the state is damaged");
        fs::write(directory.path().join("k.part"), "abcdefgh").unwrap();
        assert_eq!(open(directory.path(), 6, true).bytes(), 0, "longer than the file can be");
    }

    #[test]
    fn one_holder_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let held = FetchLock::try_take(directory.path(), "k").unwrap();
        assert!(held.is_some());
        assert!(FetchLock::try_take(directory.path(), "k").unwrap().is_none());
        assert!(FetchLock::try_take(directory.path(), "other").unwrap().is_some());
        drop(held);
        assert!(FetchLock::try_take(directory.path(), "k").unwrap().is_some());
    }

    /// `/dev/full` answers every write as a full disk does.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_named() {
        let directory = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/dev/full", directory.path().join("k.part")).unwrap();
        let lock = FetchLock::try_take(directory.path(), "k").unwrap().expect("free");
        let file = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut part = open_on(file, directory.path(), lock);
        assert!(matches!(part.write(b"abc"), Err(PartError::DiskFull { .. })));
    }

    #[cfg(target_os = "linux")]
    fn open_on(file: File, directory: &Path, lock: Arc<FetchLock>) -> Part {
        Part {
            path: directory.join("k.part"),
            state_path: directory.join("k.toml"),
            file,
            blake3: blake3::Hasher::new(),
            sha256: None,
            bytes: 0,
            bytes_total: 6,
            resumed_bytes: 0,
            _lock: lock,
        }
    }
}
