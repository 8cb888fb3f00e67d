//! Audits: who answers with another model is found, by whom the answer is checked, and so is a referee that lies.

use crate::{Pool, read, script::Script, within};
use protocol::link::{End, Outcome};

/// Runs one task with an audit of the first node by the others, and returns what was told of each node in it.
async fn audited(pool: &Pool, places: &[usize]) -> Vec<Outcome> {
    let audit = places.to_vec();
    let errands = audit.len();
    pool.orchestrator.lock().audit = Some(audit);
    let mut answer = pool.client.ask("default", Script::undisturbed(4).chat()).await.unwrap();
    let task = answer.task();
    within(read(&mut answer)).await.unwrap();
    let first = pool.nodes[places[0]].id();
    pool.orchestrator.until(|state| state.outcomes.iter().any(|o| o.task != task && o.node == first)).await;
    // The referees that were asked are told of right behind it.
    pool.client.close().await;
    let outcomes = pool.orchestrator.lock().outcomes.clone();
    let told: Vec<Outcome> = outcomes.into_iter().filter(|outcome| outcome.task != task).collect();
    assert!(told.len() <= errands && told.iter().all(|outcome| outcome.end == End::Completed), "{told:?}");
    told
}

fn passed(outcomes: &[Outcome], pool: &Pool) -> Vec<Option<bool>> {
    let of = |node| outcomes.iter().find(|outcome| outcome.node == node).and_then(|outcome| outcome.audit);
    pool.nodes.iter().map(|node| of(node.id()).map(|verdict| verdict.passed)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_honest_node_passes_with_one_referee() {
    let pool = Pool::of(3).await;
    let told = audited(&pool, &[0, 1, 2]).await;
    assert_eq!(passed(&told, &pool), [Some(true), None, None]);
    let subject = told.iter().find(|outcome| outcome.node == pool.nodes[0].id()).unwrap();
    assert!(subject.completion_tokens >= 48 && subject.first_token_ms > 0, "{subject:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_another_model_fails_when_two_say_so() {
    let pool = Pool::of(3).await;
    pool.nodes[0].lie(0.3);
    let told = audited(&pool, &[0, 1, 2]).await;
    assert_eq!(passed(&told, &pool), [Some(false), None, None]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_referee_that_lies_is_the_odd_one_out() {
    let pool = Pool::of(3).await;
    pool.nodes[1].lie(0.3);
    let told = audited(&pool, &[0, 1, 2]).await;
    assert_eq!(passed(&told, &pool), [Some(true), Some(false), None]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_word_against_another_says_nothing() {
    let pool = Pool::of(2).await;
    pool.nodes[0].lie(0.3);
    let told = audited(&pool, &[0, 1]).await;
    assert_eq!(passed(&told, &pool), [None, None]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_referee_only_the_pace_is_measured() {
    let pool = Pool::of(1).await;
    let told = audited(&pool, &[0]).await;
    assert_eq!(passed(&told, &pool), [None]);
    assert!(told[0].completion_tokens >= 48 && told[0].generation_ms < 60_000, "{told:?}");
}
