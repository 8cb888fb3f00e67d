//! A cable is cut in the middle of an answer: nobody says goodbye, nothing ends, packets just stop.
#![cfg(target_os = "linux")]

use std::time::{Duration, Instant};
use testbed::{Daemon, Home, daemon::deterministic, eventually, http, network::Network, undisturbed};

const MAX_TOKENS: u32 = 400;

async fn node(network: &Network, index: usize, ticket: &str) -> Daemon {
    let home = Home::new();
    let lend = deterministic(&home, 10);
    let mut arguments = vec!["join", ticket, "--network"];
    arguments.extend(lend.iter().map(String::as_str));
    let command = home.command_at(network.place(index), &arguments);
    let mut node = Daemon::spawn(home, command);
    node.wait_for("taking work", |status| status["takes_work"] == true).await;
    node
}

async fn scenario(network: Network) {
    let home = Home::new();
    let mut orchestrator = Daemon::start(home, &["orchestrate", "--network"], &[]);
    orchestrator.wait_for("its ticket", |status| status["ticket"].is_string()).await;
    let ticket = orchestrator.text("ticket");
    let nodes = [node(&network, 0, &ticket).await, node(&network, 1, &ticket).await];
    let gateway = Daemon::gateway(&ticket).await;
    let model = orchestrator.home.deterministic_model(0);
    for round in 0..2 {
        let content = format!("a long story, round {round}");
        let mut stream = http::Stream::start(&gateway.text("base_url"), &content, MAX_TOKENS).await;
        let first = stream.text().await.expect("it begins");
        let (busy, _) = eventually("the node that answers", Duration::from_secs(10), async || {
            nodes.iter().position(|node| node.status()["active_tasks"].as_u64() > Some(0))
        })
        .await;
        network.place(busy).cut();
        let cut = Instant::now();
        let rest = stream.whole().await;
        println!("round {round}: whole {:?} after the cut", cut.elapsed());
        let (text, usage) = undisturbed(&model, &content, MAX_TOKENS);
        assert_eq!(first + &rest.text, text, "nothing lost, nothing doubled");
        assert_eq!(rest.usage["completion_tokens"], usage.completion_tokens);
        network.place(busy).mend();
        let id = nodes[busy].text("node_id");
        eventually("routable again", Duration::from_secs(60), async || {
            let status = orchestrator.status();
            let rows = status["nodes"].as_array().expect("an orchestrator's status has nodes");
            rows.iter().any(|row| row["id"] == id.as_str() && row["routable"] == true).then_some(())
        })
        .await;
    }
}

#[test]
fn a_cut_network_costs_a_pause() {
    // Namespaces belong to threads: the runtime's threads are started in this one's.
    let network = Network::enter(2).expect("namespaces: run the tests as root");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("threads");
    runtime.block_on(scenario(network));
}
