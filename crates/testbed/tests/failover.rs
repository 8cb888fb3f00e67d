//! A node is lost in the middle of an answer, in every way it can be: the reader notices a pause, and nothing else.

use std::time::{Duration, Instant};
use testbed::{Blow, Daemon, Machine, eventually, http, undisturbed};

const MAX_TOKENS: u32 = 300;
const STEP_MS: u64 = 10;

async fn struck_in_the_middle(blow: Blow) {
    let orchestrator = Daemon::orchestrator().await;
    let ticket = orchestrator.text("ticket");
    let mut machines = [Machine::join(&ticket, STEP_MS).await, Machine::join(&ticket, STEP_MS).await];
    let gateway = Daemon::gateway(&ticket).await;
    let content = format!("a story about {blow:?}");
    let mut stream = http::Stream::start(&gateway.text("base_url"), &content, MAX_TOKENS).await;
    let mut text = stream.text().await.expect("it begins");
    let (busy, _) = eventually("the node that answers", Duration::from_secs(10), async || {
        machines.iter().position(|machine| machine.active_tasks() > 0)
    })
    .await;
    machines[busy].strike(blow);
    let struck = Instant::now();
    let mut longest_pause = Duration::ZERO;
    let mut last = Instant::now();
    while text.len() < 1_000
        && let Some(piece) = stream.text().await
    {
        longest_pause = longest_pause.max(last.elapsed());
        last = Instant::now();
        text.push_str(&piece);
    }
    let rest = stream.whole().await;
    text.push_str(&rest.text);
    println!("{blow:?}: the longest pause took {longest_pause:?}, the end came {:?} after the blow", struck.elapsed());
    let (whole, usage) = undisturbed(&machines[1 - busy].model(), &content, MAX_TOKENS);
    assert_eq!(text, whole, "nothing lost, nothing doubled");
    assert_eq!(rest.usage["prompt_tokens"], usage.prompt_tokens);
    assert_eq!(rest.usage["completion_tokens"], usage.completion_tokens);
    machines[busy].recover(blow).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_daemon_costs_a_pause() {
    struck_in_the_middle(Blow::KillDaemon).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_worker_costs_a_pause() {
    struck_in_the_middle(Blow::KillWorker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_daemon_costs_a_pause() {
    struck_in_the_middle(Blow::FreezeDaemon).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_worker_costs_a_pause() {
    struck_in_the_middle(Blow::FreezeWorker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_node_costs_nothing() {
    struck_in_the_middle(Blow::Terminate).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_only_machine_may_come_back() {
    let orchestrator = Daemon::orchestrator().await;
    let mut machine = Machine::join(&orchestrator.text("ticket"), STEP_MS).await;
    let gateway = Daemon::gateway(&orchestrator.text("ticket")).await;
    let content = "a story with nobody else to tell it";
    let mut stream = http::Stream::start(&gateway.text("base_url"), content, MAX_TOKENS).await;
    let first = stream.text().await.expect("it begins");
    machine.strike(Blow::KillDaemon);
    machine.recover(Blow::KillDaemon).await;
    let rest = stream.whole().await;
    let (whole, _) = undisturbed(&machine.model(), content, MAX_TOKENS);
    assert_eq!(first + &rest.text, whole);
}
