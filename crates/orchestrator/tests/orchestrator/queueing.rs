//! Who waits, whose turn it is, and who is told at once that it is not worth waiting.

use crate::machines::{Client, Node, Pool, request, within};
use protocol::{
    grant::{Grant, MatchRequest, Priority, Purpose, Refusal, RefusalKind},
    hold::Hold,
    ids::TaskId,
    link::FromNode,
};
use std::sync::Arc;
use tokio::{sync::mpsc, task::JoinHandle};
use trust::MachineKey;

const WAIT_MS: u32 = 60_000;

fn patient() -> MatchRequest {
    MatchRequest { wait_ms_max: WAIT_MS, ..request("default") }
}

/// A pool with one node, which is full.
async fn full_pool() -> (Pool, Node) {
    let pool = Pool::new().await;
    let mut node = pool.node().await;
    fill(&pool, &mut node).await;
    (pool, node)
}

async fn fill(pool: &Pool, node: &mut Node) {
    node.say(&FromNode::State(node.state(1, 1))).await;
    pool.until(node.id(), |row| row.active_tasks == 1 && row.hold == Some(Hold::Full { slots: 1 })).await;
}

async fn until_waiting(pool: &Pool, count: u64) {
    pool.until_counted(|metrics| metrics.waiting == count).await;
}

/// Asks in the background; what comes is sent on with its name.
fn ask(client: &Arc<Client>, name: u32, request: MatchRequest, answers: &mpsc::UnboundedSender<u32>) -> JoinHandle<()> {
    let (client, answers) = (Arc::clone(client), answers.clone());
    tokio::spawn(async move {
        client.matched(request).await.unwrap();
        let _ = answers.send(name);
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_waits_for_a_place_and_gets_it() {
    let (pool, mut node) = full_pool().await;
    let client = Arc::new(pool.client().await);
    let asking = Arc::clone(&client);
    let answer: JoinHandle<Result<Grant, Refusal>> = tokio::spawn(async move { asking.matched(patient()).await });
    until_waiting(&pool, 1).await;
    node.say(&FromNode::State(node.state(1, 0))).await;
    let grant = within(answer).await.unwrap().unwrap();
    assert_eq!(grant.candidates[0].node, node.id());
    let metrics = pool.orchestrator.metrics();
    assert_eq!((metrics.waited, metrics.waiting, metrics.matches_granted), (1, 0, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_would_wait_too_long_is_told_at_once() {
    let (pool, node) = full_pool().await;
    let client = pool.client().await;
    // Nothing is known of how long tasks take here, but more than a millisecond.
    let refusal = client.matched(MatchRequest { wait_ms_max: 1, ..request("default") }).await.unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::Overloaded);
    assert!(refusal.retry_after_ms.is_some_and(|ms| ms > 0));
    assert_eq!(refusal.reasons, [(node.id(), Hold::Full { slots: 1 })]);
    let hedge = MatchRequest { purpose: Purpose::Hedge, ..patient() };
    let refusal = client.matched(hedge).await.unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::Overloaded, "nobody waits beside a task that runs");
    let metrics = pool.orchestrator.metrics();
    assert_eq!((metrics.refused_early, metrics.waited), (1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn places_go_to_resumes_then_fairly_and_to_batch_last() {
    let (pool, mut node) = full_pool().await;
    let (greedy, modest) = (Arc::new(pool.client().await), Arc::new(pool.client().await));
    let (sender, mut answers) = mpsc::unbounded_channel();
    let mut waiting = 0;
    let batch = MatchRequest { priority: Priority::Batch, ..patient() };
    let resume = MatchRequest { purpose: Purpose::Resume, ..patient() };
    let asked = [
        (&modest, 9, batch),
        (&greedy, 1, patient()),
        (&greedy, 3, patient()),
        (&modest, 2, patient()),
        (&greedy, 0, resume),
    ];
    for (client, name, request) in asked {
        ask(client, name, request, &sender);
        waiting += 1;
        // One after the other, so that the order in which they came is known.
        until_waiting(&pool, waiting).await;
    }
    // Five: nobody says how they end, and an unproven node has no more at once.
    let mut order = Vec::new();
    while waiting > 0 {
        node.say(&FromNode::State(node.state(1, 0))).await;
        order.push(within(answers.recv()).await.unwrap());
        waiting -= 1;
        until_waiting(&pool, waiting).await;
        fill(&pool, &mut node).await;
    }
    assert_eq!(order, [0, 1, 2, 3, 9]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_goes_leaves_the_queue() {
    let (pool, mut node) = full_pool().await;
    let (leaving, staying) = (Arc::new(pool.client().await), Arc::new(pool.client().await));
    let (sender, mut answers) = mpsc::unbounded_channel();
    let asking = ask(&leaving, 1, patient(), &sender);
    until_waiting(&pool, 1).await;
    ask(&staying, 2, patient(), &sender);
    until_waiting(&pool, 2).await;
    asking.abort();
    until_waiting(&pool, 1).await;
    pool.until_counted(|metrics| metrics.waiting_gone == 1).await;
    node.say(&FromNode::State(node.state(1, 0))).await;
    assert_eq!(within(answers.recv()).await, Some(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_task_excludes_holds_up_nobody_else() {
    let (pool, mut node) = full_pool().await;
    let client = Arc::new(pool.client().await);
    let asking = Arc::clone(&client);
    let excluding = MatchRequest { exclude: vec![node.id()], ..patient() };
    let refusal = client.matched(excluding.clone()).await.unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::NoNode, "there is nothing to wait for");
    // A second node, full too, makes it wait; then the first is free.
    let mut other = pool.node().await;
    fill(&pool, &mut other).await;
    let picky = tokio::spawn(async move { asking.matched(excluding).await });
    until_waiting(&pool, 1).await;
    let (sender, mut answers) = mpsc::unbounded_channel();
    ask(&client, 1, patient(), &sender);
    until_waiting(&pool, 2).await;
    node.say(&FromNode::State(node.state(1, 0))).await;
    assert_eq!(within(answers.recv()).await, Some(1));
    assert!(within(picky).await.unwrap().is_err_and(|refusal| refusal.retry_after_ms.is_some()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_answers_everybody_who_waits() {
    let (pool, _node) = full_pool().await;
    let client = Arc::new(pool.client().await);
    let answers: Vec<_> = (0..20)
        .map(|_| {
            let client = Arc::clone(&client);
            tokio::spawn(async move { client.matched(MatchRequest { task: TaskId::random(), ..patient() }).await })
        })
        .collect();
    // With one place and nothing known, those far behind are told at once.
    pool.until_counted(|metrics| metrics.waiting + metrics.refused_early == 20).await;
    assert!(pool.orchestrator.metrics().waiting > 0);
    pool.orchestrator.shutdown().await;
    for answer in answers {
        let refusal = within(answer).await.unwrap().unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::Overloaded);
        assert!(refusal.retry_after_ms.is_some());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retries_and_hedges_have_a_budget() {
    let pool = Pool::new().await;
    let _node = pool.node().await;
    let (eager, other) = (pool.client().await, Client::join(&pool.ticket, &MachineKey::generate()).await.unwrap());
    for purpose in [Purpose::Hedge, Purpose::Retry] {
        for _ in 0..60 {
            let _ = eager.matched(MatchRequest { purpose, ..request("nobody-has-it") }).await;
        }
    }
    assert!(pool.orchestrator.metrics().budgets_spent >= 50, "{:?}", pool.orchestrator.metrics());
    assert!(
        other.matched(MatchRequest { purpose: Purpose::Hedge, ..request("default") }).await.is_ok(),
        "its own budget"
    );
    assert!(eager.matched(request("default")).await.is_ok(), "a beginning is none");
}
