mod remote;

use super::*;
use crate::vetting::Vetter;
use protocol::{
    grant::{MatchRequest, ModelRef, Tier, WorkerEvidence},
    ids::TaskId,
    ipc::ModelFacts,
    link::{ModelEntry, NodeState, ToNode, WorkerState},
    sealing::{SealingKey, Suite},
};
use registry::{Fact, Genesis, Registry};
use scheduler::Task;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use transport::{Connection, Listen, Transport};
use trust::MachineKey;

const MODEL: ModelDigest = ModelDigest([5; 32]);
const CLIENT: NodeId = NodeId([255; 32]);
const UNIX_MS: u64 = 1_700_000_000_000;
const SILENCE_MS: u64 = 6_000;

fn at(steady_ms: u64) -> Now {
    Now { unix_ms: UNIX_MS + steady_ms, steady_ms }
}

fn entry() -> ModelEntry {
    ModelEntry {
        name: "tiny".to_owned(),
        aliases: Vec::new(),
        digest: MODEL,
        bytes: 100_000_000,
        licence: "MIT".to_owned(),
        created_unix_s: 0,
    }
}

fn registry() -> Registry {
    let mut registry = Registry::default();
    registry.apply(Fact::Genesis(Genesis::new(vec![NodeId([1; 32])], &[7; 32], 0))).unwrap();
    registry.apply(Fact::ModelAdded(entry())).unwrap();
    registry
}

fn request() -> MatchRequest {
    MatchRequest::new(TaskId::random(), ModelRef::Digest(MODEL), 4096, 256)
}

/// A live state whose nodes share one connection: what a link costs is not the matter here.
struct Pool {
    live: Live,
    registry: Registry,
    connection: Connection,
    _ends: (Transport, Transport),
    links: Vec<(NodeId, u64, mpsc::Receiver<Box<ToNode>>)>,
}

impl Pool {
    async fn new() -> Self {
        const ALPN: &[u8] = b"test";
        let listen = Listen::Loopback { port: 0 };
        let one = Transport::bind(&MachineKey::generate(), listen, &[ALPN]).await.unwrap();
        let other = Transport::bind(&MachineKey::generate(), listen, &[]).await.unwrap();
        let accepting = one.clone();
        tokio::spawn(async move { accepting.accept().await.unwrap().handshake().await.map(|c| (c, ())) });
        let connection = other.connect(one.id(), &one.addresses(), ALPN).await.unwrap();
        let (live, registry) = (Live::default(), registry());
        Self { live, registry, connection, _ends: (one, other), links: Vec::new() }
    }

    fn join(&mut self, node: NodeId, now: Now) {
        let (sender, receiver) = mpsc::channel(1);
        let known = Known { seen: Observations::default(), session_since_steady_ms: now.steady_ms };
        let number = self.live.link(node, self.connection.clone(), sender, &known, now, SILENCE_MS).unwrap();
        self.links.push((node, number, receiver));
    }

    fn grant(&mut self, entropy: u64, now: Now) -> Option<NodeId> {
        let request = request();
        let task = Task::new(CLIENT, &request);
        let granted = self.live.grant(&self.registry, &task, now, entropy).ok()?;
        Some(granted.candidates[0].reachable.node)
    }
}

/// What a node says, vetted; its evidence is signed by itself.
fn said(key: &MachineKey, slots: u32, active_tasks: u32) -> NodeState {
    let evidence = WorkerEvidence {
        node: key.id(),
        model: MODEL,
        measurement: [0; 32],
        keys: vec![SealingKey { suite: Suite::X25519, bytes: vec![9; 32] }],
        tier: Tier::SelfSigned,
        issued_unix_ms: UNIX_MS,
        expires_unix_ms: UNIX_MS + protocol::limits::EVIDENCE_LIFETIME_MS,
    };
    let facts =
        ModelFacts { architecture: "test".to_owned(), context_tokens: 2048, slots, embedding_length: 0, chat: true };
    let evidence = key.sign(&evidence);
    let worker = WorkerState { model: entry(), facts, evidence, active_tasks, capacity: slots };
    NodeState {
        label: "machine".to_owned(),
        addresses: vec!["127.0.0.1:4000".parse().unwrap()],
        workers: vec![worker],
        active_tasks,
        hold: None,
    }
}

#[tokio::test]
async fn a_task_counts_until_it_is_seen_and_one_that_never_comes_is_given_up() {
    let mut pool = Pool::new().await;
    let key = MachineKey::generate();
    let mut vetter = Vetter::new(key.id());
    pool.join(key.id(), at(0));
    let link = pool.links[0].1;
    let mut state = |pool: &mut Pool, active, now: Now| {
        let vetted = vetter.vet(said(&key, 2, active), &[], now);
        pool.live.state(key.id(), link, vetted, now, SILENCE_MS);
    };
    state(&mut pool, 0, at(0));
    assert!(pool.grant(1, at(1)).is_some() && pool.grant(2, at(1)).is_some());
    assert!(pool.grant(3, at(2)).is_none(), "both places are promised");
    // A state that was on its way already does not take the promise back.
    state(&mut pool, 0, at(3));
    assert!(pool.grant(4, at(4)).is_none());
    // One has come: that is no place more and none less.
    state(&mut pool, 1, at(5));
    assert!(pool.grant(5, at(6)).is_none());
    // The other never comes.
    state(&mut pool, 1, at(400));
    pool.live.sweep(None, at(1 + RESERVED_MS));
    state(&mut pool, 1, at(1 + RESERVED_MS));
    assert!(pool.grant(6, at(1 + RESERVED_MS)).is_some());
    assert_eq!(pool.live.places(MODEL), 2);
    assert_eq!(pool.live.counts(), (1, 0, 1));
    assert_eq!(pool.live.unlink(key.id(), link, None, at(9_000)), Some(false));
    assert_eq!((pool.live.counts(), pool.live.places(MODEL)), ((0, 0, 0), 0));
}

/// A pool with one node, which serves with eight slots.
async fn pool_of_one() -> (Pool, MachineKey) {
    let mut pool = Pool::new().await;
    let key = MachineKey::generate();
    let mut vetter = Vetter::new(key.id());
    pool.join(key.id(), at(0));
    let vetted = vetter.vet(said(&key, 8, 0), &[], at(0));
    pool.live.state(key.id(), pool.links[0].1, vetted, at(0), u64::MAX / 2);
    (pool, key)
}

#[tokio::test]
async fn an_ejected_node_comes_back_by_passing_trials() {
    let (mut pool, key) = pool_of_one().await;
    let failures = (1..=20u64).take_while(|number| pool.grant(*number, at(*number)).is_some()).count();
    assert_eq!(failures, 5, "no more at a time than an unproven node may fail");
    let ejections = (0..5).filter(|_| pool.live.ended(key.id(), MODEL, Ended::Failed, at(30))).count();
    assert_eq!(ejections, 1);
    assert_eq!(pool.live.standing(key.id(), at(31)), Some(Hold::Ejected { failures: 5 }));
    let (mut now_ms, mut tries) = (31, 0);
    while pool.live.standing(key.id(), at(now_ms)).is_some() {
        now_ms += 500;
        for (node, model) in pool.live.tries_due(at(now_ms), 4) {
            let own = pool.live.begin_own(node, model, Wish::Try, at(now_ms)).expect("it is there");
            assert!(pool.live.begin_own(node, model, Wish::Try, at(now_ms)).is_none(), "one at a time");
            pool.live.end_own(node, own.number);
            pool.live.tried(node, model, true, at(now_ms));
            tries += 1;
        }
        assert!(now_ms < 600_000, "it comes back");
    }
    assert_eq!(tries, 2);
    assert!(now_ms > 10_000, "not at once");
}

#[tokio::test]
async fn what_sets_off_trials_does_not_hasten_those_of_an_ejected_node() {
    let (mut pool, key) = pool_of_one().await;
    assert!(!pool.live.is_tried_enough(key.id(), MODEL, at(0)), "whoever is in doubt is tried at once");
    let ejections = (0..9).filter(|_| pool.live.trial_broke(key.id(), MODEL, 10_000, at(10_000))).count();
    assert_eq!(ejections, 1);
    // It is alone with its model, and needed: the doubled back-off does not count, the distance does.
    let due = 10_000 + scheduler::record::NEEDED_AGAIN_MS;
    for now_ms in [10_000, due - 1, due] {
        assert_eq!(pool.live.is_tried_enough(key.id(), MODEL, at(now_ms)), now_ms < due);
        assert_eq!(pool.live.tries_due(at(now_ms), 4).is_empty(), now_ms < due);
    }
}

/// Prints what decisions cost; run it with `--nocapture`.
#[tokio::test]
async fn ten_thousand_nodes() {
    const NODES: usize = 10_000;
    const DECISIONS: u64 = 2_000;
    let mut pool = Pool::new().await;
    // Signing ten thousand times is not the matter either: every node has the evidence of one.
    let key = MachineKey::generate();
    let mut vetter = Vetter::new(key.id());
    let mut ids = Vec::new();
    for number in 0..NODES as u64 {
        let mut node = NodeId([9; 32]);
        node.0[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
        pool.join(node, at(0));
        ids.push(node);
    }
    let mut state = |pool: &mut Pool, at_node: usize, active: u32, now: Now| {
        let vetted = vetter.vet(said(&key, 4, active), &[], now);
        let (node, link, _) = &pool.links[at_node];
        let begun = Instant::now();
        pool.live.state(*node, *link, vetted, now, u64::MAX / 2);
        begun.elapsed()
    };
    for number in 0..NODES {
        state(&mut pool, number, (number % 4) as u32, at(0));
    }
    let (mut granting, mut stating) = (Duration::ZERO, Duration::ZERO);
    for number in 0..DECISIONS {
        let now = at(100 + number);
        let begun = Instant::now();
        let node = pool.grant(number.wrapping_mul(0x2545_f491_4f6c_dd1d), now);
        granting += begun.elapsed();
        let node = node.expect("there are places");
        pool.live.ended(node, MODEL, Ended::Completed, now);
        stating += state(&mut pool, number as usize * 7 % NODES, (number % 4) as u32, now);
    }
    let begun = Instant::now();
    let (mut rows, mut after, mut longest) = (0, None, Duration::ZERO);
    loop {
        let slice_begun = Instant::now();
        let slice = pool.live.rows(&pool.registry, after, at(5_000));
        longest = longest.max(slice_begun.elapsed());
        let Some(last) = slice.last() else { break };
        after = Some(last.node);
        rows += slice.len();
    }
    assert_eq!((rows, pool.live.counts()), (NODES, (NODES, 0, NODES)));
    println!(
        "{NODES} nodes: {:.1} us a grant, {:.1} us a state; all rows {:.1} ms, the lock held for {:.0} us at most",
        granting.as_secs_f64() * 1e6 / DECISIONS as f64,
        stating.as_secs_f64() * 1e6 / DECISIONS as f64,
        begun.elapsed().as_secs_f64() * 1e3,
        longest.as_secs_f64() * 1e6,
    );
}

#[tokio::test]
async fn who_says_that_nothing_has_changed_is_there_and_who_says_nothing_is_not() {
    let mut pool = Pool::new().await;
    let key = MachineKey::generate();
    pool.join(key.id(), at(0));
    let link = pool.links[0].1;
    let vetted = Vetter::new(key.id()).vet(said(&key, 1, 0), &[], at(0));
    pool.live.state(key.id(), link, vetted, at(0), SILENCE_MS);
    let unchanged = |pool: &mut Pool, link, now| pool.live.unchanged(key.id(), link, now, SILENCE_MS);
    assert_eq!(unchanged(&mut pool, link, at(5_000)), [], "nobody has waited for that");
    assert!(pool.grant(1, at(10_000)).is_some() && pool.grant(2, at(10_001)).is_none(), "one place");
    // A task that came and went in between changes nothing either. Who waits for its place has it now.
    assert_eq!(unchanged(&mut pool, link, at(10_600)), [MODEL]);
    assert!(pool.grant(3, at(10_601)).is_some());
    assert_eq!(unchanged(&mut pool, link, at(11_200)), [MODEL]);
    // What an older link says does not count.
    assert_eq!(unchanged(&mut pool, link + 1, at(17_000)), []);
    assert!(pool.grant(4, at(17_200)).is_none(), "silent for six seconds");
    assert_eq!(unchanged(&mut pool, link, at(18_000)), [MODEL], "it is back");
    assert!(pool.grant(5, at(18_001)).is_some());
    pool.live.goodbye(key.id(), link, at(18_002));
    assert_eq!(unchanged(&mut pool, link, at(18_003)), [], "nothing counts after a goodbye");
    assert!(pool.grant(6, at(18_700)).is_none());
}
