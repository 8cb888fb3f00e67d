//! Several nodes on one orchestrator: tasks spread, departures are noticed, and `status` says why.

use nix::sys::signal::Signal;
use serde_json::Value;
use std::time::Duration;
use testbed::{Daemon, eventually, http};

/// QUIC's own idle time-out is 15 s; whatever is noticed below this was noticed by us.
const BEFORE_QUIC_WOULD: Duration = Duration::from_secs(10);

fn node_row(status: &Value, id: &str) -> Value {
    let rows = status["nodes"].as_array().expect("an orchestrator's status has nodes");
    rows.iter().find(|row| row["id"] == id).cloned().unwrap_or(Value::Null)
}

/// Waits until a node is out of routing; returns the reason's code and the time it took.
async fn until_unroutable(orchestrator: &Daemon, id: &str, limit: Duration) -> (String, Duration) {
    eventually("the node is out of routing", limit, async || {
        let row = node_row(&orchestrator.status(), id);
        (row["routable"] == false).then(|| {
            assert!(row["reasons"][0]["message"].is_string(), "a reason: {row:#}");
            row["reasons"][0]["code"].as_str().expect("a code").to_owned()
        })
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_spread_over_three_nodes() {
    let orchestrator = Daemon::orchestrator().await;
    let ticket = orchestrator.text("ticket");
    let mut nodes = Vec::new();
    for _ in 0..3 {
        nodes.push(Daemon::deterministic_node(&ticket, 10).await);
    }
    let gateway = Daemon::gateway(&ticket).await;
    let base_url = gateway.text("base_url");
    let mut streams = Vec::new();
    for number in 0..9 {
        let mut stream = http::Stream::start(&base_url, &format!("question {number}"), 400).await;
        assert!(stream.text().await.is_some());
        streams.push(stream);
    }
    let active: Vec<u64> = nodes.iter().map(|node| node.status()["active_tasks"].as_u64().unwrap_or(0)).collect();
    // Beside the nine there may be trials and audits, at most one on each.
    assert!((9..=12).contains(&active.iter().sum::<u64>()), "{active:?}");
    assert!(active.iter().all(|tasks| (1..=6).contains(tasks)), "spread: {active:?}");
    for mut stream in streams {
        while stream.text().await.is_some() {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_goodbye_takes_a_node_out_at_once_and_the_other_goes_on() {
    let orchestrator = Daemon::orchestrator().await;
    let ticket = orchestrator.text("ticket");
    let (staying, leaving) =
        (Daemon::deterministic_node(&ticket, 1).await, Daemon::deterministic_node(&ticket, 1).await);
    let gateway = Daemon::gateway(&ticket).await;
    let id = leaving.text("node_id");
    let (_, status) = leaving.stop().await;
    assert!(status.success());
    // It has ended, so its goodbye has arrived.
    let row = node_row(&orchestrator.status(), &id);
    assert_eq!(row["routable"], false, "{row:#}");
    assert_eq!(row["reasons"][0]["code"], "left", "{row:#}");
    for number in 0..4 {
        assert!(!http::chat(&gateway.text("base_url"), &format!("question {number}"), 4).await.is_empty());
    }
    assert_eq!(node_row(&orchestrator.status(), &staying.text("node_id"))["routable"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_dies_idle_is_out_before_quic_notices() {
    let orchestrator = Daemon::orchestrator().await;
    let node = Daemon::deterministic_node(&orchestrator.text("ticket"), 1).await;
    let id = node.text("node_id");
    node.signal(Signal::SIGKILL);
    let (code, took) = until_unroutable(&orchestrator, &id, BEFORE_QUIC_WOULD).await;
    assert_eq!(code, "unresponsive");
    println!("idle death noticed after {took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_dies_in_use_is_out_within_two_seconds() {
    for signal in [Signal::SIGKILL, Signal::SIGSTOP] {
        let orchestrator = Daemon::orchestrator().await;
        let ticket = orchestrator.text("ticket");
        let node = Daemon::deterministic_node(&ticket, 20).await;
        let gateway = Daemon::gateway(&ticket).await;
        let mut stream = http::Stream::start(&gateway.text("base_url"), "a long story", 1000).await;
        assert!(stream.text().await.is_some());
        let id = node.text("node_id");
        node.signal(signal);
        // The bound of the promise is 2 s; a busy machine gets half as much again before the test calls it broken.
        let (code, took) = until_unroutable(&orchestrator, &id, Duration::from_secs(3)).await;
        assert_eq!(code, "unresponsive");
        println!("{signal}: death in use noticed after {took:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_node_is_routable_again_when_it_wakes() {
    let orchestrator = Daemon::orchestrator().await;
    let node = Daemon::deterministic_node(&orchestrator.text("ticket"), 1).await;
    let id = node.text("node_id");
    node.signal(Signal::SIGSTOP);
    until_unroutable(&orchestrator, &id, BEFORE_QUIC_WOULD).await;
    node.signal(Signal::SIGCONT);
    eventually("routable again", Duration::from_secs(30), async || {
        (node_row(&orchestrator.status(), &id)["routable"] == true).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orchestrator_that_restarts_finds_its_nodes_again() {
    let orchestrator = Daemon::orchestrator().await;
    let ticket = orchestrator.text("ticket");
    let node = Daemon::deterministic_node(&ticket, 1).await;
    let gateway = Daemon::gateway(&ticket).await;
    let id = node.text("node_id");
    orchestrator.signal(Signal::SIGKILL);
    let mut orchestrator = orchestrator;
    orchestrator.wait().await;
    let home = std::mem::take(&mut orchestrator.home);
    let mut orchestrator = Daemon::start(home, &["orchestrate"], &[]);
    let status = orchestrator
        .wait_for("the node again", |status| status["nodes"].is_array() && node_row(status, &id)["routable"] == true)
        .await;
    assert_eq!(status["ticket"], ticket.as_str(), "the ticket stays good");
    assert!(!http::chat(&gateway.text("base_url"), "still there?", 4).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_of_another_pool_does_not_admit() {
    let (one, other) = (Daemon::orchestrator().await, Daemon::orchestrator().await);
    let mut ticket: protocol::ticket::Ticket = one.text("ticket").parse().expect("a ticket");
    ticket.secret = Some([0; 32]);
    let home = testbed::Home::new();
    let refused = home.run(&["run", "hello", "--join", &ticket.to_string()]);
    assert_eq!(refused.status.code(), Some(1));
    let message = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(message.contains("does not admit") && message.contains("hint:"), "{message}");

    let elsewhere: protocol::ticket::Ticket = other.text("ticket").parse().expect("a ticket");
    ticket.orchestrators = elsewhere.orchestrators;
    let refused = home.run(&["run", "hello", "--join", &ticket.to_string()]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("another pool"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_without_nodes_says_so() {
    let orchestrator = Daemon::orchestrator().await;
    let gateway = Daemon::gateway(&orchestrator.text("ticket")).await;
    let url = format!("{}/chat/completions", gateway.text("base_url"));
    let (status, body) = http::post(&url, &http::chat_body("hello", 4)).await;
    assert!([404, 503].contains(&status), "{status} {body}");
    assert!(body["error"]["message"].is_string(), "{body}");
}
