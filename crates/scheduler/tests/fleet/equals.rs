//! Chance decides between equals, and doubt comes last.

use crate::strategies::{CLIENT, NOW, fleet, plain, pool};
use protocol::{
    grant::MatchRequest,
    ids::{ModelDigest, NodeId},
};
use scheduler::{Ended, Fleet, LiveNode, LiveWorker, Records, Task};
use std::collections::{HashMap, HashSet};
use trust::score::Attestation;

const MODEL: ModelDigest = ModelDigest([0; 32]);

fn idle(byte: u8) -> LiveNode {
    let mut records = Records::default();
    for _ in 0..3 {
        records.get_mut(MODEL).ended(Ended::Completed, 0);
    }
    LiveNode {
        records,
        silent_from_steady_ms: u64::MAX,
        attestation: Attestation::Vouched,
        workers: vec![LiveWorker { capacity: 16, ..LiveWorker::new(MODEL, 4, 1_000_000_000) }],
        ..LiveNode::new(NodeId([byte; 32]), NOW)
    }
}

#[test]
fn chance_decides_between_equals_and_doubt_comes_last() {
    let mut live: Vec<LiveNode> = (0..4).map(idle).collect();
    live[3].probing = true;
    live[2].workers[0].active_tasks = 4;
    let pool = pool();
    let mut request = plain();
    let mut fleet = fleet(&live, NOW);
    let mut first = |entropy| fleet.rank(&pool, &Task::new(CLIENT, &request), NOW, entropy).unwrap().candidates[0].node;
    let firsts: HashSet<NodeId> = (0..100).map(&mut first).collect();
    assert_eq!(firsts, HashSet::from([NodeId([0; 32]), NodeId([1; 32])]));
    let share = (0..1_000).filter(|&entropy| first(entropy) == NodeId([0; 32])).count();
    assert!((400..600).contains(&share), "one of two equals got {share} of 1,000");
    // The doubted node is idle, the other nearly full: it still comes after it.
    request.exclude = vec![NodeId([0; 32]), NodeId([1; 32])];
    let ranking = fleet.rank(&pool, &Task::new(CLIENT, &request), NOW, 0).unwrap();
    let ranked: Vec<NodeId> = ranking.candidates.iter().map(|candidate| candidate.node).collect();
    assert_eq!(ranked, [NodeId([2; 32]), NodeId([3; 32])]);
}

#[test]
fn a_node_gets_twice_what_it_runs_and_the_rest_waits_centrally() {
    let (pool, request) = (pool(), plain());
    let mut fleet = fleet(&[idle(1)], NOW);
    let given = (0..16).filter(|&entropy| fleet.grant(&pool, &Task::new(CLIENT, &request), NOW, entropy).is_ok());
    assert_eq!(given.count(), 8, "four slots, room for sixteen");
}

#[test]
fn a_crowd_of_equals_shares_what_orchestrators_that_know_nothing_of_each_other_send() {
    // No reservation is made: each decision sees what the others saw.
    let live: Vec<LiveNode> = (0..200).map(idle).collect();
    let (pool, request) = (pool(), plain());
    let mut fleet = fleet(&live, NOW);
    let mut load: HashMap<NodeId, u32> = HashMap::new();
    for entropy in 0..2_000u64 {
        let entropy = entropy.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let ranking = fleet.rank(&pool, &Task::new(CLIENT, &request), NOW, entropy).unwrap();
        *load.entry(ranking.candidates[0].node).or_default() += 1;
    }
    let most = load.values().max().unwrap();
    assert!(load.len() > 150 && *most < 60, "{} nodes, at most {most} of 2,000 for one", load.len());
}

#[test]
fn a_class_that_nobody_asked_for_in_long_is_ordered_as_it_is_now() {
    let live: Vec<LiveNode> = (0..3).map(idle).collect();
    let (pool, mut long) = (pool(), plain());
    long.prompt_bucket_bytes = 1 << 20;
    let mut fleet = fleet(&live, NOW);
    let first = |fleet: &mut Fleet, request: &MatchRequest| {
        fleet.rank(&pool, &Task::new(CLIENT, request), NOW, 0).unwrap().candidates[0].node
    };
    first(&mut fleet, &long);
    for change in 0..200u32 {
        for byte in 0..3u8 {
            let tasks = (change + u32::from(byte)) % 3;
            fleet.update(NodeId([byte; 32]), NOW, |live| live.workers[0].active_tasks = tasks);
        }
        let least = NodeId([(3 - change % 3) as u8 % 3; 32]);
        assert_eq!(first(&mut fleet, &plain()), least);
        if change % 50 == 49 {
            assert_eq!(first(&mut fleet, &long), least);
        }
    }
}

#[test]
fn a_burst_is_spread_by_its_own_reservations() {
    let live: Vec<LiveNode> = (0..100).map(idle).collect();
    let (pool, request) = (pool(), plain());
    let mut fleet = fleet(&live, NOW);
    for entropy in 0..100 {
        fleet.grant(&pool, &Task::new(CLIENT, &request), NOW, entropy).unwrap();
    }
    assert!(fleet.iter().all(|live| live.workers[0].tasks(NOW) == 1), "each idle node got one of as many");
}
