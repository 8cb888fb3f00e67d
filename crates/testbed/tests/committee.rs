//! A committee of real processes: any of its orchestrators matches, one may die, and each says how it stands.

use nix::sys::signal::Signal;
use std::time::{Duration, Instant};
use testbed::{Daemon, committee::Committee, eventually, http};

/// Only a hang takes as long.
const PATIENCE: Duration = Duration::from_secs(60);

async fn routable(committee: &Committee, number: usize, count: usize) -> Duration {
    let start = Instant::now();
    loop {
        let status = committee.member(number).status();
        let rows = status["nodes"].as_array().into_iter().flatten();
        if rows.filter(|row| row["routable"] == true).count() >= count {
            return start.elapsed();
        }
        assert!(start.elapsed() < PATIENCE, "{count} nodes routable at orchestrator {number}: {:#}", status["nodes"]);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn four_agree_and_go_on_when_one_is_killed() {
    let mut committee = Committee::of(4).await;
    let nodes = [
        Daemon::deterministic_node(&committee.ticket, 1).await,
        Daemon::deterministic_node(&committee.ticket, 1).await,
    ];
    for number in 0..4 {
        routable(&committee, number, nodes.len()).await;
    }
    let gateway = Daemon::gateway(&committee.ticket).await;
    let base_url = gateway.text("base_url");
    assert!(!http::chat(&base_url, "before", 4).await.is_empty());

    let home = committee.kill(0).await;
    for number in 0..6 {
        assert!(!http::chat(&base_url, &format!("question {number}"), 4).await.is_empty());
    }
    for number in 1..4 {
        routable(&committee, number, nodes.len()).await;
    }
    // New members are agreed on by the three that are left.
    let newcomer = Daemon::deterministic_node(&committee.ticket, 1).await;
    routable(&committee, 1, nodes.len() + 1).await;
    assert!(newcomer.status()["links"].as_array().is_some_and(|links| !links.is_empty()));

    let height = committee.height(1);
    committee.start(0, home);
    committee.ready(0).await;
    committee.passes(0, height).await;
    routable(&committee, 0, nodes.len() + 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_quorum_it_says_who_is_missing_and_matches_on() {
    let committee = Committee::of(4).await;
    let _node = Daemon::deterministic_node(&committee.ticket, 1).await;
    let gateway = Daemon::gateway(&committee.ticket).await;
    let base_url = gateway.text("base_url");
    assert!(!http::chat(&base_url, "before", 4).await.is_empty());
    for number in 0..3 {
        routable(&committee, number, 1).await;
    }
    for number in 2..4 {
        committee.member(number).signal(Signal::SIGSTOP);
    }
    let stands = async || committee.agreement(0)["stands_still_because"].as_str().map(str::to_owned);
    let (why, _) = eventually("it says why finality stands still", PATIENCE, stands).await;
    assert!(why.contains("3 of 4"), "{why}");
    // The request path does not wait for agreement. The node may have lost both its homes, and looked for others.
    for number in 0..2 {
        routable(&committee, number, 1).await;
    }
    assert!(!http::chat(&base_url, "meanwhile", 4).await.is_empty());
    let height = committee.height(0);
    for number in 2..4 {
        committee.member(number).signal(Signal::SIGCONT);
    }
    committee.passes(0, height).await;
    let goes_on = async || committee.agreement(0)["stands_still_because"].is_null().then_some(());
    eventually("it does not stand still any more", PATIENCE, goes_on).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_lost_its_disk_follows_and_does_not_vote_yet() {
    let mut committee = Committee::of(4).await;
    let _node = Daemon::deterministic_node(&committee.ticket, 1).await;
    let home = committee.kill(3).await;
    std::fs::remove_dir_all(home.path().join("pool/committee")).expect("its folder");
    let height = committee.height(0);
    committee.start(3, home);
    committee.ready(3).await;
    committee.passes(3, height).await;
    assert_eq!(committee.agreement(3)["votes"], false, "{:#}", committee.agreement(3));
}
