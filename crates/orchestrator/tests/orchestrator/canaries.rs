//! What a node sees of a canary is what it sees of its asker's own tasks.

use crate::{
    machines::{self, MODEL, Pool, quiet, request},
    serving::{FAST, Seen, Serving},
};
use client::{Client, ClientConfig};
use orchestrator::Timings;
use protocol::{
    grant::Errand,
    ids::{NodeId, TaskId},
    limits,
    link::{Answer, AuditVerdict, End, FromNode, Outcome, Question},
    task::{Generation, Message, Resume, Sampling, Task},
};
use std::{
    collections::{BTreeSet, HashSet},
    time::Duration,
};
use trust::MachineKey;

const CANARIES: u64 = 4;
/// Each canary is paid for by 40 of these.
const TASKS_MAX: usize = 6_000;
/// What a busy machine may take from a permit's life before the task comes to its node.
const SLOW_MS: u64 = 20_000;
/// The test knows its own tasks by this word; the node does not know that it is one.
const OWN: &str = "marmalade";

/// What somebody who writes to an assistant may ask: texts of a few to some hundred bytes.
fn own_task(number: usize) -> Task {
    let content = format!("Tell me about {OWN}{}", " and what my aunt thinks of it".repeat(number % 16));
    let sampling = Sampling { temperature: 1.0, ..Sampling::default() };
    let generation = Generation { max_tokens: Some(16), sampling, ..Generation::default() };
    Task::Chat { messages: vec![Message { role: "user".to_owned(), content }], generation }
}

fn is_own(seen: &Seen) -> bool {
    matches!(&seen.task, Task::Chat { messages, .. } if messages[0].content.contains(OWN))
}

/// Sizes of what was sealed, and how.
fn outside(seen: &Seen) -> (usize, usize, String) {
    let sealed = &seen.sealed;
    (sealed.ciphertext.len(), sealed.encapsulated.len(), format!("{:?}", sealed.suite))
}

fn generation(seen: &Seen) -> &Generation {
    let Task::Chat { generation, .. } = &seen.task else { panic!("{:?}: users chat here", seen.task) };
    generation
}

/// Settings that somebody who wanted canaries to be left alone would look for: those which ordinary askers never touch.
fn unusual(seen: &Seen) -> String {
    let Generation { stop, resume, sampling, .. } = generation(seen);
    assert_eq!(*resume, Resume::default());
    let Sampling { top_k, min_p, frequency_penalty, presence_penalty, repeat_penalty, seed, .. } = sampling;
    format!("{stop:?} {top_k} {min_p} {frequency_penalty} {presence_penalty} {repeat_penalty} {}", seed.is_some())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_looks_like_its_asker_s_own_tasks() {
    // These nodes send no heartbeats.
    let pool = Pool::with(Timings { silence_max: Duration::from_secs(1_000_000), ..quiet() }).await;
    let mut nodes = Vec::new();
    for _ in 0..3 {
        nodes.push(Serving::join(&pool, &MachineKey::generate(), 8, FAST).await);
    }
    for node in &nodes {
        pool.until(node.id(), |row| row.hold.is_none()).await;
    }
    let client = Client::start(ClientConfig::new(MachineKey::generate(), pool.ticket.clone())).await.unwrap();
    for number in 0.. {
        let mut answer = client.ask("default", own_task(number)).await.unwrap();
        while let Some(frame) = answer.next().await {
            frame.unwrap();
        }
        if pool.orchestrator.metrics().audits_passed >= CANARIES {
            break;
        }
        assert!(number < TASKS_MAX, "{:?}", pool.orchestrator.metrics());
    }
    client.close().await;

    let (mut canaries, mut own) = (Vec::new(), Vec::new());
    for node in &nodes {
        let (of_askers, others): (Vec<_>, Vec<_>) = node.seen().into_iter().partition(is_own);
        // What referees read is not hidden from them: it is no subject.
        canaries.extend(others.into_iter().filter(|seen| !matches!(seen.task, Task::Score { .. })));
        own.extend(of_askers);
        assert!(
            own.iter().chain(&canaries).all(|seen| seen.permit.pool == pool.ticket.pool && seen.permit.model == MODEL)
        );
    }
    assert!(canaries.len() as u64 >= CANARIES && own.len() > canaries.len(), "{} and {}", canaries.len(), own.len());

    // The permit: of the same client, which is the one that shows it; as long as any other, and as fresh as one whose
    // asker tried another node before.
    let asker = own[0].peer;
    for seen in own.iter().chain(&canaries) {
        assert_eq!((seen.peer, seen.permit.client), (asker, asker));
        assert!(seen.left_ms <= limits::PERMIT_LIFETIME_MS, "{}: longer than any other", seen.left_ms);
        assert!(seen.left_ms > limits::PERMIT_LIFETIME_MS - SLOW_MS, "{}: older than any other", seen.left_ms);
    }
    let ids: HashSet<TaskId> = own.iter().chain(&canaries).map(|seen| seen.permit.task).collect();
    assert_eq!(ids.len(), own.len() + canaries.len(), "a task of its own for each");

    // What was sealed: in the same way, and in sizes that the asker's own tasks have.
    let sizes: BTreeSet<_> = own.iter().map(outside).collect();
    for canary in &canaries {
        assert!(sizes.contains(&outside(canary)), "{:?} is none of {sizes:?}", outside(canary));
    }
    // What is in it, for a node that reads what its worker reads: nothing is set that others do not set.
    let settings: BTreeSet<String> = own.iter().map(unusual).collect();
    for canary in &canaries {
        assert!(settings.contains(&unusual(canary)), "{} is none of {settings:?}", unusual(canary));
        assert!(generation(canary).max_tokens.is_none_or(|tokens| (32..512).contains(&tokens)));
    }
    let texts: HashSet<String> = canaries.iter().map(|seen| format!("{:?}", seen.task)).collect();
    assert_eq!(texts.len(), canaries.len(), "no two alike");
}

async fn say(client: &machines::Client, task: TaskId, node: NodeId, audit: Option<AuditVerdict>) {
    let told = Outcome {
        task,
        node,
        end: End::Completed,
        prompt_tokens: 10,
        completion_tokens: 20,
        first_token_ms: 5,
        generation_ms: 100,
        audit,
    };
    assert_eq!(client.ask(&Question::Outcome(told)).await, Answer::Noted);
}

/// An audit in which this node is a referee, and all three of the pool take part: few as they are, none is left out.
async fn audit_with_referee(client: &machines::Client, referee: NodeId) -> Errand {
    for _ in 0..TASKS_MAX {
        let request = request("default");
        let task = request.task;
        let grant = client.matched(request).await.unwrap();
        say(client, task, grant.candidates[0].node, None).await;
        let Some(audit) = grant.audit else { continue };
        assert_eq!(audit.referees.len(), 2, "one referee alone decides nothing");
        let node = |errand: &Errand| errand.candidate.node;
        assert!(node(&audit.referees[0]) != node(&audit.referees[1]));
        // Nothing is said of the subject: it is due again.
        say(client, audit.subject.task, node(&audit.subject), None).await;
        if let Some(errand) = audit.referees.into_iter().find(|errand| node(errand) == referee) {
            return errand;
        }
    }
    panic!("no audit with that referee");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_referee_that_two_clients_find_to_be_the_odd_one_out_is_ejected() {
    let pool = Pool::new().await;
    let mut nodes = Vec::new();
    for _ in 0..3 {
        let mut node = pool.node().await;
        node.say(&FromNode::State(node.state(64, 0))).await;
        pool.until(node.id(), |row| row.slots == 64).await;
        nodes.push(node);
    }
    let liar = nodes[0].id();
    for (client, ejected) in [(pool.client().await, false), (pool.client().await, true)] {
        // That it scores as others do is no merit.
        let errand = audit_with_referee(&client, liar).await;
        say(&client, errand.task, liar, Some(AuditVerdict { passed: true, distance_milli: 10 })).await;
        assert_eq!(pool.orchestrator.metrics().audits_passed, 0);
        let errand = audit_with_referee(&client, liar).await;
        say(&client, errand.task, liar, Some(AuditVerdict { passed: false, distance_milli: 400 })).await;
        assert_eq!(pool.row(liar).unwrap().hold.is_some_and(|hold| hold.code() == "ejected"), ejected);
    }
    assert!(nodes[1..].iter().all(|node| pool.row(node.id()).unwrap().hold.is_none()));
}
