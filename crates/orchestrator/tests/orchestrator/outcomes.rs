//! What clients say of their tasks: who is believed, and what it does.

use crate::{
    machines::{Client, Pool, quiet, request},
    serving::{FAST, Pace, Serving},
};
use orchestrator::{Measure, Timings};
use protocol::{
    grant::{Audit, Grant, MatchRequest, RefusalKind},
    hold::Hold,
    ids::{NodeId, TaskId},
    link::{Answer, AuditVerdict, End, FromNode, NodeState, Outcome, Question},
};
use std::time::Duration;
use trust::{
    MachineKey,
    permit::{self, Expected},
};

fn outcome(task: TaskId, node: NodeId, end: End) -> Outcome {
    Outcome { task, node, end, prompt_tokens: 10, completion_tokens: 20, generation_ms: 100, audit: None }
}

async fn say(client: &Client, outcome: Outcome) {
    assert_eq!(client.ask(&Question::Outcome(outcome)).await, Answer::Noted);
}

/// Asks for a place and says how the task went there.
async fn one(client: &Client, end: End) -> Result<Grant, Vec<(NodeId, Hold)>> {
    let request = request("default");
    let task = request.task;
    let grant = client.matched(request).await.map_err(|refusal| refusal.reasons)?;
    say(client, outcome(task, grant.candidates[0].node, end)).await;
    Ok(grant)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outcome_is_believed_of_whom_the_task_was_granted_to_and_once() {
    let pool = Pool::new().await;
    let (node, client, other) = (pool.node().await, pool.client().await, pool.client().await);
    let request = request("default");
    let task = request.task;
    client.matched(request).await.unwrap();
    let died = outcome(task, node.id(), End::Died);
    say(&other, died.clone()).await;
    say(&client, outcome(TaskId::random(), node.id(), End::Died)).await;
    say(&client, outcome(task, client.id(), End::Died)).await;
    assert_eq!(pool.orchestrator.metrics().outcomes_unknown, 3);
    for _ in 0..50 {
        say(&client, died.clone()).await;
    }
    // It is judged when it is known whether the machine went.
    let metrics = pool.until_counted(|metrics| metrics.outcomes_failed > 0).await;
    assert_eq!((metrics.outcomes, metrics.outcomes_failed, metrics.outcomes_unknown), (1, 1, 52));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lying_client_turns_a_node_away_from_itself_only() {
    let pool = Pool::new().await;
    let (node, liar, honest) = (pool.node().await, pool.client().await, pool.client().await);
    let mut lies = 0;
    let reasons = loop {
        match one(&liar, End::Corrupt).await {
            Ok(_) => lies += 1,
            Err(reasons) => break reasons,
        }
    };
    assert!(lies <= 5, "a node that fails everything gets no more of one client");
    assert_eq!(reasons, [(node.id(), Hold::Ejected { failures: lies })]);
    assert_eq!(pool.row(node.id()).unwrap().hold, None, "nobody else is concerned");
    for _ in 0..10 {
        one(&honest, End::Completed).await.unwrap();
    }
    assert_eq!(pool.orchestrator.metrics().ejections, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_clients_eject_a_node_after_five_failures() {
    let pool = Pool::new().await;
    let node = pool.node().await;
    let mut failures = 0;
    'all: for _ in 0..5 {
        let client = pool.client().await;
        for _ in 0..2 {
            if pool.row(node.id()).unwrap().hold.is_some() {
                break 'all;
            }
            one(&client, End::Corrupt).await.unwrap();
            failures += 1;
        }
    }
    assert_eq!(failures, 5);
    assert_eq!(pool.row(node.id()).unwrap().hold, Some(Hold::Ejected { failures: 5 }));
    assert_eq!(pool.orchestrator.models()[0].ready_nodes, 0);
    let refusal = pool.client().await.matched(request("default")).await.unwrap_err();
    assert_eq!(
        (refusal.kind, refusal.reasons),
        (RefusalKind::NoNode, vec![(node.id(), Hold::Ejected { failures: 5 })])
    );
    // A new link does not make it better.
    let mut back = crate::machines::Node::join(&pool.ticket, &node.link.key).await.unwrap();
    back.say(&FromNode::State(back.state(4, 0))).await;
    pool.until(node.id(), |row| row.slots == 4).await;
    assert_eq!(pool.row(node.id()).unwrap().hold.unwrap().code(), "ejected");
    assert_eq!(pool.orchestrator.metrics().ejections, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_client_s_word_and_a_failed_trial_eject() {
    let measure = Measure { after_idle: Duration::from_secs(1_000_000), ..Measure::default() };
    let silence_max = Duration::from_secs(1_000_000);
    let pool = Pool::with(Timings { measure: Some(measure), silence_max, ..quiet() }).await;
    let good = Serving::join(&pool, &MachineKey::generate(), 4, FAST).await;
    let client = pool.client().await;
    pool.until(good.id(), |row| row.hold.is_none()).await;
    one(&client, End::Died).await.unwrap();
    pool.until_counted(|metrics| metrics.trials_passed > 0).await;
    assert_eq!(pool.row(good.id()).unwrap().hold, None, "it answers");
    good.set_pace(Pace::BreakOff);
    one(&client, End::Died).await.unwrap();
    let row = pool.until(good.id(), |row| row.hold.is_some()).await;
    assert_eq!(row.hold.unwrap().code(), "ejected");
    let metrics = pool.until_counted(|metrics| metrics.ejections > 0).await;
    assert_eq!(metrics.ejections, 1);
    assert!(metrics.trials_failed > 0, "no words alone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn audits_are_a_small_share_and_whose_the_dice_decide() {
    const GRANTS: usize = 400;
    let pool = Pool::new().await;
    let mut nodes = [pool.node_with(64).await, pool.node_with(64).await, pool.node_with(64).await];
    let (client, other) = (pool.client().await, pool.client().await);
    let (mut audits, mut accused) = (0, None);
    let read = async |client: &Client, task| match client.ask(&Question::Audit { task }).await {
        Answer::Audit(reading) => reading,
        answer => panic!("{answer:?}"),
    };
    for _ in 0..GRANTS {
        let request = request("default");
        let task = request.task;
        let grant = client.matched(request).await.unwrap();
        let subject = grant.candidates[0].node;
        say(&client, outcome(task, subject, End::Completed)).await;
        if grant.audit.is_none() {
            assert_eq!(read(&client, task).await, None, "not drawn");
            continue;
        }
        assert_eq!(grant.audit, Some(Audit::Answer), "all of them serve");
        assert_eq!(read(&other, task).await, None, "another client's");
        audits += 1;
        // How the task ended was told before: it does not matter.
        let reading = read(&client, task).await.expect("it was drawn");
        assert_eq!(read(&client, task).await, None, "a second time");
        assert_eq!(reading.subject, subject, "whose it is was settled when it was granted");
        assert!(!reading.referees.is_empty() && reading.referees.len() <= 2);
        let mut tasks = vec![task, reading.task];
        for errand in &reading.referees {
            let expected = Expected { pool: pool.ticket.pool, client: client.id(), node: errand.candidate.node };
            let now = crate::machines::unix_ms();
            let permit = permit::verify(&errand.candidate.permit, &[pool.orchestrator.id()], &expected, now).unwrap();
            assert_eq!(permit.task, errand.task);
            assert_ne!(errand.candidate.node, subject);
            assert!(!tasks.contains(&errand.task), "a task of its own for each");
            tasks.push(errand.task);
        }
        let verdict = AuditVerdict { passed: accused.is_some(), distance_milli: 200 };
        accused.get_or_insert(subject);
        let told = Outcome { audit: Some(verdict), ..outcome(reading.task, subject, End::Completed) };
        for _ in 0..3 {
            say(&client, told.clone()).await;
        }
    }
    // Each costs two tasks; 5 % of what was granted, and what a fresh budget holds.
    assert!(audits > 0 && 2 * audits <= GRANTS / 20 + 4, "{audits} audits");
    let metrics = pool.orchestrator.metrics();
    assert_eq!((metrics.audits, metrics.audits_failed, metrics.audits_passed), (audits as u64, 1, audits as u64 - 1));
    assert_eq!(pool.row(accused.unwrap()).unwrap().hold, None, "one client's accusation ejects nobody");
    // An answer that is too short to say anything is not drawn, nor what is no text.
    for _ in 0..GRANTS {
        let short = MatchRequest { answer_bucket_tokens: 8, ..request("default") };
        let task = short.task;
        let grant = client.matched(short).await.unwrap();
        assert_eq!(grant.audit, None);
        say(&client, outcome(task, grant.candidates[0].node, End::Completed)).await;
    }
    // Where most places are taken nothing is tried.
    for node in &mut nodes {
        node.say(&FromNode::State(node.state(64, 60))).await;
        pool.until(node.id(), |row| row.active_tasks == 60).await;
    }
    for _ in 0..100 {
        assert!(one(&client, End::Completed).await.unwrap().audit.is_none());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_hands_a_task_back_and_stays_has_failed_it() {
    let pool = Pool::new().await;
    let (mut node, client) = (pool.node().await, pool.client().await);
    one(&client, End::HandedBack).await.unwrap();
    assert_eq!(pool.until_counted(|metrics| metrics.outcomes_failed > 0).await.outcomes_departed, 0);
    let request = request("default");
    let task = request.task;
    client.matched(request).await.unwrap();
    let rule = "the owner is here".to_owned();
    node.say(&FromNode::State(NodeState { hold: Some(Hold::Owner { rule, lifts_unix_ms: None }), ..node.state(4, 0) }))
        .await;
    pool.until(node.id(), |row| row.hold.is_some()).await;
    say(&client, outcome(task, node.id(), End::HandedBack)).await;
    let metrics = pool.until_counted(|metrics| metrics.outcomes_departed > 0).await;
    assert_eq!((metrics.outcomes_departed, metrics.outcomes_failed), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_replaces_another_is_a_departure() {
    let pool = Pool::new().await;
    let (node, client) = (pool.node().await, pool.client().await);
    for _ in 0..3 {
        one(&client, End::Completed).await.unwrap();
    }
    let request = request("default");
    let task = request.task;
    client.matched(request).await.unwrap();
    let mut back = crate::machines::Node::join(&pool.ticket, &node.link.key).await.unwrap();
    back.say(&FromNode::State(back.state(4, 0))).await;
    say(&client, outcome(task, node.id(), End::Died)).await;
    let metrics = pool.until_counted(|metrics| metrics.outcomes_departed + metrics.outcomes_failed > 0).await;
    assert_eq!((metrics.outcomes_departed, metrics.outcomes_failed), (1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_crash_that_costs_a_client_four_tasks_is_one_failure_of_the_node() {
    // It sends no heartbeats, and that is not the matter here.
    let pool = Pool::with(Timings { silence_max: Duration::from_secs(1_000_000), ..quiet() }).await;
    let (node, client) = (pool.node().await, pool.client().await);
    one(&client, End::Completed).await.unwrap();
    let mut tasks = Vec::new();
    for _ in 0..4 {
        let request = request("default");
        tasks.push(request.task);
        client.matched(request).await.unwrap();
    }
    for task in tasks {
        say(&client, outcome(task, node.id(), End::Corrupt)).await;
    }
    let metrics = pool.until_counted(|metrics| metrics.outcomes_failed == 4).await;
    assert_eq!(metrics.ejections, 0);
    // It bears no grudge: two failures would turn it away. Each one after that counts.
    one(&client, End::Corrupt).await.expect("one failure");
    let reasons = one(&client, End::Corrupt).await.expect_err("two failures");
    assert_eq!(reasons, [(node.id(), Hold::Ejected { failures: 2 })]);
}
