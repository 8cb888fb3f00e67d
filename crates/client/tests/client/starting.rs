//! Before a node has taken the task: candidates in turn, and refusals as they are.

use crate::{
    Pool, read,
    script::{Cause, Script},
    within,
};
use client::{AskError, AskOptions};
use protocol::{
    grant::{Priority, Purpose},
    link::End,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_does_not_take_it_costs_a_try() {
    let pool = Pool::of(2).await;
    for (number, cause) in Cause::BEFORE_ACCEPTING.into_iter().enumerate() {
        let script = Script { number, ..Script::failing(cause, 0, 4) };
        let mut answer = within(pool.client.ask("default", script.chat())).await.unwrap();
        assert_eq!(within(read(&mut answer)).await.unwrap(), script.seen(), "{cause:?}");
    }
    pool.orchestrator.until(|state| state.outcomes.len() >= 6).await;
    let ends: Vec<End> = pool.orchestrator.lock().outcomes.iter().map(|outcome| outcome.end).collect();
    let count = |end| ends.iter().filter(|other| **other == end).count();
    assert_eq!((count(End::Completed), count(End::Refused), count(End::Died)), (3, 1, 1), "{ends:?}");
}

/// A connection that is kept may have died unseen.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_only_node_is_tried_again_when_its_connection_broke() {
    let pool = Pool::of(1).await;
    let script = Script::failing(Cause::HungUp, 0, 4);
    let mut answer = within(pool.client.ask("default", script.chat())).await.unwrap();
    assert_eq!(within(read(&mut answer)).await.unwrap(), script.seen());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_nobody_takes_it_the_reasons_are_told() {
    let pool = Pool::of(2).await;
    let script = Script { times: usize::MAX, ..Script::failing(Cause::Full, 0, 4) };
    let error = within(pool.client.ask("default", script.chat())).await.err().unwrap();
    let AskError::NoNode { reasons, .. } = &error else { panic!("{error}") };
    for node in &pool.nodes {
        assert!(reasons.iter().any(|reason| reason.contains(&node.id().short()) && reason.contains("full")), "{error}");
    }
    assert_eq!(pool.orchestrator.purposes(), [Purpose::First, Purpose::Retry]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_overloaded_pool_says_when_to_come_back() {
    let pool = Pool::of(1).await;
    pool.orchestrator.lock().overloaded = true;
    let options = AskOptions { priority: Priority::Batch, wait_ms_max: 5, ..AskOptions::default() };
    let error = within(pool.client.ask_with("default", Script::undisturbed(1).chat(), options)).await.err().unwrap();
    assert_eq!(error, AskError::Overloaded { retry_after_ms: 7_000 });
    let state = pool.orchestrator.lock();
    assert_eq!((state.requests[0].priority, state.requests[0].wait_ms_max), (Priority::Batch, 5));
    assert_eq!(state.requests.len(), 1, "an overloaded pool is not asked again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_candidate_works_without_an_orchestrator() {
    use client::direct::Caller;
    use protocol::{grant::Policy, task::Frame};
    let pool = Pool::of(1).await;
    let key = trust::MachineKey::generate();
    let transport = transport::Transport::bind(&key, transport::Listen::Loopback { port: 0 }, &[]).await.unwrap();
    let (task, candidate) = pool.orchestrator.grant(key.id());
    let caller = Caller::new(transport, Policy::default());
    let script = Script::undisturbed(4);
    let mut asked = script.chat();
    if let protocol::task::Task::Chat { generation, .. } = &mut asked {
        generation.sampling.seed = Some(1);
    }
    let mut source = within(caller.start(&candidate, task, crate::MODEL, &asked)).await.unwrap();
    let mut tokens = 0;
    while let Some(frame) = within(source.next()).await.unwrap() {
        if let Frame::Tokens { ids, .. } = &frame {
            tokens += ids.len();
        }
    }
    assert_eq!(tokens, 4);
}
