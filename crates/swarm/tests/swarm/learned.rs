//! Hashes that are learned at the first fetch and fixed from then on.

use crate::{
    hub_server::{Fault, Hub, Repo, sha256_hex},
    *,
};
use std::fs;
use swarm::{
    fetch::{FetchError, OriginError, fetch},
    store::StoreError,
};

const BYTES: usize = 500_000;

#[tokio::test]
async fn the_first_fetch_fixes_the_hash_and_a_change_upstream_is_refused() {
    let data = weights(BYTES);
    let hub = Hub::with(Repo::new(&data));
    let (_directory, store) = store();
    let entry = learning(&data, vec![hub_origin("owner/name")]);
    let model = fetch(&entry, &store, &settings(&hub), &quiet()).await.unwrap();
    assert_eq!((model.digest, model.bytes), (blake3_of(&data), BYTES as u64), "the true size is learned too");
    let learned = store.learned("test-model").unwrap().unwrap();
    assert_eq!(learned.blake3, blake3_of(&data));
    assert_eq!(learned.sha256.to_string(), sha256_hex(&data));

    let mut other = data.clone();
    other[1000] ^= 1;
    store.remove(model.digest).unwrap();
    hub.put("owner/name", Repo::new(&other));
    let transfers = hub.transfers().len();
    let error = fetch(&entry, &store, &settings(&hub), &quiet()).await.unwrap_err();
    let FetchError::AllOriginsFailed { failures, .. } = &error else { panic!("{error}") };
    assert!(matches!(failures[0].reason, OriginError::Changed { .. }), "{error}");
    assert!(error.remedy().contains("learned.toml"), "{}", error.remedy());
    assert_eq!(hub.transfers().len(), transfers, "not even downloaded");

    // A hub that lies in its metadata does not get through either.
    hub.put("owner/name", Repo { linked_sha256: Some(sha256_hex(&data)), ..Repo::new(&other) });
    let error = fetch(&entry, &store, &settings(&hub), &quiet()).await.unwrap_err();
    assert!(error.to_string().contains("corrupt"), "{error}");
    assert_eq!(store.learned("test-model").unwrap().unwrap(), learned, "what is fixed stays");

    hub.put("owner/name", Repo::new(&data));
    assert_eq!(fetch(&entry, &store, &settings(&hub), &quiet()).await.unwrap().digest, blake3_of(&data));
}

#[tokio::test]
async fn a_first_fetch_that_does_not_match_the_published_hash_teaches_nothing() {
    let data = weights(BYTES);
    let hub = Hub::with(Repo::new(&data).faults([Fault::CorruptLast, Fault::CorruptLast]));
    let (_directory, store) = store();
    let entry = learning(&data, vec![hub_origin("owner/name")]);
    let error = fetch(&entry, &store, &settings(&hub), &quiet()).await.unwrap_err();
    let FetchError::AllOriginsFailed { failures, .. } = &error else { panic!("{error}") };
    assert!(matches!(failures[0].reason, OriginError::Corrupt { kind: "SHA-256", .. }), "{error}");
    assert_eq!(store.learned("test-model").unwrap(), None);
    assert!(store.list().unwrap().is_empty());
}

#[tokio::test]
async fn a_damaged_record_is_not_forgotten_silently() {
    let data = weights(BYTES);
    let hub = Hub::with(Repo::new(&data));
    let (_directory, store) = store();
    for damage in [&b"[model.x]\nblake3 = \"12\""[..], b"\xff\xfe"] {
        fs::write(store.learned_path(), damage).unwrap();
        let error = fetch(&learning(&data, vec![hub_origin("owner/name")]), &store, &settings(&hub), &quiet())
            .await
            .unwrap_err();
        assert!(matches!(error, FetchError::Store(StoreError::LearnedDamaged { .. })), "{error}");
        assert_eq!(fs::read(store.learned_path()).unwrap(), damage);
    }
    assert!(hub.seen().is_empty());
}
