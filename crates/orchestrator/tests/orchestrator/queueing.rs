//! Who waits, whose turn it is, and who is told at once that it is not worth waiting.

use crate::machines::{Client, Node, Pool, quiet, request, within};
use protocol::{
    grant::{Grant, MatchRequest, Priority, Purpose, Refusal, RefusalKind},
    hold::Hold,
    ids::TaskId,
    link::{Answer, End, FromNode, NodeState, Outcome, Question},
};
use std::{sync::Arc, time::Duration};
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_finds_a_node_that_may_be_back_waits_for_it() {
    let pool = Pool::new().await;
    let (node, client) = (pool.node().await, Arc::new(pool.client().await));
    node.link.connection.close("a lid closes");
    pool.until(node.id(), |row| row.hold == Some(Hold::Unresponsive)).await;
    let refusal = client.matched(request("default")).await.unwrap_err();
    assert_eq!((refusal.kind, refusal.reasons), (RefusalKind::NoNode, vec![(node.id(), Hold::Unresponsive)]));
    assert!(refusal.retry_after_ms.is_some_and(|ms| ms < WAIT_MS), "it is told when to ask again");
    let (sender, mut answers) = mpsc::unbounded_channel();
    for name in 0..4 {
        ask(&client, name, patient(), &sender);
        until_waiting(&pool, u64::from(name) + 1).await;
    }
    let mut back = Node::join(&pool.ticket, &node.link.key).await.unwrap();
    back.say(&FromNode::State(back.state(4, 0))).await;
    for _ in 0..4 {
        within(answers.recv()).await.unwrap();
    }
    assert_eq!(pool.orchestrator.metrics().refused_early, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waited_for_a_node_in_vain_is_told_why() {
    let pool = Pool::new().await;
    let (mut node, client) = (pool.node().await, pool.client().await);
    let until_unix_ms = Some(crate::machines::unix_ms() + 2_500);
    let paused = Hold::Paused { until_unix_ms };
    node.say(&FromNode::State(NodeState { hold: Some(paused.clone()), ..node.state(4, 0) })).await;
    pool.until(node.id(), |row| row.hold.is_some()).await;
    // It says that it will be back, and is not.
    let refusal = client.matched(MatchRequest { wait_ms_max: 2_600, ..request("default") }).await.unwrap_err();
    assert_eq!((refusal.kind, refusal.reasons), (RefusalKind::NoNode, vec![(node.id(), paused)]));
    let metrics = pool.orchestrator.metrics();
    assert_eq!((metrics.waited, metrics.waited_in_vain, metrics.matches_no_node), (1, 1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_waits_where_nothing_comes_back_by_itself() {
    let pool = Pool::new().await;
    let client = pool.client().await;
    let refusal = client.matched(patient()).await.unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::UnknownModel { known: Vec::new() });
    let mut node = pool.node().await;
    let rule = "the owner is here".to_owned();
    let later = Some(crate::machines::unix_ms() + 10 * u64::from(WAIT_MS));
    let holds = [
        Hold::Paused { until_unix_ms: None },
        Hold::Paused { until_unix_ms: later },
        Hold::Owner { rule, lifts_unix_ms: None },
    ];
    for hold in holds {
        node.say(&FromNode::State(NodeState { hold: Some(hold.clone()), ..node.state(4, 0) })).await;
        pool.until(node.id(), |row| row.hold.as_ref() == Some(&hold)).await;
        let refusal = client.matched(patient()).await.unwrap_err();
        assert_eq!((refusal.kind, refusal.reasons), (RefusalKind::NoNode, vec![(node.id(), hold)]));
    }
    assert_eq!(pool.orchestrator.metrics().waited, 0);
}

/// Asks for a place and says that the node failed.
async fn fail_at(client: &Client, node: &Node, request: MatchRequest) {
    let task = request.task;
    let grant = client.matched(request).await.unwrap();
    assert_eq!(grant.candidates[0].node, node.id());
    let outcome = Outcome {
        task,
        node: node.id(),
        end: End::Corrupt,
        prompt_tokens: 0,
        completion_tokens: 0,
        generation_ms: 0,
        audit: None,
    };
    assert_eq!(client.ask(&Question::Outcome(outcome)).await, Answer::Noted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_free_node_that_failed_a_client_is_no_reason_to_turn_it_away() {
    let (pool, mut full) = full_pool().await;
    let (failing, client) = (pool.node().await, Arc::new(pool.client().await));
    for _ in 0..2 {
        fail_at(&client, &failing, request("default")).await;
    }
    let (sender, mut answers) = mpsc::unbounded_channel();
    ask(&client, 1, patient(), &sender);
    until_waiting(&pool, 1).await;
    // Somebody else takes the place that it does not want, though it came first.
    pool.client().await.matched(patient()).await.unwrap();
    assert_eq!(pool.orchestrator.metrics().waiting, 1, "it goes on waiting");
    full.say(&FromNode::State(full.state(1, 0))).await;
    assert_eq!(within(answers.recv()).await, Some(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_whose_only_node_failed_it_waits_until_that_has_rested() {
    let pool = Pool::with(orchestrator::Timings { silence_max: Duration::from_secs(1_000_000), ..quiet() }).await;
    let (node, client) = (pool.node().await, pool.client().await);
    for _ in 0..2 {
        fail_at(&client, &node, request("default")).await;
    }
    let refusal = client.matched(request("default")).await.unwrap_err();
    assert_eq!(
        (refusal.kind, refusal.reasons),
        (RefusalKind::NoNode, vec![(node.id(), Hold::Ejected { failures: 2 })])
    );
    assert!(refusal.retry_after_ms.is_some_and(|ms| (1..=5_000).contains(&ms)));
    // Longer each time where there are others; there are none.
    for _ in 0..3 {
        fail_at(&client, &node, patient()).await;
    }
    let refusal = client.matched(patient()).await.unwrap_err();
    assert_eq!(
        (refusal.kind, refusal.reasons, refusal.retry_after_ms),
        (RefusalKind::NoNode, vec![(node.id(), Hold::Ejected { failures: 5 })], None),
        "five tasks are all it gets"
    );
}
