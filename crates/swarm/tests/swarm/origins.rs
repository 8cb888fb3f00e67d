//! Origins that refuse, lie, keep silent or are not there, and the next one that delivers.

use crate::{
    hub_server::{Fault, Hub, Repo, sha256_hex},
    *,
};
use std::net::TcpListener;
use swarm::{
    fetch::{FetchError, OriginError, Token, fetch, fetch_first},
    progress::Phase,
};

const BYTES: usize = 600_000;

async fn failure_of(hub: &Hub, entry: &Entry, change: impl FnOnce(&mut Settings)) -> (OriginError, FetchError) {
    let (_directory, store) = store();
    let mut settings = settings(hub);
    change(&mut settings);
    let error = fetch(entry, &store, &settings, &quiet()).await.unwrap_err();
    assert!(store.list().unwrap().is_empty());
    let FetchError::AllOriginsFailed { failures, .. } = &error else { panic!("{error}") };
    (failures[0].reason.clone(), error)
}

#[tokio::test]
async fn the_first_origin_that_delivers_wins_and_the_others_are_named() {
    let data = weights(BYTES);
    let hub = Hub::start();
    hub.put("owner/gated", Repo { status: Some(403), ..Repo::new(&data) });
    hub.put("owner/silent", Repo { silent: true, ..Repo::new(&data) });
    hub.put("owner/good", Repo::new(&data));
    let origins = ["owner/missing", "owner/gated", "owner/silent", "owner/good"].map(hub_origin).to_vec();
    let (_directory, store) = store();
    let mut settings = settings(&hub);
    settings.patience.answer = Duration::from_secs(2);
    let model = fetch(&pinned(&data, origins.clone()), &store, &settings, &quiet()).await.unwrap();
    assert_eq!(model.origin, Some(origins[3].to_string()));
    let reasons: Vec<_> = model.passed_over.iter().map(|failure| &failure.reason).collect();
    assert!(
        matches!(
            reasons[..],
            [
                OriginError::NotFound { status: 404, .. },
                OriginError::Refused { status: 403, .. },
                OriginError::Unreachable { .. }
            ]
        ),
        "{reasons:?}"
    );
}

#[tokio::test]
async fn a_hub_that_is_not_there_is_named_with_a_remedy() {
    let data = weights(BYTES);
    let entry = pinned(&data, vec![hub_origin("owner/name")]);
    // A port that was free a moment ago.
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let hub = Hub::start();
    let (reason, error) = failure_of(&hub, &entry, |settings| settings.hub.endpoint = format!("http://{nobody}")).await;
    assert!(matches!(reason, OriginError::Unreachable { .. }), "{reason}");
    assert!(error.to_string().contains(&nobody.to_string()) && error.to_string().contains("refused"), "{error}");
    assert!(error.remedy().contains("HF_ENDPOINT") && error.remedy().contains("--model FILE.gguf"));

    let (reason, _) = failure_of(&hub, &entry, |settings| settings.hub.endpoint = "not a url".into()).await;
    assert!(matches!(reason, OriginError::BadEndpoint { .. }), "{reason}");
    // A name that cannot exist (RFC 6761), by https: TLS is set up with the provider that we link.
    let (reason, _) = failure_of(&hub, &entry, |settings| settings.hub.endpoint = "https://hub.invalid".into()).await;
    assert!(matches!(reason, OriginError::Unreachable { .. }), "{reason}");
    let mut nowhere = entry.clone();
    nowhere.origins.clear();
    let (_directory, store) = store();
    let error = fetch(&nowhere, &store, &settings(&hub), &quiet()).await.unwrap_err();
    assert!(matches!(error, FetchError::NoOrigin { .. }), "{error}");
}

#[tokio::test]
async fn a_gated_model_names_the_token_and_the_licence() {
    let data = weights(BYTES);
    let entry = pinned(&data, vec![hub_origin("owner/name")]);
    let hub = Hub::with(Repo { status: Some(401), ..Repo::new(&data) });
    let (reason, error) = failure_of(&hub, &entry, |_| ()).await;
    assert!(matches!(reason, OriginError::Refused { status: 401, with_token: false, .. }), "{reason}");
    let remedy = error.remedy();
    for part in ["HF_TOKEN", "MIT", "https://example.com/licence", "/owner/name"] {
        assert!(remedy.contains(part), "{part} in {remedy}");
    }
    let token = |settings: &mut Settings| settings.hub.token = Some(Token("hf_secret".into()));
    let (reason, error) = failure_of(&hub, &entry, token).await;
    assert!(matches!(reason, OriginError::Refused { with_token: true, .. }), "{reason}");
    assert!(!format!("{error:?} {error} {}", error.remedy()).contains("hf_secret"));
}

#[tokio::test]
async fn the_token_goes_to_the_hub_and_to_nobody_else() {
    let data = weights(BYTES);
    let elsewhere = Hub::with(Repo::new(&data));
    let hub = Hub::with(Repo { bytes_at: Some(elsewhere.address), ..Repo::new(&data) });
    let (_directory, store) = store();
    let mut settings = settings(&hub);
    settings.hub.token = Some(Token("hf_secret".into()));
    fetch(&pinned(&data, vec![hub_origin("owner/name")]), &store, &settings, &quiet()).await.unwrap();
    assert!(hub.seen().iter().all(|seen| seen.headers["authorization"] == "Bearer hf_secret"));
    assert_eq!(elsewhere.transfers().len(), 1);
    assert!(elsewhere.seen().iter().all(|seen| !seen.headers.contains_key("authorization")));
    assert!(!format!("{settings:?}").contains("hf_secret"));
}

#[tokio::test]
async fn a_file_of_another_size_is_refused_before_it_is_sent() {
    let data = weights(BYTES);
    let hub = Hub::with(Repo { linked_size: Some(BYTES + 1), ..Repo::new(&data) });
    let (reason, _) = failure_of(&hub, &pinned(&data, vec![hub_origin("owner/name")]), |_| ()).await;
    assert_eq!(reason, OriginError::WrongSize { offered: BYTES as u64 + 1, expected: BYTES as u64 });
    let huge = Repo { linked_size: Some(1 << 50), ..Repo::new(&data) };
    let hub = Hub::with(huge);
    let (reason, _) = failure_of(&hub, &learning(&data, vec![hub_origin("owner/name")]), |_| ()).await;
    assert!(matches!(reason, OriginError::WrongSize { .. }), "{reason}");
    assert!(hub.transfers().is_empty());
}

#[tokio::test]
async fn a_server_that_lies_about_the_size_is_refused() {
    let data = weights(BYTES);
    let entry = pinned(&data, vec![hub_origin("owner/name")]);
    for fault in [Fault::LieLength(BYTES * 1000), Fault::LieLength(7), Fault::TooLong] {
        let hub = Hub::with(Repo::new(&data).faults(vec![fault.clone(); 10]));
        let (reason, _) = failure_of(&hub, &entry, |_| ()).await;
        assert!(matches!(reason, OriginError::WrongSize { .. }), "{fault:?}: {reason}");
    }
}

#[tokio::test]
async fn what_is_here_is_used_without_the_network() {
    let data = weights(BYTES);
    let hub = Hub::with(Repo::new(&data));
    let (_directory, store) = store();
    let entry = pinned(&data, vec![hub_origin("owner/name")]);
    let mut settings = settings(&hub);
    settings.network = false;
    let error = fetch(&entry, &store, &settings, &quiet()).await.unwrap_err();
    assert!(matches!(error, FetchError::Offline { .. }), "{error}");
    assert!(hub.seen().is_empty(), "offline means offline");

    settings.network = true;
    fetch(&entry, &store, &settings, &quiet()).await.unwrap();
    let requests = hub.seen().len();
    for network in [true, false] {
        settings.network = network;
        let (reporter, watch) = progress::channel();
        let model = fetch(&entry, &store, &settings, &reporter).await.unwrap();
        assert_eq!(model.origin, None);
        let now = watch.borrow().clone();
        assert_eq!((now.phase, now.bytes_done, now.bytes_total), (Phase::Done, BYTES as u64, Some(BYTES as u64)));
    }
    assert_eq!(hub.seen().len(), requests);
}

#[tokio::test]
async fn an_alias_takes_the_first_entry_that_can_be_had() {
    let (one, two) = (weights(BYTES), weights(BYTES / 2));
    let hub = Hub::start();
    hub.put("owner/two", Repo::new(&two));
    let first = pinned(&one, vec![hub_origin("owner/one")]);
    let second = Entry { name: "second".into(), ..learning(&two, vec![hub_origin("owner/two")]) };
    let (_directory, store) = store();
    let model = fetch_first(&[&first, &second], &store, &settings(&hub), &quiet()).await.unwrap();
    assert_eq!((model.name.as_str(), model.digest, model.passed_over.len()), ("second", blake3_of(&two), 1));
    // Now that the second is here, the first is not even asked for.
    let requests = hub.seen().len();
    let again = fetch_first(&[&first, &second], &store, &settings(&hub), &quiet()).await.unwrap();
    assert_eq!((again.name.as_str(), hub.seen().len()), ("second", requests));
}

#[tokio::test]
async fn a_mirror_without_the_hubs_headers_is_asked_for_its_file_list() {
    let data = weights(BYTES);
    let hub = Hub::with(Repo { linked_sha256: None, linked_size: None, listed: true, ..Repo::new(&data) });
    // The content network's own validator looks like a SHA-256 and is none.
    let elsewhere = Hub::with(Repo { etag: format!("\"{}\"", sha256_hex(b"something else")), ..Repo::new(&data) });
    hub.change(|repo| repo.bytes_at = Some(elsewhere.address));
    let (_directory, store) = store();
    let entry = learning(&data, vec![hub_origin("owner/name")]);
    let model = fetch(&entry, &store, &settings(&hub), &quiet()).await.unwrap();
    assert_eq!(model.digest, blake3_of(&data));

    let hub = Hub::with(Repo { linked_sha256: None, bytes_at: Some(elsewhere.address), ..Repo::new(&data) });
    let (reason, _) = failure_of(&hub, &entry, |_| ()).await;
    assert_eq!(reason, OriginError::NoPublishedHash);
}
