//! Several fetches of one model at once.

use crate::{
    hub_server::{Fault, Hub, Repo},
    *,
};
use swarm::{fetch::fetch, progress::Phase};

const BYTES: usize = 500_000;

#[tokio::test(flavor = "multi_thread")]
async fn the_second_waits_and_uses_the_result_of_the_first() {
    let data = weights(BYTES);
    let hub = Hub::with(Repo::new(&data).faults([Fault::Hang(100_000)]));
    let (_directory, store) = store();
    let start = |reporter| {
        let (entry, store, settings) = (pinned(&data, vec![hub_origin("owner/name")]), store.clone(), settings(&hub));
        tokio::spawn(async move { fetch(&entry, &store, &settings, &reporter).await })
    };
    let (first_reporter, mut first_watch) = progress::channel();
    let first = start(first_reporter);
    first_watch.wait_for(|progress| progress.phase == Phase::Downloading && progress.bytes_done > 0).await.unwrap();
    let (second_reporter, mut second_watch) = progress::channel();
    let second = start(second_reporter);
    second_watch.wait_for(|progress| progress.phase == Phase::Waiting).await.unwrap();
    hub.release();
    let (first, second) = (first.await.unwrap().unwrap(), second.await.unwrap().unwrap());
    assert_eq!((first.digest, first.path), (second.digest, second.path));
    assert!(first.origin.is_some() && second.origin.is_none());
    assert_eq!(hub.transfers().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn different_models_do_not_wait_for_each_other_and_are_both_learned() {
    let (one, two) = (weights(BYTES), weights(BYTES - 1000));
    let hub = Hub::start();
    hub.put("owner/one", Repo::new(&one).faults([Fault::Hang(1)]));
    hub.put("owner/two", Repo::new(&two));
    let (_directory, store) = store();
    let (reporter, mut watch) = progress::channel();
    let waiting = {
        let entry = Entry { name: "one".into(), ..learning(&one, vec![hub_origin("owner/one")]) };
        let (store, settings) = (store.clone(), settings(&hub));
        tokio::spawn(async move { fetch(&entry, &store, &settings, &reporter).await })
    };
    watch.wait_for(|progress| progress.bytes_done > 0).await.unwrap();
    let entry = Entry { name: "two".into(), ..learning(&two, vec![hub_origin("owner/two")]) };
    fetch(&entry, &store, &settings(&hub), &quiet()).await.unwrap();
    hub.release();
    waiting.await.unwrap().unwrap();
    assert_eq!(store.learned("one").unwrap().unwrap().blake3, blake3_of(&one));
    assert_eq!(store.learned("two").unwrap().unwrap().blake3, blake3_of(&two));
}
