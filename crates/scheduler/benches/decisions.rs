//! One decision at 10,000 and 100,000 live nodes, on one core: `cargo bench -p scheduler`.
//!
//! A decision is a grant (ranking, and the reservation, which moves the chosen node in the index) and one message of
//! another node (its load changes, which moves that one): what an orchestrator does for each task. Nodes, sizes and loads
//! differ, times pass, and reservations run out. Prints a line of JSON for each fleet; fails where the mean misses its goal.
//! The mean is of processor time where the system tells it (Linux), so that what else runs on the machine does not count;
//! percentiles are of the clock on the wall.
#![expect(clippy::unwrap_used, reason = "a benchmark may end with what went wrong")]

use protocol::{
    grant::{MatchRequest, ModelRef},
    hold::Hold,
    ids::{ModelDigest, NodeId, TaskId},
    link::ModelEntry,
};
use registry::{Fact, Genesis, Registry};
use scheduler::{Ended, Fleet, LiveNode, LiveWorker, Now, Rule, Task};
use std::{hint::black_box, time::Instant};
use trust::{observations::Rates, score::Attestation};

const MODELS: u8 = 3;
const DECISIONS: u32 = 50_000;

/// PCG's generator, without its output function: the same numbers on every run.
struct Random(u64);

impl Random {
    fn below(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }
}

fn pool() -> Registry {
    let mut registry = Registry::default();
    registry.apply(Fact::Genesis(Genesis::new(vec![NodeId([0; 32])], &[0; 32], 0))).unwrap();
    for byte in 0..MODELS {
        registry
            .apply(Fact::ModelAdded(ModelEntry {
                name: format!("model-{byte}"),
                aliases: Vec::new(),
                digest: ModelDigest([byte; 32]),
                bytes: 1,
                licence: "MIT".to_owned(),
                created_unix_s: 0,
            }))
            .unwrap();
    }
    registry
}

fn id(number: u32) -> NodeId {
    let mut state = Random(u64::from(number));
    let mut bytes = [0; 32];
    bytes.fill_with(|| state.below(256) as u8);
    bytes[..4].copy_from_slice(&number.to_le_bytes());
    NodeId(bytes)
}

fn node(number: u32, random: &mut Random, now: Now) -> LiveNode {
    let alone = 4_000 + random.below(30_000) as u32;
    let rates = Rates {
        prefill_milli: alone * (4 + random.below(16) as u32),
        decode_milli: [alone, alone * 17 / 10, alone * 27 / 10, alone * 38 / 10],
    };
    let workers = (0..MODELS).filter(|model| number.is_multiple_of(3) || u32::from(*model) == number % 3);
    LiveNode {
        silent_from_steady_ms: u64::MAX,
        attestation: Attestation::Vouched,
        rtt_us: 1_000 + random.below(150_000) as u32,
        session_since_steady_ms: random.below(now.steady_ms),
        workers: workers
            .map(|model| LiveWorker {
                rates,
                active_tasks: random.below(5) as u32,
                ..LiveWorker::new(ModelDigest([model; 32]), 8, 2_000_000_000)
            })
            .collect(),
        ..LiveNode::new(id(number), now)
    }
}

/// Of the default model, for anybody.
fn request() -> MatchRequest {
    MatchRequest::new(TaskId([0; 16]), ModelRef::Name("default".to_owned()), 4_096, 256)
}

/// Processor time of this thread so far, in microseconds, where the system tells it.
fn processor_us() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(stat.split(' ').next()?.parse::<f64>().ok()? / 1_000.0)
}

fn measure(nodes: u32, goal_us: f64) -> bool {
    let pool = pool();
    let mut random = Random(9);
    let mut now = Now { unix_ms: 1_700_000_000_000, steady_ms: 1_000_000_000 };
    let mut fleet = Fleet::new(Rule::default());
    let began = Instant::now();
    for number in 0..nodes {
        fleet.insert(node(number, &mut random, now), now);
    }
    let build_us = began.elapsed().as_secs_f64() * 1e6 / f64::from(nodes);
    let mut request = request();
    let mut times_us = Vec::with_capacity(DECISIONS as usize);
    let mut given = std::collections::VecDeque::new();
    let before_us = processor_us();
    for decision in 0..DECISIONS {
        now = Now { unix_ms: now.unix_ms + 1, steady_ms: now.steady_ms + 1 };
        request.model = ModelRef::Digest(ModelDigest([random.below(u64::from(MODELS)) as u8; 32]));
        request.prompt_bucket_bytes = 256 << random.below(9);
        request.answer_bucket_tokens = 16 << random.below(6);
        let (heard, load) = (id(random.below(u64::from(nodes)) as u32), random.below(8) as u32);
        let entropy = random.below(u64::MAX);
        let began = Instant::now();
        let task = Task::new(id(decision), &request);
        let ranking = fleet.grant(&pool, &task, now, entropy).unwrap();
        fleet.update(heard, now, |live| {
            for worker in &mut live.workers {
                (worker.active_tasks, worker.reserved) = (load, 0);
            }
        });
        times_us.push(began.elapsed().as_secs_f64() * 1e6);
        given.push_back((black_box(&ranking).candidates[0].node, ranking.model.digest));
        // Results come back: in the mean, where that is of processor time; not in the percentiles.
        if given.len() > 1_000 {
            let (node, model) = given.pop_front().expect("it is longer");
            fleet.ended(node, model, Ended::Completed, now);
        }
    }
    let spent_us = processor_us().zip(before_us).map(|(after, before)| after - before);
    let mean_us = spent_us.unwrap_or_else(|| times_us.iter().sum()) / f64::from(DECISIONS);
    let refusal_us = refusals(&mut fleet, &pool, now);
    times_us.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| times_us[(share * f64::from(DECISIONS - 1)) as usize];
    println!(
        "{{\"nodes\":{nodes},\"decision_us\":{{\"mean\":{mean_us:.2},\"p50\":{:.2},\"p99\":{:.2},\"p999\":{:.2}}},\
         \"insert_us\":{build_us:.2},\"refusal_us\":{refusal_us:.2},\"goal_us\":{goal_us}}}",
        at(0.5),
        at(0.99),
        at(0.999),
    );
    mean_us <= goal_us && refusal_us <= goal_us
}

/// A refusal when nobody can take a task: everybody drains.
fn refusals(fleet: &mut Fleet, pool: &Registry, now: Now) -> f64 {
    let ids: Vec<NodeId> = fleet.iter().map(|live| live.node).collect();
    for id in ids {
        fleet.update(id, now, |live| live.hold = Some(Hold::Draining));
    }
    let request = request();
    let (began, before_us) = (Instant::now(), processor_us());
    for entropy in 0..1_000 {
        black_box(fleet.rank(pool, &Task::new(id(1), &request), now, entropy).unwrap_err());
    }
    let spent_us = processor_us().zip(before_us).map(|(after, before)| after - before);
    spent_us.unwrap_or_else(|| began.elapsed().as_secs_f64() * 1e6) / 1_000.0
}

fn main() {
    // `cargo test` builds and runs benchmarks too: it gets a small one.
    if !std::env::args().any(|argument| argument == "--bench") {
        assert!(measure(1_000, f64::INFINITY));
        return;
    }
    let reached = [measure(10_000, 50.0), measure(100_000, 100.0)];
    assert!(reached.iter().all(|reached| *reached), "a goal was missed");
}
