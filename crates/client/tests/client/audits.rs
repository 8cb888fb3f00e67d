//! Audits: who answers with another model is found, by whom the answer is checked, and so is a referee that lies. Answers to
//! canaries and to the asker's own tasks are judged alike.

use crate::{
    Pool, read,
    script::{Cause, Script},
    within,
};
use client::{AskOptions, Client, ClientConfig};
use protocol::{
    ids::NodeId,
    link::{End, Outcome},
};
use trust::MachineKey;

/// Tokens of an answer that says enough to be judged.
const TOKENS: usize = 40;

/// Runs one task with a canary for the first node and the others as its referees, and returns what was told of each
/// node in it.
async fn tried(pool: &Pool, places: &[usize]) -> Vec<Outcome> {
    pool.orchestrator.lock().canary = Some(places.to_vec());
    let mut answer = pool.client.ask("default", Script::undisturbed(4).chat()).await.unwrap();
    let task = answer.task();
    within(read(&mut answer)).await.unwrap();
    let first = pool.nodes[places[0]].id();
    pool.orchestrator.until(|state| state.outcomes.iter().any(|o| o.task != task && o.node == first)).await;
    // The referees that were asked are told of right behind it.
    pool.client.close().await;
    let outcomes = pool.orchestrator.lock().outcomes.clone();
    let told: Vec<Outcome> = outcomes.into_iter().filter(|outcome| outcome.task != task).collect();
    assert!(told.len() <= places.len() && told.iter().all(|outcome| outcome.end == End::Completed), "{told:?}");
    told
}

/// Runs a task whose answer is drawn on whichever nodes it takes and read by others, and returns what was told of each
/// node beside how its part of the task ended; with the subject.
async fn audited(pool: &Pool, script: Script, readers: &[usize]) -> (NodeId, Vec<Outcome>) {
    pool.orchestrator.lock().read_by = Some(readers.to_vec());
    let mut answer = pool.client.ask("default", script.chat()).await.unwrap();
    assert_eq!(within(read(&mut answer)).await.unwrap(), script.seen());
    let granted: Vec<_> = pool.orchestrator.lock().requests.iter().map(|request| request.task).collect();
    let is_of_the_audit = |outcome: &&Outcome| !granted.contains(&outcome.task);
    pool.orchestrator
        .until(|state| {
            let [(_, subject)] = state.readings[..] else { return false };
            state.outcomes.iter().filter(is_of_the_audit).any(|outcome| outcome.node == subject)
        })
        .await;
    pool.client.close().await;
    let state = pool.orchestrator.lock();
    // How the node did is told for itself, and does not wait for anybody who reads.
    for outcome in state.outcomes.iter().filter(|outcome| granted.contains(&outcome.task)) {
        assert_eq!(outcome.audit, None, "{outcome:?}");
    }
    let told: Vec<Outcome> = state.outcomes.iter().filter(is_of_the_audit).cloned().collect();
    assert!(told.len() <= 1 + readers.len(), "{told:?}");
    (state.readings[0].1, told)
}

fn passed(outcomes: &[Outcome], pool: &Pool) -> Vec<Option<bool>> {
    let of = |node| outcomes.iter().find(|outcome| outcome.node == node).and_then(|outcome| outcome.audit);
    pool.nodes.iter().map(|node| of(node.id()).map(|verdict| verdict.passed)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_honest_node_passes_with_one_referee() {
    let pool = Pool::of(3).await;
    let told = tried(&pool, &[0, 1, 2]).await;
    assert_eq!(passed(&told, &pool), [Some(true), None, None]);
    let subject = told.iter().find(|outcome| outcome.node == pool.nodes[0].id()).unwrap();
    assert!(subject.completion_tokens >= 48, "{subject:?}");

    let pool = Pool::of(3).await;
    let (subject, told) = audited(&pool, Script::undisturbed(TOKENS), &[1, 2]).await;
    assert_eq!(subject, pool.nodes[0].id());
    assert_eq!(passed(&told, &pool), [Some(true), None, None]);
    assert_eq!([0, 1, 2].map(|place| pool.nodes[place].streams()), [1, 1, 0], "its own task, and one reader");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_another_model_fails_when_two_say_so() {
    let pool = Pool::of(3).await;
    pool.nodes[0].lie(0.3);
    let told = tried(&pool, &[0, 1, 2]).await;
    assert_eq!(passed(&told, &pool), [Some(false), None, None]);

    let pool = Pool::of(3).await;
    pool.nodes[0].lie(0.3);
    let (_, told) = audited(&pool, Script::undisturbed(TOKENS), &[1, 2]).await;
    assert_eq!(passed(&told, &pool), [Some(false), None, None]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_referee_that_lies_is_the_odd_one_out() {
    let pool = Pool::of(3).await;
    pool.nodes[1].lie(0.3);
    let told = tried(&pool, &[0, 1, 2]).await;
    assert_eq!(passed(&told, &pool), [Some(true), Some(false), None]);

    let pool = Pool::of(3).await;
    pool.nodes[1].lie(0.3);
    let (_, told) = audited(&pool, Script::undisturbed(TOKENS), &[1, 2]).await;
    assert_eq!(passed(&told, &pool), [Some(true), Some(false), None]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_word_against_another_says_nothing() {
    let pool = Pool::of(2).await;
    pool.nodes[0].lie(0.3);
    let told = tried(&pool, &[0, 1]).await;
    assert_eq!(passed(&told, &pool), [None, None]);

    // Nobody has two voices, and nobody reads its own answer.
    let pool = Pool::of(2).await;
    pool.nodes[0].lie(0.3);
    let (_, told) = audited(&pool, Script::undisturbed(TOKENS), &[1, 1]).await;
    assert_eq!(passed(&told, &pool), [None, None]);
    let pool = Pool::of(2).await;
    let (_, told) = audited(&pool, Script::undisturbed(TOKENS), &[0, 1]).await;
    assert_eq!((passed(&told, &pool), pool.nodes[0].streams()), (vec![Some(true), None], 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_referee_only_the_pace_is_measured() {
    let pool = Pool::of(1).await;
    let told = tried(&pool, &[0]).await;
    assert_eq!(passed(&told, &pool), [None]);
    assert!(told[0].completion_tokens >= 48 && told[0].generation_ms < 60_000, "{told:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_an_answer_that_moved_the_longest_part_is_read() {
    // The first node is lost behind so many tokens, and the second writes the rest.
    for (before, longest) in [(45, 0), (20, 1)] {
        let script = Script::failing(Cause::WorkerLost, before + 1, 65);
        let other = 1 - longest;
        let pool = Pool::of(3).await;
        let (subject, told) = audited(&pool, script, &[other, 2]).await;
        assert_eq!(subject, pool.nodes[longest].id(), "{before}");
        assert_eq!(passed(&told, &pool)[longest], Some(true), "{before}");

        let pool = Pool::of(3).await;
        pool.nodes[longest].lie(0.3);
        let (_, told) = audited(&pool, script, &[other, 2]).await;
        assert_eq!(passed(&told, &pool)[longest], Some(false), "{before}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_reads_what_its_asker_keeps_or_what_says_nothing() {
    let pool = Pool::of(3).await;
    pool.orchestrator.lock().read_by = Some(vec![1, 2]);
    let config = ClientConfig::new(MachineKey::generate(), pool.orchestrator.ticket());
    let never = Client::start(ClientConfig { audit: false, ..config }).await.unwrap();
    let kept = AskOptions { audit: false, ..AskOptions::default() };
    let long = || Script::undisturbed(TOKENS);
    for (client, task, options) in [
        (&never, long().chat(), AskOptions::default()),
        (&pool.client, long().chat(), kept),
        (&pool.client, Script::undisturbed(15).chat(), AskOptions::default()),
        (&pool.client, long().embedding(), AskOptions::default()),
    ] {
        let mut answer = client.ask_with("default", task, options).await.unwrap();
        within(read(&mut answer)).await.unwrap();
    }
    assert_eq!(pool.orchestrator.lock().readings, [], "what is asked is asked when an answer ends");
    assert_eq!(pool.nodes.iter().map(|node| node.streams()).sum::<usize>(), 4);
    // One that may be read, of the same client, is.
    let mut answer = pool.client.ask("default", long().chat()).await.unwrap();
    within(read(&mut answer)).await.unwrap();
    pool.orchestrator.until(|state| state.outcomes.iter().any(|outcome| outcome.audit.is_some())).await;
    assert_eq!(pool.orchestrator.lock().readings.len(), 1);
}
