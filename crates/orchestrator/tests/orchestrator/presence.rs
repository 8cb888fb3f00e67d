//! Who counts as there: goodbyes, silence, broken links, reports and probes.

use crate::machines::{Node, Pool, quiet, request, within};
use orchestrator::Timings;
use protocol::{
    grant::RefusalKind,
    hold::Hold,
    link::{Answer, FromNode, Question},
};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_its_goodbye_a_node_gets_nothing() {
    let pool = Pool::new().await;
    let (mut node, client) = (pool.node().await, pool.client().await);
    node.say(&FromNode::Goodbye).await;
    let row = pool.until(node.id(), |row| row.hold == Some(Hold::Left)).await;
    assert!(row.since_unix_ms > 0);
    let refusal = client.matched(request("default")).await.unwrap_err();
    assert_eq!((refusal.kind, refusal.reasons), (RefusalKind::NoNode, vec![(node.id(), Hold::Left)]));
    // Neither what it still says nor the end of its link changes that.
    node.say(&FromNode::State(node.state(4, 0))).await;
    node.link.sender.finish();
    within(node.link.sender.stopped()).await;
    node.link.connection.close("gone");
    pool_unlinked(&pool).await;
    assert_eq!(pool.row(node.id()).unwrap().hold, Some(Hold::Left));
    // A new link does.
    let mut back = Node::join(&pool.ticket, &node.link.key).await.unwrap();
    back.say(&FromNode::State(back.state(4, 0))).await;
    pool.until(back.id(), |row| row.hold.is_none()).await;
}

async fn pool_unlinked(pool: &Pool) {
    within(async {
        while pool.orchestrator.metrics().nodes_linked > 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_takes_a_node_out_and_a_word_brings_it_back() {
    let timings = Timings { silence_max: Duration::from_millis(300), ..quiet() };
    let pool = Pool::with(timings).await;
    let client = pool.client().await;
    let mut node = Node::join(&pool.ticket, &trust::MachineKey::generate()).await.unwrap();
    node.say(&FromNode::State(node.state(4, 0))).await;
    pool.until(node.id(), |row| row.hold == Some(Hold::Unresponsive)).await;
    let refusal = client.matched(request("default")).await.unwrap_err();
    assert_eq!(refusal.reasons, [(node.id(), Hold::Unresponsive)]);
    node.say(&FromNode::State(node.state(4, 0))).await;
    pool.until(node.id(), |row| row.hold.is_none()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_link_takes_a_node_out_without_waiting() {
    // Only the end of the link can tell.
    let timings = Timings { silence_max: Duration::from_secs(1_000_000), ..quiet() };
    let pool = Pool::with(timings).await;
    let node = pool.node().await;
    node.link.connection.close("cable");
    pool.until(node.id(), |row| row.hold == Some(Hold::Unresponsive)).await;
    assert_eq!(pool.orchestrator.models()[0].ready_nodes, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_link_replaces_the_old_one() {
    let pool = Pool::new().await;
    let old = pool.node().await;
    let mut new = Node::join(&pool.ticket, &old.link.key).await.unwrap();
    assert_eq!(pool.row(old.id()).unwrap().hold, Some(Hold::Starting), "what the old one said is forgotten");
    let why = within(old.link.connection.closed()).await;
    assert!(why.contains("replaced"), "{why}");
    new.say(&FromNode::State(new.state(4, 0))).await;
    pool.until(new.id(), |row| row.hold.is_none()).await;
    assert_eq!(pool.orchestrator.metrics().nodes_linked, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reported_node_that_does_not_answer_is_out() {
    let pool = Pool::with(Timings { probe_max: Duration::from_millis(100), ..quiet() }).await;
    let (mut node, client) = (pool.node().await, pool.client().await);
    assert_eq!(client.ask(&Question::Report { node: node.id() }).await, Answer::Noted);
    pool.until(node.id(), |row| row.hold == Some(Hold::Unresponsive)).await;
    let refusal = client.matched(request("default")).await.unwrap_err();
    assert_eq!(refusal.reasons, [(node.id(), Hold::Unresponsive)]);
    let metrics = pool.orchestrator.metrics();
    assert_eq!((metrics.probes, metrics.probes_failed), (1, 1));
    // A late answer is a sign of life too.
    let probe = node.probed().await;
    node.say(&FromNode::Alive { probe }).await;
    pool.until(node.id(), |row| row.hold.is_none()).await;
    // But it comes after a node that answers.
    let fresh = pool.node().await;
    for _ in 0..3 {
        let grant = client.matched(request("default")).await.unwrap();
        let order: Vec<_> = grant.candidates.iter().map(|candidate| candidate.node).collect();
        assert_eq!(order, [fresh.id(), node.id()]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_of_a_node_that_answers_does_nothing() {
    // The answer counts, not the time.
    let pool = Pool::with(Timings { probe_max: Duration::from_secs(1_000), ..quiet() }).await;
    let (mut node, client) = (pool.node().await, pool.client().await);
    let mut last = 0;
    for _ in 0..3 {
        assert_eq!(client.ask(&Question::Report { node: node.id() }).await, Answer::Noted);
        let probe = node.probed().await;
        assert!(probe > last, "each probe has its own number");
        last = probe;
        // The wrong answer first: another number, or whatever else it says, is no answer.
        node.say(&FromNode::Alive { probe: probe + 1 }).await;
        node.say(&FromNode::Alive { probe }).await;
        node.say(&FromNode::State(node.state(4, probe as u32))).await;
        pool.until(node.id(), |row| row.active_tasks == probe as u32).await;
        assert_eq!(pool.row(node.id()).unwrap().hold.map(|hold| hold.code()), busy(probe));
    }
    assert_eq!(pool.orchestrator.metrics().probes, 3);
    assert_eq!(pool.orchestrator.metrics().probes_failed, 0);
    node.say(&FromNode::State(node.state(4, 0))).await;
    pool.until(node.id(), |row| row.hold.is_none()).await;
    assert_eq!(client.matched(request("default")).await.unwrap().candidates[0].node, node.id());
}

fn busy(tasks: u64) -> Option<&'static str> {
    (tasks >= 4).then_some("full")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reports_are_bounded() {
    let pool = Pool::with(Timings { probe_max: Duration::from_secs(1_000), ..quiet() }).await;
    let (node, client) = (pool.node().await, pool.client().await);
    for _ in 0..100 {
        assert_eq!(client.ask(&Question::Report { node: node.id() }).await, Answer::Noted);
    }
    assert_eq!(client.ask(&Question::Report { node: client.id() }).await, Answer::Noted, "no node at all");
    let metrics = pool.orchestrator.metrics();
    assert_eq!((metrics.reports, metrics.probes), (101, 1), "one probe at a time");
    assert!(metrics.reports_limited > 0);
    assert_eq!(pool.row(node.id()).unwrap().hold, None);
}
