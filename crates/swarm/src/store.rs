//! The models on this machine, by hash. Nothing leaves the store unverified.
//!
//! ```text
//! models/<blake3>.gguf       a verified file, read-only
//! references/<blake3>.toml   a file elsewhere that its owner named, used in place
//! stamps/<blake3>.toml       size, inode and times of the file when it was last hashed
//! learned.toml               hashes fixed at a first fetch
//! partial/                   transfers that have not ended, their locks and staging
//! ```
//!
//! **When a file is hashed.** Always before it enters the store. Again by [`Store::open_verified`] on every start if it has
//! at most [`REHASH_BYTES_MAX`] bytes, or if its stamp (size, inode, device, modification and change time) is not that of
//! the last hash: so an edited, replaced or truncated file is found however large it is. What a stamp cannot see is a disk
//! that silently returns other bytes: for files above the limit that takes [`Store::verify`].
//!
//! **A local file** (`--model FILE.gguf`) is used in place, not copied: weights are large and it is its owner's file. It is
//! never removed by the store.

mod error;
mod hashing;
mod learned;
mod part;
mod stamp;

pub use error::StoreError;
pub use hashing::hash_file;
pub use learned::Learned;
pub(crate) use part::{Digests, FetchLock, Part, PartError, PartState};

use protocol::ids::ModelDigest;
use stamp::{Reference, Stamp};
use std::{
    fs::{self, File, Permissions},
    io,
    os::unix::fs::{FileExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// Files up to this size are hashed at every opening: at more than 1 GB/s a core that costs less than 0.3 s.
pub const REHASH_BYTES_MAX: u64 = 256 << 20;

/// First four bytes of every GGUF file.
const GGUF_MAGIC: [u8; 4] = *b"GGUF";

/// A directory of models.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

/// A file whose bytes have the hash that names it.
#[derive(Debug)]
pub struct VerifiedFile {
    /// Its hash.
    pub digest: ModelDigest,
    /// The open descriptor that was verified, at offset 0, read-only.
    pub file: File,
    /// Where it is.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
}

/// One model that the store has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its hash.
    pub digest: ModelDigest,
    /// Where it is.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// It is its owner's file, used where it lies.
    pub in_place: bool,
}

impl Store {
    /// Opens a store, creating its directories.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let store = Self { root: root.into() };
        for directory in ["models", "references", "stamps", "partial"] {
            let path = store.root.join(directory);
            fs::create_dir_all(&path).map_err(|source| StoreError::io("create", &path, source))?;
        }
        Ok(store)
    }

    /// The directory of this store.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where a fetched model lies once it is verified.
    pub fn path_of(&self, digest: ModelDigest) -> PathBuf {
        self.root.join("models").join(format!("{digest}.gguf"))
    }

    pub(crate) fn partial(&self) -> PathBuf {
        self.root.join("partial")
    }

    fn stamp_path(&self, digest: ModelDigest) -> PathBuf {
        self.root.join("stamps").join(format!("{digest}.toml"))
    }

    fn reference_path(&self, digest: ModelDigest) -> PathBuf {
        self.root.join("references").join(format!("{digest}.toml"))
    }

    /// Opens a model for serving. It is hashed first unless it is large and untouched since it was last hashed (see the
    /// [module](self)). A file with another hash is removed from the store and named in the error. Blocks while hashing.
    pub fn open_verified(&self, digest: ModelDigest) -> Result<VerifiedFile, StoreError> {
        self.open_with(digest, false, &mut |_, _| ())
    }

    /// Like [`Store::open_verified`], but always hashes the whole file. `progress` gets bytes done and bytes of the file.
    pub fn verify(&self, digest: ModelDigest, progress: &mut dyn FnMut(u64, u64)) -> Result<VerifiedFile, StoreError> {
        self.open_with(digest, true, progress)
    }

    fn open_with(
        &self,
        digest: ModelDigest,
        always_hash: bool,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<VerifiedFile, StoreError> {
        let mut missing = StoreError::Missing { digest, path: self.path_of(digest) };
        for (path, in_place) in self.places(digest) {
            let file = match File::open(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    if in_place {
                        missing = StoreError::Missing { digest, path };
                    }
                    continue;
                }
                Err(source) => return Err(StoreError::io("open", &path, source)),
            };
            let stamp = Stamp::of(&file).map_err(|source| StoreError::io("read", &path, source))?;
            let trusted = stamp.bytes > REHASH_BYTES_MAX && Stamp::load(&self.stamp_path(digest)) == Some(stamp);
            if always_hash || !trusted {
                let actual = hash_file(&file, &mut |done| progress(done, stamp.bytes))
                    .map_err(|source| StoreError::io("read", &path, source))?;
                if actual != digest {
                    return Err(self.refuse(digest, actual, path, in_place));
                }
                self.remember(digest, stamp);
            }
            return Ok(VerifiedFile { digest, file, path, bytes: stamp.bytes });
        }
        Err(missing)
    }

    /// Where a model may lie, fetched files first, and whether it is somebody's file used in place.
    fn places(&self, digest: ModelDigest) -> Vec<(PathBuf, bool)> {
        let reference = Reference::load(&self.reference_path(digest));
        let fetched = (self.path_of(digest), false);
        std::iter::once(fetched).chain(reference.map(|reference| (reference.path, true))).collect()
    }

    /// A stamp only saves a hash at the next start, so failing to write one is no failure.
    fn remember(&self, digest: ModelDigest, stamp: Stamp) {
        if let Err(error) = stamp.save(&self.stamp_path(digest)) {
            tracing::warn!(%digest, %error, "the stamp of a verified model could not be written");
        }
    }

    /// Takes a file with the wrong hash out of the store. A file that is used in place stays where its owner put it.
    fn refuse(&self, expected: ModelDigest, actual: ModelDigest, path: PathBuf, in_place: bool) -> StoreError {
        tracing::warn!(path = %path.display(), %expected, %actual, "a stored model is corrupt: refused");
        let stale = if in_place { self.reference_path(expected) } else { path.clone() };
        let removed = remove_if_there(&stale).and_then(|()| remove_if_there(&self.stamp_path(expected)));
        match removed {
            Ok(()) => StoreError::Corrupt { path, expected, actual, in_place },
            Err(source) => StoreError::io("remove", &stale, source),
        }
    }

    /// Whether a model is here, unverified.
    pub fn contains(&self, digest: ModelDigest) -> bool {
        self.places(digest).iter().any(|(path, _)| path.is_file())
    }

    /// Every model that is here, unverified, by hash.
    pub fn list(&self) -> Result<Vec<Stored>, StoreError> {
        let mut digests = Vec::new();
        for directory in ["models", "references"] {
            let path = self.root.join(directory);
            let entries = fs::read_dir(&path).map_err(|source| StoreError::io("read", &path, source))?;
            // Whatever else somebody put into these directories is not ours and not a model.
            digests.extend(
                entries.flatten().filter_map(|entry| {
                    Path::new(&entry.file_name()).file_stem()?.to_str()?.parse::<ModelDigest>().ok()
                }),
            );
        }
        digests.sort_unstable();
        digests.dedup();
        let stored = digests.into_iter().filter_map(|digest| {
            self.places(digest).into_iter().find_map(|(path, in_place)| {
                let bytes = fs::metadata(&path).ok().filter(fs::Metadata::is_file)?.len();
                Some(Stored { digest, path, bytes, in_place })
            })
        });
        Ok(stored.collect())
    }

    /// Forgets a model. Its file is deleted, unless it is used in place.
    pub fn remove(&self, digest: ModelDigest) -> Result<(), StoreError> {
        for path in [self.path_of(digest), self.reference_path(digest), self.stamp_path(digest)] {
            remove_if_there(&path).map_err(|source| StoreError::io("remove", &path, source))?;
        }
        Ok(())
    }

    /// Takes up a local GGUF file where it lies, and returns its hash. A file that is unchanged since it was last taken up
    /// is not hashed again. Blocks while hashing.
    pub fn adopt(&self, path: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<Stored, StoreError> {
        let path = fs::canonicalize(path).map_err(|source| StoreError::io("open", path, source))?;
        let fail = |source| StoreError::io("read", &path, source);
        // Asked before opening: opening a pipe would wait for its writer.
        if !fs::metadata(&path).map_err(fail)?.is_file() {
            return Err(StoreError::NotGguf { path });
        }
        let file = File::open(&path).map_err(fail)?;
        let mut magic = [0; 4];
        if file.read_exact_at(&mut magic, 0).is_err() || magic != GGUF_MAGIC {
            return Err(StoreError::NotGguf { path });
        }
        let stamp = Stamp::of(&file).map_err(fail)?;
        if let Some(known) = self.list()?.into_iter().find(|stored| stored.in_place && stored.path == path)
            && Stamp::load(&self.stamp_path(known.digest)) == Some(stamp)
        {
            return Ok(known);
        }
        let digest = hash_file(&file, &mut |done| progress(done, stamp.bytes)).map_err(fail)?;
        let record = self.reference_path(digest);
        Reference { path: path.clone() }.save(&record).map_err(|source| StoreError::io("write", &record, source))?;
        if !self.path_of(digest).is_file() {
            self.remember(digest, stamp);
        }
        Ok(Stored { digest, path, bytes: stamp.bytes, in_place: true })
    }

    /// Moves a finished, verified transfer to its place: read-only, durable, and visible only whole.
    pub(crate) fn install(&self, part: Part, digest: ModelDigest) -> Result<PathBuf, StoreError> {
        let path = self.path_of(digest);
        let fail = |source| StoreError::io("write", &path, source);
        part.file().sync_all().map_err(fail)?;
        part.file().set_permissions(Permissions::from_mode(0o444)).map_err(fail)?;
        fs::rename(part.path(), &path).map_err(fail)?;
        File::open(self.root.join("models")).and_then(|directory| directory.sync_all()).map_err(fail)?;
        match Stamp::of(part.file()) {
            Ok(stamp) => self.remember(digest, stamp),
            Err(source) => return Err(fail(source)),
        }
        part.forget();
        Ok(path)
    }

    /// Bytes that may still be written on the store's disk; `None` if the system doesn't say.
    pub(crate) fn free_bytes(&self) -> Option<u64> {
        let disk = nix::sys::statvfs::statvfs(&self.root).ok()?;
        // Some systems have narrower types here.
        #[allow(clippy::useless_conversion, clippy::unnecessary_fallible_conversions)]
        let (blocks, size) = (u64::try_from(disk.blocks_available()).ok()?, u64::try_from(disk.fragment_size()).ok()?);
        Some(blocks.saturating_mul(size))
    }
}

/// Removes a file; one that is not there is fine.
fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Replaces a small file so that a reader, or a crash, sees the old text or the new one, never half of it.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    use std::{
        io::Write,
        sync::atomic::{AtomicU64, Ordering},
    };
    // Two tasks of one process, or two processes, may replace one file at the same moment.
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let mut name = path.file_name().map(ToOwned::to_owned).unwrap_or_default();
    name.push(format!(".{}-{}.new", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
    let fresh = path.with_file_name(name);
    let written = File::create(&fresh).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    let replaced = written.and_then(|()| fs::rename(&fresh, path));
    if replaced.is_err() {
        // The first error is the one to report.
        let _ = fs::remove_file(&fresh);
    }
    replaced
}
