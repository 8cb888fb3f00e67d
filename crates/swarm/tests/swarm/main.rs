//! Fetching and keeping models, against a real HTTP server that misbehaves in every way we could think of.

#![allow(clippy::unwrap_used, reason = "support of tests is tests too")]

mod child;
mod concurrent;
mod hub_server;
mod interrupted;
mod learned;
mod origins;
mod python;
mod stored;

use hub_server::Hub;
use protocol::ids::ModelDigest;
use std::time::Duration;
use swarm::{
    entry::{Entry, Hash, Licence, Size},
    fetch::{HubSettings, Patience, PythonSettings, Settings},
    origin::{HubFile, Origin},
    progress::{self, Reporter},
    store::Store,
};
use tempfile::TempDir;

/// A file that no compression or repetition can fake, and that begins as GGUF does.
fn weights(bytes: usize) -> Vec<u8> {
    let mut data = vec![0; bytes];
    blake3::Hasher::new().update(b"weights").finalize_xof().fill(&mut data);
    data[..4].copy_from_slice(b"GGUF");
    data
}

fn blake3_of(data: &[u8]) -> ModelDigest {
    ModelDigest(*blake3::hash(data).as_bytes())
}

fn hub_origin(repo: &str) -> Origin {
    Origin::Hub(HubFile { repo: repo.into(), revision: "main".into(), file: "dir/model.gguf".into() })
}

fn entry(hash: Hash, size: Size, origins: Vec<Origin>) -> Entry {
    let licence = Licence { id: "MIT".into(), url: Some("https://example.com/licence".into()), gated: false };
    Entry {
        name: "test-model".into(),
        aliases: Vec::new(),
        description: "a test".into(),
        licence,
        size,
        context_tokens: None,
        memory_bytes_min: 1,
        quantisation: "F16".into(),
        architecture: "llama".into(),
        hash,
        origins,
    }
}

fn pinned(data: &[u8], origins: Vec<Origin>) -> Entry {
    entry(Hash::Blake3(blake3_of(data)), Size::Exact(data.len() as u64), origins)
}

fn learning(data: &[u8], origins: Vec<Origin>) -> Entry {
    entry(Hash::Learned, Size::About(data.len() as u64 + 5), origins)
}

/// Patient enough for a busy machine; tests of stalls shorten one value.
fn settings(hub: &Hub) -> Settings {
    Settings {
        network: true,
        hub: HubSettings { endpoint: hub.url(), token: None },
        python: PythonSettings { commands: Vec::new() },
        patience: Patience {
            connect: Duration::from_secs(20),
            answer: Duration::from_secs(20),
            stall: Duration::from_secs(20),
            bytes_min: 1,
            attempts_idle_max: 3,
            retry_pause: Duration::from_millis(1),
            lock_poll: Duration::from_millis(5),
        },
    }
}

fn store() -> (TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path().join("store")).unwrap();
    (directory, store)
}

/// A reporter that nobody watches.
fn quiet() -> Reporter {
    progress::channel().0
}

/// Files of transfers that are left, except locks.
fn left_over(store: &Store) -> Vec<String> {
    let names = std::fs::read_dir(store.root().join("partial")).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| !name.ends_with(".lock")).collect()
}
