//! What a node sees of an audit: of its answers to users nothing at all, and of a canary what it sees of its asker's own
//! tasks.

use crate::{
    machines::{self, MODEL, Pool, quiet, request},
    serving::{FAST, Seen, Serving},
};
use client::{Client, ClientConfig};
use orchestrator::Timings;
use protocol::{
    grant::{Audit, Errand, Grant, MatchRequest, Permit, Reading},
    ids::{NodeId, TaskId},
    limits,
    link::{Answer, AuditVerdict, End, Outcome, Question},
    task::{Generation, Message, Prompt, Resume, Sampling, Task},
};
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    time::Duration,
};
use trust::MachineKey;

const CANARIES: usize = 2;
const AUDITS: u64 = 6;
/// Each check is paid for by 40 of these.
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

/// One that is like any other but for its number, and long enough to be audited.
fn numbered_task(number: usize) -> Task {
    let content = format!("Tell me about {OWN}, please, and why it is made of {number:06} oranges");
    let sampling = Sampling { temperature: 1.0, seed: Some(7), ..Sampling::default() };
    let generation = Generation { max_tokens: Some(24), sampling, ..Generation::default() };
    Task::Chat { messages: vec![Message { role: "user".to_owned(), content }], generation }
}

/// The number of such a task, from its messages.
fn number_of(messages: &[Message]) -> Option<usize> {
    let words = messages.last()?.content.split(' ');
    words.filter(|word| word.len() == 6).find_map(|word| word.parse().ok())
}

/// These nodes send no heartbeats.
async fn patient_pool() -> Pool {
    Pool::with(Timings { silence_max: Duration::from_secs(1_000_000), ..quiet() }).await
}

async fn nodes_that_serve(pool: &Pool, count: usize) -> Vec<Serving> {
    let mut nodes = Vec::new();
    for _ in 0..count {
        nodes.push(Serving::join(pool, &MachineKey::generate(), 8, FAST).await);
    }
    for node in &nodes {
        pool.until(node.id(), |row| row.hold.is_none()).await;
    }
    nodes
}

async fn ask(client: &Client, task: Task) {
    let mut answer = client.ask("default", task).await.unwrap();
    while let Some(frame) = answer.next().await {
        frame.unwrap();
    }
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
async fn a_node_cannot_tell_an_audited_answer_from_any_other() {
    let pool = patient_pool().await;
    let nodes = nodes_that_serve(&pool, 3).await;
    let client = Client::start(ClientConfig::new(MachineKey::generate(), pool.ticket.clone())).await.unwrap();
    let mut asked = 0;
    while pool.orchestrator.metrics().audits_passed < AUDITS {
        ask(&client, numbered_task(asked)).await;
        asked += 1;
        assert!(asked < TASKS_MAX, "{:?}", pool.orchestrator.metrics());
    }
    client.close().await;

    // Who served which task, and which of them others have read. On a busy machine a task may have been hedged.
    let (mut served, mut audited) = (Vec::new(), HashMap::new());
    for node in &nodes {
        assert_eq!(node.beyond(), 0, "nothing on a stream but a permit, a task and the end");
        for seen in node.seen() {
            match &seen.task {
                Task::Chat { messages, .. } => {
                    let number = number_of(messages).expect("nodes that serve get no canaries");
                    served.push((number, node.id(), seen));
                }
                Task::Score { prompt: Prompt::Chat(messages), ids } => {
                    assert_eq!(ids.len(), 24);
                    let number = number_of(messages).expect("what is read is a user's");
                    assert!(audited.insert(number, node.id()).is_none(), "one referee is enough here");
                }
                task => panic!("{task:?}"),
            }
        }
    }
    assert!(audited.len() as u64 >= AUDITS && 40 * audited.len() <= asked + 4 * 40, "{} of {asked}", audited.len());
    for (number, referee) in &audited {
        let by_another = served.iter().any(|(of, node, _)| of == number && node != referee);
        assert!(by_another, "nobody reads its own answer");
    }

    let shape = |seen: &Seen| (outside(seen), seen.permit_bytes);
    let (asker, usual) = (served[0].2.peer, shape(&served[0].2));
    let mut ids = HashSet::new();
    for (number, node, seen) in &served {
        // Field by field: the task is what was asked and nothing else, the permit is this client's for this node and task.
        assert_eq!(seen.task, numbered_task(*number));
        assert_eq!(shape(seen), usual, "task {number}, audited: {}", audited.contains_key(number));
        let Permit { pool: in_pool, task, client, node: of, model, expires_unix_ms: _, price: _ } = seen.permit.clone();
        assert_eq!((in_pool, client, seen.peer, of, model), (pool.ticket.pool, asker, asker, *node, MODEL));
        assert!(ids.insert(task), "a task of its own for each");
        assert!(seen.left_ms <= limits::PERMIT_LIFETIME_MS && seen.left_ms > limits::PERMIT_LIFETIME_MS - SLOW_MS);
    }
}

/// Ejects a node that is alone, by the words of three clients.
async fn eject(pool: &Pool, node: NodeId) {
    for _ in 0..3 {
        let client = pool.client().await;
        for _ in 0..2 {
            let request = request("default");
            let task = request.task;
            // It may be out by now.
            if client.matched(request).await.is_ok_and(|grant| grant.candidates[0].node == node) {
                tell(&client, task, node, End::Corrupt, None).await;
            }
        }
    }
    pool.until(node, |row| row.hold.as_ref().is_some_and(|hold| hold.code() == "ejected")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_looks_like_its_asker_s_own_tasks() {
    let pool = patient_pool().await;
    let mut nodes = Vec::new();
    for _ in 0..CANARIES {
        let out = nodes_that_serve(&pool, 1).await.remove(0);
        eject(&pool, out.id()).await;
        nodes.push(out);
    }
    nodes.extend(nodes_that_serve(&pool, 2).await);
    let client = Client::start(ClientConfig::new(MachineKey::generate(), pool.ticket.clone())).await.unwrap();
    let tried = |node: &Serving| node.served() > 0;
    let mut asked = 0;
    // The first is due some seconds after the ejection.
    while !nodes[..CANARIES].iter().all(tried) {
        ask(&client, own_task(asked)).await;
        asked += 1;
        assert!(asked < TASKS_MAX, "{:?}", pool.orchestrator.metrics());
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
    assert!(canaries.len() >= CANARIES && own.len() > canaries.len(), "{} and {}", canaries.len(), own.len());

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
    tell(client, task, node, End::Completed, audit).await;
}

async fn tell(client: &machines::Client, task: TaskId, node: NodeId, end: End, audit: Option<AuditVerdict>) {
    let told = Outcome { task, node, end, prompt_tokens: 10, completion_tokens: 20, generation_ms: 100, audit };
    assert_eq!(client.ask(&Question::Outcome(told)).await, Answer::Noted);
}

/// Asks for places on other nodes than these until an answer is drawn, and says what its grant was and who reads it.
async fn drawn(client: &machines::Client, exclude: &[NodeId]) -> (Grant, Reading) {
    for _ in 0..TASKS_MAX {
        let request = MatchRequest { exclude: exclude.to_vec(), ..request("default") };
        let task = request.task;
        let grant = client.matched(request).await.unwrap();
        say(client, task, grant.candidates[0].node, None).await;
        if grant.audit != Some(Audit::Answer) {
            continue;
        }
        let Answer::Audit(Some(reading)) = client.ask(&Question::Audit { task }).await else { panic!("it was drawn") };
        // Nothing is said of the subject: it is due again.
        say(client, reading.task, reading.subject, None).await;
        return (grant, *reading);
    }
    panic!("nothing was drawn");
}

/// An audit in which this node is a referee, and all three of the pool take part: few as they are, none is left out.
async fn audit_with_referee(client: &machines::Client, referee: NodeId) -> Errand {
    let (_, reading) = drawn(client, &[referee]).await;
    assert_eq!(reading.referees.len(), 2, "one referee alone decides nothing");
    let node = |errand: &Errand| errand.candidate.node;
    assert!(node(&reading.referees[0]) != node(&reading.referees[1]));
    reading.referees.into_iter().find(|errand| node(errand) == referee).expect("none is left out")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_an_answer_was_no_candidate_for_it_where_others_are_there() {
    let pool = patient_pool().await;
    let mut nodes = Vec::new();
    for _ in 0..6 {
        nodes.push(pool.node_with(64).await);
    }
    let client = pool.client().await;
    for _ in 0..4 {
        let (grant, reading) = drawn(&client, &[]).await;
        let candidates: Vec<NodeId> = grant.candidates.iter().map(|candidate| candidate.node).collect();
        assert_eq!((candidates.len(), reading.subject), (3, candidates[0]));
        let referees: Vec<NodeId> = reading.referees.iter().map(|errand| errand.candidate.node).collect();
        assert_eq!(referees.len(), 2);
        assert!(referees.iter().all(|referee| !candidates.contains(referee)), "{referees:?} of {candidates:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_referee_that_two_clients_find_to_be_the_odd_one_out_is_ejected() {
    let pool = patient_pool().await;
    let nodes = [pool.node_with(64).await, pool.node_with(64).await, pool.node_with(64).await];
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
