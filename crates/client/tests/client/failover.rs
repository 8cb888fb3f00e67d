//! Promise P3: whatever happens to a node, at whichever token, the reader sees the undisturbed answer.

use crate::{
    Pool, Seen, read,
    script::{Cause, Script},
    stub_node::StubNode,
    within,
};
use client::AskError;
use protocol::{
    grant::{ModelRef, Purpose, WorkerEvidence},
    ids::{ModelDigest, NodeId},
    link::End,
    task::{Task, TaskError, Usage},
};
use std::time::Duration;
use tokio::task::JoinSet;

// With the beginning and the end nine places: fewer than a budget of hedges holds.
const TOKENS: usize = 7;

/// What its asker says of a node that failed like this.
fn ends(cause: Cause) -> &'static [End] {
    match cause {
        Cause::Reset | Cause::CloseConnection | Cause::EndStream | Cause::WorkerLost => &[End::Died],
        Cause::FinishedEarly | Cause::EngineFailed => &[End::Died],
        // Before the first token a second node beside it may be faster than the verdict.
        Cause::Freeze | Cause::Stall | Cause::NoAnswer => &[End::Stalled, End::Cancelled],
        Cause::HandedBack | Cause::ShuttingDown => &[End::HandedBack],
        Cause::RefusedLate | Cause::Full => &[End::Refused],
        Cause::Corrupt | Cause::Doubled | Cause::OutOfTurn | Cause::Misplaced => &[End::Corrupt],
        Cause::HungUp => &[End::Died],
        Cause::Invalid | Cause::Poison => &[End::Refused],
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_cause_at_every_token_costs_nothing() {
    let mut cases = JoinSet::new();
    for cause in Cause::AFTER_ACCEPTING {
        // A pool for each cause, with budgets of its own.
        cases.spawn(async move {
            let pool = Pool::of(3).await;
            let mut answers = JoinSet::new();
            for at in 0..=TOKENS + 1 {
                let client = pool.client.clone();
                if cause == Cause::CloseConnection {
                    // One after the other: each cut takes along whatever else is on the connection.
                    while let Some(ended) = within(answers.join_next()).await {
                        ended.unwrap();
                    }
                }
                answers.spawn(async move {
                    let script = Script::failing(cause, at, TOKENS);
                    let mut answer = client.ask("default", script.chat()).await.unwrap();
                    let seen = read(&mut answer).await.unwrap_or_else(|error| panic!("{script:?}: {error}"));
                    assert_eq!(seen, script.seen(), "{script:?}");
                });
            }
            while let Some(ended) = within(answers.join_next()).await {
                ended.unwrap();
            }
            for node in &pool.nodes {
                assert_eq!(node.wrong(), Vec::<String>::new(), "{cause:?}: continued from a wrong place");
            }
            let failed = |end: &End| !matches!(end, End::Completed);
            let enough = TOKENS + 2;
            pool.orchestrator.until(|state| state.outcomes.iter().filter(|o| failed(&o.end)).count() >= enough).await;
            let outcomes = pool.orchestrator.lock().outcomes.clone();
            assert!(outcomes.iter().any(|outcome| ends(cause).contains(&outcome.end)), "{cause:?}: {outcomes:?}");
            for outcome in outcomes.iter().filter(|outcome| failed(&outcome.end)) {
                // On a busy machine any node may seem to be silent or late.
                let slow = matches!(outcome.end, End::Stalled | End::Cancelled);
                assert!(slow || ends(cause).contains(&outcome.end), "{cause:?}: {outcome:?}");
            }
        });
    }
    while let Some(ended) = cases.join_next().await {
        ended.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_after_node_may_be_lost() {
    let pool = Pool::of(2).await;
    // Each of two nodes loses it twice, at the same token: it goes on, with the nodes that there are.
    let script = Script { times: 4, ..Script::failing(Cause::WorkerLost, 5, TOKENS) };
    let mut answer = pool.client.ask("default", script.chat()).await.unwrap();
    assert_eq!(within(read(&mut answer)).await.unwrap(), script.seen());
    let requests = pool.orchestrator.lock().requests.clone();
    for request in &requests[1..] {
        assert_eq!(request.purpose, Purpose::Resume);
        assert_eq!(request.model, ModelRef::Digest(crate::MODEL), "the same model, whatever its name means by now");
    }
    let tasks: std::collections::BTreeSet<_> = requests.iter().map(|request| request.task).collect();
    assert_eq!(tasks.len(), requests.len(), "a permit is good once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_only_node_may_come_back() {
    let pool = Pool::of(1).await;
    let script = Script { times: 2, ..Script::failing(Cause::WorkerLost, 3, TOKENS) };
    let mut answer = pool.client.ask("default", script.chat()).await.unwrap();
    assert_eq!(within(read(&mut answer)).await.unwrap(), script.seen());
    assert_eq!(answer.handovers(), 0, "it never left the node");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_kills_workers_does_not_walk_through_the_pool() {
    let pool = Pool::of(3).await;
    let script = Script { times: usize::MAX, ..Script::failing(Cause::WorkerLost, 4, TOKENS) };
    let mut answer = pool.client.ask("default", script.chat()).await.unwrap();
    let error = within(read(&mut answer)).await.unwrap_err();
    assert!(matches!(&error, AskError::Broken { reason } if reason.contains("the worker died")), "{error}");
    let tries: usize = pool.nodes.iter().map(StubNode::streams).sum();
    assert_eq!(tries, 7, "after the first progress");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_any_node_patience_ends_in_an_error_that_says_why() {
    let pool = Pool::patient(1, Duration::from_millis(1_500)).await;
    let script = Script { times: usize::MAX, ..Script::failing(Cause::Stall, 3, TOKENS) };
    let mut answer = pool.client.ask("default", script.chat()).await.unwrap();
    // Three tokens are there, then the machine is gone for good.
    for _ in 0..3 {
        answer.next().await.unwrap().unwrap();
    }
    pool.orchestrator.lock().offers.clear();
    pool.nodes[0].close().await;
    let error = within(async {
        loop {
            if let Err(error) = answer.next().await.expect("it ends with an error") {
                break error;
            }
        }
    })
    .await;
    let AskError::Broken { reason } = &error else { panic!("{error}") };
    assert!(reason.contains(&pool.nodes[0].id().short()) && reason.contains("no node can take"), "{reason}");
    assert!(answer.next().await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vectors_are_computed_again_and_shown_once() {
    let pool = Pool::of(2).await;
    for at in 0..=5 {
        let script = Script { number: 100 + at, ..Script::failing(Cause::Reset, at, 4) };
        let mut answer = pool.client.ask("default", script.embedding()).await.unwrap();
        let usage = Usage { prompt_tokens: crate::script::PROMPT_TOKENS, completion_tokens: 0 };
        let expected =
            Seen { begun: vec![usage.prompt_tokens], vectors: vec![0, 1, 2, 3], usage: vec![usage], ..Seen::default() };
        assert_eq!(within(read(&mut answer)).await.unwrap(), expected, "at {at}");
    }
}

/// Promise P2 holds in the middle of an answer, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_goes_on_only_where_the_policy_allows_it() {
    let pool = Pool::of(2).await;
    let (liar, other) = (StubNode::start(Default::default()).await, StubNode::start(Default::default()).await);
    let mut forged = liar.candidate();
    forged.evidence = pool.nodes[0].candidate().evidence;
    let mut another_model = other.candidate();
    let about_another = WorkerEvidence { model: ModelDigest([6; 32]), ..other.evidence() };
    another_model.evidence = other.sign(&about_another);
    pool.orchestrator.lock().for_resumes = vec![forged, another_model];
    let script = Script::failing(Cause::WorkerLost, 4, TOKENS);
    let mut answer = pool.client.ask("default", script.chat()).await.unwrap();
    assert_eq!(within(read(&mut answer)).await.unwrap(), script.seen());
    assert_eq!((liar.streams(), other.streams()), (0, 0), "nothing was sent to them");
    let told = pool.orchestrator.lock().outcomes.iter().any(|told| [liar.id(), other.id()].contains(&told.node));
    assert!(!told, "nor was it tried");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn giving_up_an_answer_cancels_it_everywhere() {
    let pool = Pool::of(2).await;
    // Both stall before the first token: the second is a hedge.
    let script = Script { times: 2, ..Script::failing(Cause::Stall, 1, TOKENS) };
    let answer = pool.client.ask("default", script.chat()).await.unwrap();
    pool.orchestrator.until(|state| state.requests.len() == 2).await;
    for node in &pool.nodes {
        node.stalled().await;
    }
    drop(answer);
    for node in &pool.nodes {
        within(node.cancelled()).await;
    }
    pool.orchestrator.until(|state| state.outcomes.len() == 2).await;
    for node in &pool.nodes {
        assert_eq!(pool.orchestrator.ends(node.id()), [End::Cancelled]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outcomes_say_what_was_measured() {
    let pool = Pool::of(2).await;
    let script = Script::failing(Cause::WorkerLost, 4, TOKENS);
    let mut answer = pool.client.ask("default", script.chat()).await.unwrap();
    within(read(&mut answer)).await.unwrap();
    pool.orchestrator.until(|state| state.outcomes.len() == 2).await;
    let outcomes = pool.orchestrator.lock().outcomes.clone();
    let (first, second) = (outcomes[0].node, outcomes[1].node);
    assert!(first != second && second == answer.node());
    let of = |node| outcomes.iter().find(|outcome| outcome.node == node).unwrap();
    // Three tokens came from the first; the second read them like a prompt and brought the rest.
    let counts = |node| (of(node).end, of(node).prompt_tokens, of(node).completion_tokens, of(node).audit);
    assert_eq!(counts(first), (End::Died, 7, 3, None));
    assert_eq!(counts(second), (End::Completed, 7 + 3, 4, None));
}

/// A seed that the asker chose goes along; one is chosen where it chose none (the stub checks that there is one).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bound_on_the_tokens_counts_those_that_are_there() {
    let pool = Pool::of(2).await;
    let script = Script::failing(Cause::WorkerLost, 4, 100);
    let mut task = script.chat();
    if let Task::Chat { generation, .. } = &mut task {
        generation.max_tokens = Some(6);
    }
    let mut answer = pool.client.ask("default", task).await.unwrap();
    let seen = within(read(&mut answer)).await.unwrap();
    assert_eq!(seen, Script::undisturbed(6).seen());
    assert_eq!(pool.orchestrator.lock().requests[1].answer_bucket_tokens, 4, "three of six are left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_worker_alone_turns_nobody_away() {
    let pool = Pool::of(3).await;
    let script = Script::failing(Cause::Invalid, 0, TOKENS);
    let mut answer = pool.client.ask("default", script.chat()).await.unwrap();
    assert_eq!(within(read(&mut answer)).await.unwrap(), script.seen());
    // Two can; and in a pool of one there is nobody else to ask.
    let invalid = AskError::Task(TaskError::Invalid { message: "no such thing".to_owned() });
    for nodes in [3, 1] {
        let pool = Pool::of(nodes).await;
        let script = Script { times: usize::MAX, ..script };
        let mut answer = pool.client.ask("default", script.chat()).await.unwrap();
        assert_eq!(within(read(&mut answer)).await.unwrap_err(), invalid);
        assert_eq!(pool.orchestrator.purposes(), [Purpose::First, Purpose::Retry]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_that_nobody_can_go_on_from_are_their_authors_fault() {
    let pool = Pool::of(4).await;
    let script = Script { times: usize::MAX, ..Script::failing(Cause::Poison, 4, TOKENS) };
    let mut answer = pool.client.ask("default", script.chat()).await.unwrap();
    let error = within(read(&mut answer)).await.unwrap_err();
    let AskError::Broken { reason } = &error else { panic!("{error}") };
    pool.orchestrator.until(|state| state.outcomes.len() == 3).await;
    // Where the answer is now is another matter: it moves on at once.
    let is_first = |node: &NodeId| pool.orchestrator.ends(*node) == [End::Corrupt];
    let first = pool.nodes.iter().map(StubNode::id).find(is_first).unwrap();
    assert!(reason.contains(&format!("from the tokens of {}", first.short())), "{reason}");
    let others = pool.nodes.iter().map(StubNode::id).filter(|node| *node != first);
    let ends: Vec<End> = others.flat_map(|node| pool.orchestrator.ends(node)).collect();
    assert_eq!(ends, [End::Refused; 2], "two are believed, and not blamed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_closes_ends_its_answers() {
    let pool = Pool::of(2).await;
    let script = Script::failing(Cause::Stall, 1, TOKENS);
    let mut answer = pool.client.ask("default", script.chat()).await.unwrap();
    pool.client.close().await;
    let error = within(read(&mut answer)).await.unwrap_err();
    assert!(matches!(error, AskError::Broken { .. }), "{error}");
}
