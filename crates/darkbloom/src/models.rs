//! From what a person calls a model to an open, verified file and its entry.

use crate::{failure::Failure, home::Home, progress};
use protocol::{ids::ModelDigest, link::ModelEntry};
use std::{fs::File, path::Path, sync::Arc};
use swarm::{
    catalogue::{Catalogue, DEFAULT_MODEL},
    entry::{Entry, Hash},
    fetch::{self, ModelFile, Settings},
    progress::Reporter,
    store::Store,
};

/// A model that can be served.
#[derive(Debug, Clone)]
pub struct Ready {
    /// As the pool is told.
    pub entry: ModelEntry,
    /// The descriptor that was verified.
    pub file: Arc<File>,
}

/// What to serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// A name of the catalogue.
    Name(String),
    /// A file of the owner's.
    File(String),
}

impl Wanted {
    /// A path has a slash or ends in `.gguf`; anything else is a name.
    pub fn parse(text: &str) -> Self {
        let is_file = text.contains('/') || text.to_ascii_lowercase().ends_with(".gguf");
        if is_file { Self::File(text.to_owned()) } else { Self::Name(text.to_owned()) }
    }
}

impl Default for Wanted {
    fn default() -> Self {
        Self::Name(DEFAULT_MODEL.to_owned())
    }
}

/// Gets a model onto this machine, verified.
pub async fn prepare(home: &Home, wanted: &Wanted, disk_bytes_max: u64) -> Result<Ready, Failure> {
    let store = Store::open(home.models())?;
    let (entry, model) = match wanted {
        Wanted::Name(name) => pull_from(&store, name, disk_bytes_max).await?,
        Wanted::File(path) => adopt(&store, path).await?,
    };
    let digest = model.digest;
    let verified = tokio::task::spawn_blocking(move || store.open_verified(digest))
        .await
        .map_err(|error| Failure::new(format!("verifying was interrupted: {error}")))??;
    Ok(Ready { entry: announced(&entry, &model), file: Arc::new(verified.file) })
}

/// Fetches a model of the catalogue, unless it is here.
pub async fn pull(home: &Home, name: &str, disk_bytes_max: u64) -> Result<ModelFile, Failure> {
    let store = Store::open(home.models())?;
    Ok(pull_from(&store, name, disk_bytes_max).await?.1)
}

async fn pull_from(store: &Store, name: &str, disk_bytes_max: u64) -> Result<(Entry, ModelFile), Failure> {
    let catalogue = Catalogue::built_in();
    let entries = catalogue.resolve(name);
    if entries.is_empty() {
        return Err(Failure::new(format!("the catalogue has no model `{name}`"))
            .hint("`darkbloom models ls` lists it; a file is given by its path, as in `--model ./FILE.gguf`"));
    }
    let entries = affordable(store, entries, disk_bytes_max)?;
    let model =
        drawn(async |reporter| Ok(fetch::fetch_first(&entries, store, &Settings::from_environment(), reporter).await?))
            .await?;
    let entry = entries.into_iter().find(|entry| entry.name == model.name).expect("one of them was fetched").clone();
    Ok((entry, model))
}

/// Those entries that are here, or that the disk may still take. The owner's own files, used where they lie, do not count.
fn affordable<'a>(store: &Store, entries: Vec<&'a Entry>, disk_bytes_max: u64) -> Result<Vec<&'a Entry>, Failure> {
    let taken: u64 = store.list()?.iter().filter(|stored| !stored.in_place).map(|stored| stored.bytes).sum();
    let mut affordable = Vec::new();
    let mut least = u64::MAX;
    for entry in entries {
        let is_here = digest_of(store, entry)?.is_some_and(|digest| store.contains(digest));
        let bytes = entry.size.bytes();
        if is_here || taken.saturating_add(bytes) <= disk_bytes_max {
            affordable.push(entry);
        }
        least = least.min(bytes);
    }
    if affordable.is_empty() {
        return Err(Failure::new(format!(
            "the model takes {least} bytes; with the {taken} of the models that are here that is more than `disk_bytes_max` \
             in config.toml allows: {disk_bytes_max}"
        ))
        .hint("raise it, or remove a model that is not needed"));
    }
    Ok(affordable)
}

/// The hash of an entry's file, where it is pinned or has been learned.
pub fn digest_of(store: &Store, entry: &Entry) -> Result<Option<ModelDigest>, Failure> {
    match entry.hash {
        Hash::Blake3(digest) => Ok(Some(digest)),
        Hash::Learned => Ok(store.learned(&entry.name)?.map(|learned| learned.blake3)),
    }
}

async fn adopt(store: &Store, path: &str) -> Result<(Entry, ModelFile), Failure> {
    let (path, store) = (Path::new(path).to_owned(), store.clone());
    let (entry, model) = drawn(async move |reporter| {
        let reporter = reporter.clone();
        tokio::task::spawn_blocking(move || fetch::adopt(&path, &store, &reporter))
            .await
            .map_err(|error| Failure::new(format!("hashing was interrupted: {error}")))?
            .map_err(Failure::from)
    })
    .await?;
    // A file that the catalogue knows is called what the catalogue calls it.
    let known = Catalogue::built_in().entries().iter().find(|known| known.hash == Hash::Blake3(model.digest)).cloned();
    Ok((known.unwrap_or(entry), model))
}

/// Runs a fetch with its progress on the terminal.
async fn drawn<T>(work: impl AsyncFnOnce(&Reporter) -> Result<T, Failure>) -> Result<T, Failure> {
    let (reporter, watch) = swarm::progress::channel();
    let drawing = progress::draw(watch);
    let result = work(&reporter).await;
    drop(reporter);
    // It only draws.
    let _ = drawing.await;
    result
}

fn announced(entry: &Entry, model: &ModelFile) -> ModelEntry {
    let created_unix_s = u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or_default();
    ModelEntry {
        name: entry.name.clone(),
        // `default` is the pool's to say.
        aliases: entry.aliases.iter().filter(|alias| *alias != DEFAULT_MODEL).cloned().collect(),
        digest: model.digest,
        bytes: model.bytes,
        licence: entry.licence.id.clone(),
        created_unix_s,
    }
}

/// What to serve in a pool whose default model has this name and digest: the catalogue's entry for that very file.
pub fn same_file(name: &str, digest: ModelDigest) -> Result<Wanted, Failure> {
    let catalogue = Catalogue::built_in();
    let pinned = catalogue.entries().iter().find(|entry| entry.hash == Hash::Blake3(digest));
    let learned = catalogue.entries().iter().find(|entry| entry.hash == Hash::Learned && entry.name == name);
    match pinned.or(learned) {
        Some(entry) => Ok(Wanted::Name(entry.name.clone())),
        None => Err(Failure::new(format!("the pool serves `{name}`, which is a file of one of its members"))
            .hint("copy that file here and give it: `--model FILE.gguf`")),
    }
}
