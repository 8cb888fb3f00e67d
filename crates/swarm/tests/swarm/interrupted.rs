//! Transfers that break off, and go on.

use crate::{
    hub_server::{Fault, Hub, Repo},
    *,
};
use std::{collections::VecDeque, fs};
use swarm::{
    fetch::{FetchError, OriginError, fetch},
    progress::Phase,
};

const BYTES: usize = 3_000_000;

#[tokio::test]
async fn a_broken_transfer_goes_on_where_it_stopped() {
    let data = weights(BYTES);
    let hub = Hub::with(Repo::new(&data).faults([Fault::Cut(1_200_000), Fault::Cut(1_000_000)]));
    let (_directory, store) = store();
    let model = fetch(&pinned(&data, vec![hub_origin("owner/name")]), &store, &settings(&hub), &quiet()).await.unwrap();
    assert_eq!(fs::read(&model.path).unwrap(), data);
    let transfers = hub.transfers();
    assert_eq!(transfers.len(), 3);
    for transfer in &transfers[1..] {
        assert_eq!(transfer.headers["if-range"], "\"v1\"");
    }
    let sent: usize = transfers.iter().map(|transfer| transfer.sent).sum();
    assert!(sent <= BYTES + BYTES / 100, "{sent} bytes for a file of {BYTES}");
    assert!(left_over(&store).is_empty());
}

#[tokio::test]
async fn an_abandoned_fetch_goes_on_in_the_next_one_with_true_progress() {
    let data = weights(BYTES);
    let hub = Hub::with(Repo::new(&data).faults([Fault::Hang(2_000_000)]));
    let (_directory, store) = store();
    let entry = pinned(&data, vec![hub_origin("owner/name")]);
    let (reporter, mut watch) = progress::channel();
    {
        let settings = settings(&hub);
        let fetching = fetch(&entry, &store, &settings, &reporter);
        let arrived =
            watch.wait_for(|progress| progress.phase == Phase::Downloading && progress.bytes_done >= 2_000_000);
        tokio::select! {
            _ = fetching => panic!("the server sends no more"),
            arrived = arrived => drop(arrived.unwrap()),
        }
    }
    assert!(!store.contains(blake3_of(&data)), "nothing half-written is visible");

    let (reporter, mut watch) = progress::channel();
    let watching = tokio::spawn(async move {
        let mut seen = Vec::new();
        while watch.changed().await.is_ok() {
            seen.push(watch.borrow_and_update().clone());
        }
        seen
    });
    let model = fetch(&entry, &store, &settings(&hub), &reporter).await.unwrap();
    assert_eq!(fs::read(&model.path).unwrap(), data);
    assert_eq!(hub.transfers().last().unwrap().headers["range"], "bytes=2000000-");
    drop(reporter);
    for progress in watching.await.unwrap() {
        let total = progress.bytes_total.unwrap_or(u64::MAX);
        assert!(progress.bytes_done <= total, "{progress:?}");
        if progress.phase == Phase::Downloading {
            assert!(progress.bytes_done >= 2_000_000, "{progress:?}");
        }
    }
}

#[tokio::test]
async fn a_corrupt_last_byte_is_refused_named_and_fetched_again() {
    let data = weights(BYTES);
    let hub = Hub::with(Repo::new(&data).faults([Fault::CorruptLast]));
    let (_directory, store) = store();
    let entry = pinned(&data, vec![hub_origin("owner/name")]);
    let (reporter, watch) = progress::channel();
    let model = fetch(&entry, &store, &settings(&hub), &reporter).await.unwrap();
    assert_eq!(fs::read(&model.path).unwrap(), data);
    assert_eq!(hub.transfers().len(), 2);
    let said = watch.borrow().passed_over.join("\n");
    assert!(
        said.contains("owner/name") && said.contains("corrupt") && said.contains(&blake3_of(&data).to_string()),
        "{said}"
    );
}

#[tokio::test]
async fn an_origin_that_is_always_corrupt_is_given_up_and_nothing_of_it_stays() {
    let data = weights(BYTES);
    let hub = Hub::with(Repo::new(&data).faults([Fault::CorruptLast, Fault::CorruptLast]));
    let (_directory, store) = store();
    let entry = pinned(&data, vec![hub_origin("owner/name")]);
    let error = fetch(&entry, &store, &settings(&hub), &quiet()).await.unwrap_err();
    let FetchError::AllOriginsFailed { failures, .. } = &error else { panic!("{error}") };
    assert!(matches!(failures[0].reason, OriginError::Corrupt { kind: "BLAKE3", .. }), "{error}");
    assert!(!store.contains(blake3_of(&data)));
    assert!(left_over(&store).is_empty(), "{:?}", left_over(&store));
}

#[tokio::test]
async fn a_file_that_changes_between_two_parts_is_begun_again() {
    let old = weights(BYTES);
    let mut new = old.clone();
    new[10] ^= 1;
    for fault in [None, Some(Fault::IgnoreIfRange)] {
        let hub = Hub::with(Repo::new(&old).faults([Fault::Hang(1_500_000)]));
        let (_directory, store) = store();
        let (reporter, mut watch) = progress::channel();
        {
            let (entry, settings) = (learning(&old, vec![hub_origin("owner/name")]), settings(&hub));
            let arrived = watch.wait_for(|progress| progress.bytes_done >= 1_500_000);
            tokio::select! {
                _ = fetch(&entry, &store, &settings, &reporter) => panic!("the server sends no more"),
                arrived = arrived => drop(arrived.unwrap()),
            }
        }
        // The mirror serves a new file, and its metadata knows nothing of it yet: only the validator tells.
        let entry = pinned(&new, vec![hub_origin("owner/name")]);
        let kept = store.root().join("partial");
        for kind in ["part", "toml"] {
            let of = |name: &str| kept.join(format!("{name}.{kind}"));
            fs::rename(of("test-model"), of(&blake3_of(&new).to_string())).unwrap();
        }
        hub.change(|repo| {
            repo.data.clone_from(&new);
            repo.etag = "\"v2\"".into();
            repo.faults = fault.clone().into_iter().collect::<VecDeque<_>>();
        });
        let (reporter, watch) = progress::channel();
        let model = fetch(&entry, &store, &settings(&hub), &reporter).await.unwrap();
        assert_eq!(fs::read(&model.path).unwrap(), new);
        assert!(watch.borrow().passed_over.is_empty(), "noticed by the validator, not only by the hash");
        let ranged = hub.transfers().into_iter().find(|seen| seen.headers.contains_key("range")).unwrap();
        assert_eq!(ranged.headers["if-range"], "\"v1\"");
    }
}

#[tokio::test]
async fn a_server_without_ranges_sends_everything_again() {
    let data = weights(BYTES);
    let hub = Hub::with(Repo::new(&data).faults([Fault::Cut(1_000_000), Fault::IgnoreRange]));
    let (_directory, store) = store();
    let entry = pinned(&data, vec![hub_origin("owner/name")]);
    let model = fetch(&entry, &store, &settings(&hub), &quiet()).await.unwrap();
    assert_eq!(fs::read(&model.path).unwrap(), data);
}

#[tokio::test]
async fn a_damaged_prefix_of_an_earlier_run_costs_one_more_transfer_only() {
    let data = weights(BYTES);
    let hub = Hub::with(Repo::new(&data).faults([Fault::Hang(1_500_000)]));
    let (_directory, store) = store();
    let entry = pinned(&data, vec![hub_origin("owner/name")]);
    let (reporter, mut watch) = progress::channel();
    {
        let settings = settings(&hub);
        let arrived = watch.wait_for(|progress| progress.bytes_done >= 1_500_000);
        tokio::select! {
            _ = fetch(&entry, &store, &settings, &reporter) => panic!("the server sends no more"),
            arrived = arrived => drop(arrived.unwrap()),
        }
    }
    let part = store.root().join("partial").join(format!("{}.part", blake3_of(&data)));
    let mut bytes = fs::read(&part).unwrap();
    bytes[5] ^= 1;
    fs::write(&part, bytes).unwrap();
    let model = fetch(&entry, &store, &settings(&hub), &quiet()).await.unwrap();
    assert_eq!(fs::read(&model.path).unwrap(), data);
    assert!(!hub.transfers().last().unwrap().headers.contains_key("range"), "the second transfer was whole");
}

#[tokio::test]
async fn a_transfer_that_stalls_is_begun_anew_and_ends() {
    let data = weights(BYTES);
    let hub = Hub::with(Repo::new(&data).faults([Fault::Hang(1_100_000)]));
    let (_directory, store) = store();
    let mut settings = settings(&hub);
    settings.patience.stall = Duration::from_secs(1);
    let entry = pinned(&data, vec![hub_origin("owner/name")]);
    let model = fetch(&entry, &store, &settings, &quiet()).await.unwrap();
    assert_eq!(fs::read(&model.path).unwrap(), data);
}

#[tokio::test]
async fn a_server_in_trouble_is_asked_again_but_not_for_ever() {
    let data = weights(BYTES);
    let hub = Hub::with(Repo::new(&data).faults([Fault::Status(503), Fault::Status(429)]));
    let (_directory, store) = store();
    let entry = pinned(&data, vec![hub_origin("owner/name")]);
    fetch(&entry, &store, &settings(&hub), &quiet()).await.unwrap();

    let hub = Hub::with(Repo::new(&data).faults(vec![Fault::Status(503); 100]));
    let (_directory, store) = crate::store();
    let error = fetch(&entry, &store, &settings(&hub), &quiet()).await.unwrap_err();
    assert!(error.to_string().contains("HTTP 503"), "{error}");
    assert_eq!(hub.transfers().len(), 3);
}
