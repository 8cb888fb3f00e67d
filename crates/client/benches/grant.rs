//! What it costs a client to verify a grant, on one core: `cargo bench -p client --bench grant`.
//!
//! **What is measured.** A grant of three candidates, of a pool of 100,000 members with a policy that allows measured
//! workers only and nodes of one region, from the bytes that came over the link to the key that a task is sealed to: the
//! message is decoded; the root is checked; the policy, the measurement and the membership of all three candidates are
//! proven, with regions, permits' signers and evidence; and the signature of the evidence of the candidate that is used
//! is verified. The signatures of the other two are not: theirs are verified if they are used.
//!
//! * `warm`: the root has been seen, as in all grants of about two seconds but the first: 1 signature.
//! * `cold`: it has not: a quorum of the committee's signatures more, that is 2, 4 and 6 for committees of 1, 4 and 7.
//!
//! Promise (N11): at most 300 µs warm, at the median, for every size of committee. Cold it depends on the quorum. Prints one
//! line of JSON for each size; times are of the wall clock, in microseconds, so on a busy machine the high percentiles are
//! those of its scheduler.
#![expect(clippy::unwrap_used, reason = "a benchmark may end with what went wrong")]

#[path = "../tests/client/agreed.rs"]
mod agreed;

use agreed::Agreed;
use client::verify::{Demands, OwnPolicy};
use protocol::{
    codec,
    grant::{Grant, MatchReply, Policy},
    ids::{ModelDigest, NodeId, TaskId},
    limits::LINK_MESSAGE_BYTES_MAX,
    link::{Answer, Role},
    pool::{Label, PoolPolicy},
};
use registry::{Fact, keys};
use std::{hint::black_box, time::Instant};
use trust::{MachineKey, light::Light};

const MEMBERS: u32 = 100_000;
const ROUNDS: usize = 2_000;
const NOW: u64 = 1_000_000_000_000;
const MODEL: ModelDigest = ModelDigest([5; 32]);
const TASK: TaskId = TaskId([6; 16]);

/// From the bytes of an answer to the key of the first candidate's worker.
fn verify(demands: &Demands, light: &mut Light, bytes: &[u8]) {
    let Ok(Answer::Match(MatchReply::Granted(grant))) = codec::decode(bytes, LINK_MESSAGE_BYTES_MAX) else {
        panic!("a grant")
    };
    let proven = demands.open(&grant.witness, light, NOW).unwrap();
    proven.model(MODEL).unwrap();
    for candidate in &grant.candidates {
        proven.candidate(candidate, TASK, MODEL).unwrap();
    }
    let first = &grant.candidates[0];
    black_box(trust::evidence::verify(&first.evidence, first.node, MODEL, &demands.policy, NOW).unwrap());
}

/// The 50th, 90th and 99th percentile, in microseconds.
fn measure(mut run: impl FnMut()) -> [f64; 3] {
    let mut times: Vec<f64> = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let start = Instant::now();
        run();
        times.push(start.elapsed().as_secs_f64() * 1e6);
    }
    times.sort_by(f64::total_cmp);
    [50, 90, 99].map(|percent| times[ROUNDS * percent / 100])
}

fn main() {
    let nodes: Vec<MachineKey> = (0..3).map(|_| MachineKey::generate()).collect();
    let client = MachineKey::generate().id();
    for committee in [1, 4, 7] {
        let mut agreed = Agreed::of(committee, NOW);
        for number in 0..MEMBERS {
            let mut node = NodeId([9; 32]);
            node.0[..4].copy_from_slice(&number.to_le_bytes());
            let fact = Fact::MemberAdmitted { node, role: Role::Node, at_unix_ms: 1 };
            agreed.registry.apply(fact).unwrap();
        }
        let region = Label::new("north").unwrap();
        for node in nodes.iter().map(MachineKey::id) {
            agreed.admit(node);
            agreed.agree(Fact::Labelled { node, region: Some(region.clone()), labels: Vec::new() });
        }
        agreed.agree(Fact::MeasurementAllowed { measurement: [0; 32] });
        let regions = vec![region];
        agreed.agree(Fact::PolicySet(PoolPolicy { regions, measured_only: true, ..PoolPolicy::default() }));

        let mut witness = agreed.witness();
        witness.measurements = vec![([0; 32], agreed.registry.prove(&keys::measurement(&[0; 32])))];
        let grant = Grant {
            model: MODEL,
            model_name: "a-model".to_owned(),
            witness: Box::new(witness),
            candidates: nodes.iter().map(|node| agreed.candidate(node, client, TASK, MODEL)).collect(),
            audit: None,
        };
        let answer = Answer::Match(MatchReply::Granted(grant));
        let bytes = codec::encode(&answer, LINK_MESSAGE_BYTES_MAX).unwrap();
        let demands = Demands { pool: agreed.pool(), client, policy: Policy::default(), own: OwnPolicy::default() };

        let fresh = agreed.light();
        let mut seen = fresh.clone();
        verify(&demands, &mut seen, &bytes);
        let warm = measure(|| verify(&demands, &mut seen, &bytes));
        let cold = measure(|| verify(&demands, &mut fresh.clone(), &bytes));
        println!(
            "{{\"bench\":\"grant\",\"committee\":{committee},\"members\":{MEMBERS},\"bytes\":{},\
             \"warm_us\":{{\"p50\":{:.1},\"p90\":{:.1},\"p99\":{:.1}}},\
             \"cold_us\":{{\"p50\":{:.1},\"p90\":{:.1},\"p99\":{:.1}}}}}",
            bytes.len(),
            warm[0],
            warm[1],
            warm[2],
            cold[0],
            cold[1],
            cold[2]
        );
    }
}
