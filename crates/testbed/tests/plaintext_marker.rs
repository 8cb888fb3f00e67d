//! Promise P1, looked for where it would be broken: a prompt with a random marker goes from an application to a gateway, an
//! orchestrator, a node and back, each a process of its own; then memory, files, logs and the wire are searched for it.

// It reads `/proc` and a packet socket.
#![cfg(target_os = "linux")]

use nix::sys::signal::Signal;
use std::time::Duration;
use testbed::{
    Daemon, Home,
    capture::Capture,
    eventually, http,
    memory::{count, search_files, search_process},
    real_model,
};

/// Base 32 of random bytes: long enough to be found nowhere by chance.
fn marker() -> String {
    protocol::ids::TaskId::random().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_marker_is_found_at_the_asker_and_nowhere_else() {
    let trace = [("DARKBLOOM_LOG", "trace")];
    let mut orchestrator = Daemon::start(Home::new(), &["orchestrate"], &trace);
    orchestrator.wait_for("its ticket", |status| status["ticket"].is_string()).await;
    let ticket = orchestrator.text("ticket");
    let model = format!("--model={}", real_model().display());
    let mut node = Daemon::start(Home::new(), &["join", &ticket, &model], &trace);
    node.wait_for("taking work", |status| status["takes_work"] == true).await;
    let mut gateway = Daemon::start(Home::new(), &["serve", "--join", &ticket, "--port=0"], &trace);
    gateway.wait_for("its base URL", |status| status["base_url"].is_string()).await;
    let base_url = gateway.text("base_url");
    let gateway_port: u16 = base_url.trim_end_matches("/v1").rsplit(':').next().unwrap().parse().expect("a port");

    let capture = Capture::start().expect("a packet socket: run as root, or give CAP_NET_RAW");
    let marker = marker();
    let needle = marker.as_bytes();
    // The answer is still running while memory is searched: the marker is where it can be, not yet wiped.
    let mut stream = http::Stream::start(&base_url, &format!("Repeat this word: {marker} {marker}"), 400).await;
    let mut said = String::new();
    for _ in 0..3 {
        said.push_str(&stream.text().await.expect("an answer"));
    }

    // The processes stand still while they are searched, so that nothing moves from behind the search to before it.
    for daemon in [&orchestrator, &node, &gateway] {
        daemon.signal(Signal::SIGSTOP);
    }
    let in_orchestrator = search_process(orchestrator.process_id(), needle);
    let in_node = search_process(node.process_id(), needle);
    for daemon in [&orchestrator, &node, &gateway] {
        daemon.signal(Signal::SIGCONT);
    }
    assert!(in_orchestrator.1 > 1 << 20 && in_node.1 > 1 << 20, "something was searched");
    assert_eq!(in_orchestrator.0, 0, "memory of the orchestrator");
    assert_eq!(in_node.0, 0, "memory of the node daemon");

    while let Some(piece) = stream.text().await {
        said.push_str(&piece);
    }
    let packets = capture.stop();
    let (to_application, elsewhere): (Vec<_>, Vec<_>) = packets
        .iter()
        .partition(|packet| packet.protocol == 6 && [packet.ports.0, packet.ports.1].contains(&gateway_port));
    let hits = |packets: &[&testbed::capture::Packet]| -> usize {
        packets.iter().map(|packet| count(&packet.bytes, needle)).sum()
    };
    assert!(hits(&to_application) > 0, "the capture finds the marker between application and gateway");
    let sealed_bytes: usize = elsewhere.iter().filter(|packet| packet.protocol == 17).map(|p| p.bytes.len()).sum();
    assert!(sealed_bytes > 10_000, "the sealed way was captured: {sealed_bytes} bytes");
    assert_eq!(hits(&elsewhere), 0, "on the wire");

    // The same search over the gateway finds it, so it can fail. The gateway wipes a task as soon as a node has taken it;
    // a node that stands still keeps it waiting.
    node.signal(Signal::SIGSTOP);
    let asking = tokio::spawn({
        let (base_url, marker) = (base_url.clone(), marker.clone());
        async move { http::post(&format!("{base_url}/chat/completions"), &http::chat_body(&marker, 4)).await }
    });
    eventually("the marker in the gateway's memory", Duration::from_secs(10), async || {
        (search_process(gateway.process_id(), needle).0 > 0).then_some(())
    })
    .await;
    assert_eq!(search_process(node.process_id(), needle).0, 0, "memory of the node daemon that was asked");
    node.signal(Signal::SIGCONT);
    // Answered or given up: the node was away for as long as the search took.
    asking.await.expect("the gateway answers");

    // Once more after the answer, when everything has been handed on and kept or not.
    assert_eq!(search_process(node.process_id(), needle).0, 0, "memory of the node daemon afterwards");
    assert_eq!(search_process(orchestrator.process_id(), needle).0, 0, "memory of the orchestrator afterwards");
    for daemon in [&orchestrator, &node, &gateway] {
        let folder = daemon.home.path();
        let folder = folder.parent().expect("a home has a parent");
        // Homes, and standard output and error beside them: every log at its most talkative.
        let (found, files) = search_files(folder, needle);
        assert!(files >= 3, "{files} files in {}", folder.display());
        assert_eq!(found, 0, "files and logs in {}", folder.display());
    }
    assert!(node.stderr().contains("TRACE"), "logs were at trace level");
    // What the model said is as private as what it was asked. Only a text that is long enough is telling.
    let said = said.trim();
    if said.len() >= 24 {
        let telling: String = said.chars().take(24).collect();
        assert_eq!(search_process(node.process_id(), telling.as_bytes()).0, 0, "the answer in the node daemon");
    }
}
