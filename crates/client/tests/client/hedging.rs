//! Second nodes beside one that is late, and the budget that bounds them.

use crate::{
    Pool, read,
    script::{Cause, Script},
    within,
};
use protocol::{
    grant::{Expected, Purpose},
    link::End,
};
use std::time::Instant;
use tokio::task::JoinSet;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_first_token_comes_from_a_second_node() {
    let pool = Pool::of(2).await;
    pool.orchestrator.lock().expected = Expected { first_token_ms: 20, token_us: 1_000 };
    let script = Script::failing(Cause::Stall, 1, 5);
    let mut answer = pool.client.ask("default", script.chat()).await.unwrap();
    assert_eq!(within(read(&mut answer)).await.unwrap(), script.seen());
    assert_eq!(answer.handovers(), 1);
    pool.orchestrator.until(|state| state.outcomes.len() == 2).await;
    let [first] = pool.orchestrator.lock().requests[1].exclude[..] else { panic!("one is left out") };
    assert_ne!(answer.node(), first);
    assert_eq!(pool.orchestrator.ends(first), [End::Stalled], "it lived, and brought nothing in twice the time");
    let requests = pool.orchestrator.lock().requests.clone();
    assert_eq!((requests[1].purpose, requests[1].wait_ms_max), (Purpose::Hedge, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_node_may_still_win() {
    let pool = Pool::of(2).await;
    let script = Script { times: 2, ..Script::failing(Cause::Stall, 1, 5) };
    let mut answer = pool.client.ask("default", script.chat()).await.unwrap();
    for node in &pool.nodes {
        node.stalled().await;
    }
    let [first] = pool.orchestrator.lock().requests[1].exclude[..] else { panic!("one is left out") };
    let (slow, hedge): (Vec<_>, Vec<_>) = pool.nodes.iter().partition(|node| node.id() == first);
    slow[0].release();
    assert_eq!(within(read(&mut answer)).await.unwrap(), script.seen());
    assert_eq!((answer.node(), answer.handovers()), (first, 0));
    pool.orchestrator.until(|state| state.outcomes.len() == 2).await;
    assert_eq!(pool.orchestrator.ends(hedge[0].id()), [End::Cancelled]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_everybody_is_late_hedges_stay_within_their_budget() {
    const TASKS: usize = 40;
    let pool = Pool::of(2).await;
    pool.orchestrator.lock().expected = Expected { first_token_ms: 20, token_us: 1_000 };
    let begin = Instant::now();
    let mut answers = JoinSet::new();
    for number in 0..TASKS {
        let client = pool.client.clone();
        answers.spawn(async move {
            let script = Script { times: usize::MAX, number, ..Script::failing(Cause::Stall, 1, 3) };
            let mut answer = client.ask("default", script.chat()).await.unwrap();
            assert_eq!(read(&mut answer).await.unwrap(), script.seen());
        });
    }
    let hedges = |purposes: Vec<Purpose>| purposes.iter().filter(|purpose| **purpose == Purpose::Hedge).count();
    // The budget holds ten, and every task wants one.
    pool.orchestrator
        .until(|state| state.requests.iter().filter(|request| request.purpose == Purpose::Hedge).count() >= 10)
        .await;
    within(async {
        while !answers.is_empty() {
            pool.nodes.iter().for_each(|node| node.release());
            tokio::select! {
                ended = answers.join_next() => ended.unwrap().unwrap(),
                () = tokio::task::yield_now() => {}
            }
        }
    })
    .await;
    let allowed = 10 + TASKS / 20 + usize::try_from(begin.elapsed().as_secs() / 10).unwrap();
    let asked = hedges(pool.orchestrator.purposes());
    assert!(asked <= allowed, "{asked} hedges of {TASKS} tasks");
}
