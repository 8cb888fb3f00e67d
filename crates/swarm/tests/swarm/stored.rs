//! What the store keeps, finds damaged, and refuses.

use crate::{
    hub_server::{Hub, Repo},
    *,
};
use std::{
    fs::{self, Permissions},
    io::Read,
    os::unix::fs::PermissionsExt,
    path::Path,
};
use swarm::{
    fetch::{self, fetch},
    store::StoreError,
};

const BYTES: usize = 400_000;

async fn fetched(hub: &Hub, data: &[u8]) -> (TempDir, Store, Entry) {
    let (directory, store) = store();
    let entry = pinned(data, vec![hub_origin("owner/name")]);
    fetch(&entry, &store, &settings(hub), &quiet()).await.unwrap();
    (directory, store, entry)
}

fn overwrite(path: &Path, data: &[u8]) {
    fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap();
    fs::write(path, data).unwrap();
}

#[tokio::test]
async fn a_stored_model_is_read_only_and_opens_verified() {
    let data = weights(BYTES);
    let (_directory, store, _) = fetched(&Hub::with(Repo::new(&data)), &data).await;
    let digest = blake3_of(&data);
    assert_eq!(fs::metadata(store.path_of(digest)).unwrap().permissions().mode() & 0o777, 0o444);
    let mut opened = store.open_verified(digest).unwrap();
    let mut read = Vec::new();
    opened.file.read_to_end(&mut read).unwrap();
    assert_eq!((read, opened.bytes), (data, BYTES as u64));
    assert_eq!(store.list().unwrap().len(), 1);
    store.remove(digest).unwrap();
    assert!(matches!(store.open_verified(digest), Err(StoreError::Missing { .. })));
    assert!(store.list().unwrap().is_empty());
}

#[tokio::test]
async fn a_model_damaged_on_disk_is_refused_named_and_fetched_again() {
    let data = weights(BYTES);
    let hub = Hub::with(Repo::new(&data));
    let (_directory, store, entry) = fetched(&hub, &data).await;
    let (digest, path) = (blake3_of(&data), store.path_of(blake3_of(&data)));
    let mut damaged = data.clone();
    damaged[BYTES - 1] ^= 1;
    overwrite(&path, &damaged);
    match store.open_verified(digest) {
        Err(StoreError::Corrupt { path: named, expected, actual, in_place: false }) => {
            assert_eq!((named, expected, actual), (path.clone(), digest, blake3_of(&damaged)));
        }
        other => panic!("{other:?}"),
    }
    assert!(!path.exists(), "removed");

    fetch(&entry, &store, &settings(&hub), &quiet()).await.unwrap();
    overwrite(&path, &data[..BYTES / 2]);
    let (reporter, watch) = progress::channel();
    let model = fetch(&entry, &store, &settings(&hub), &reporter).await.unwrap();
    assert!(model.origin.is_some(), "fetched again by itself");
    assert!(watch.borrow().passed_over[0].contains(&path.display().to_string()));
    assert_eq!(fs::read(&path).unwrap(), data);
}

#[test]
fn a_large_model_is_hashed_again_only_if_its_stamp_changed() {
    let (directory, store) = store();
    let path = directory.path().join("large.gguf");
    let file = fs::File::create(&path).unwrap();
    fs::write(&path, b"GGUF").unwrap();
    // A hole: large to the store, nothing on the disk.
    file.set_len(swarm::store::REHASH_BYTES_MAX + 1).unwrap();
    let mut hashed = 0;
    let stored = store.adopt(&path, &mut |done, _| hashed = done).unwrap();
    assert_eq!(hashed, stored.bytes);
    hashed = 0;
    assert_eq!(store.adopt(&path, &mut |done, _| hashed = done).unwrap(), stored);
    assert_eq!(hashed, 0, "known by its stamp");
    store.open_verified(stored.digest).unwrap();
    store.verify(stored.digest, &mut |done, _| hashed = done).unwrap();
    assert_eq!(hashed, stored.bytes, "`verify` always hashes");

    // The same size and a modification time set back: the change time tells.
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .and_then(|mut file| {
            use std::io::{Seek, SeekFrom, Write};
            file.seek(SeekFrom::Start(1000))?;
            file.write_all(b"x")?;
            file.set_modified(modified)
        })
        .unwrap();
    assert!(matches!(store.open_verified(stored.digest), Err(StoreError::Corrupt { in_place: true, .. })));
    assert!(path.exists(), "its owner's file stays");
    assert!(!store.contains(stored.digest));
}

#[test]
fn a_local_file_is_used_where_it_lies() {
    let data = weights(BYTES);
    let (directory, store) = store();
    let path = directory.path().join("My-Model.Q4_0.gguf");
    fs::write(&path, &data).unwrap();
    let (entry, model) = fetch::adopt(&path, &store, &quiet()).unwrap();
    assert_eq!((entry.name.as_str(), entry.quantisation.as_str()), ("my-model.q4_0", "Q4_0"));
    assert_eq!((model.digest, &model.path), (blake3_of(&data), &path.canonicalize().unwrap()));
    assert_eq!(store.open_verified(model.digest).unwrap().path, model.path);
    assert!(!store.path_of(model.digest).exists(), "not copied");

    fs::remove_file(&path).unwrap();
    assert!(matches!(store.open_verified(model.digest), Err(StoreError::Missing { .. })));
}

#[test]
fn what_is_no_gguf_file_is_refused() {
    let (directory, store) = store();
    let path = directory.path().join("x.gguf");
    for content in [&b""[..], b"GGU", b"PK\x03\x04"] {
        fs::write(&path, content).unwrap();
        assert!(matches!(fetch::adopt(&path, &store, &quiet()), Err(StoreError::NotGguf { .. })));
    }
    assert!(matches!(fetch::adopt(directory.path(), &store, &quiet()), Err(StoreError::NotGguf { .. })));
    let pipe = directory.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(matches!(fetch::adopt(&pipe, &store, &quiet()), Err(StoreError::NotGguf { .. })), "and does not hang");
    let error = fetch::adopt(&directory.path().join("none"), &store, &quiet()).unwrap_err();
    assert!(error.to_string().contains("none") && !error.remedy().is_empty());
}
