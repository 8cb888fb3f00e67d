//! Who is ranked, and who has a reason.

use crate::{
    reference::by_cost,
    strategies::{CLIENT, NOW, fleet, nodes, plain, pool, request},
};
use proptest::prelude::*;
use protocol::{
    grant::{MatchRequest, RefusalKind},
    hold::Hold,
    ids::NodeId,
    limits,
};
use scheduler::{LiveNode, Now, Task, gate, standing};
use std::collections::HashSet;

proptest! {
    #[test]
    fn every_node_is_ranked_or_has_a_reason(
        live in nodes(40), request in request(), steady_ms in 1_000_000u64..4_000_000, entropy: u64
    ) {
        let pool = pool();
        // Time passes between what was heard and what is asked.
        let now = Now { steady_ms, unix_ms: NOW.unix_ms + (steady_ms - NOW.steady_ms) };
        let mut fleet = fleet(&live, NOW);
        let task = Task::new(CLIENT, &request);
        match fleet.rank(&pool, &task, now, entropy) {
            Ok(ranking) => {
                prop_assert_eq!(pool.model(&request.model), Some(ranking.model));
                let ranked: Vec<NodeId> = ranking.candidates.iter().map(|candidate| candidate.node).collect();
                prop_assert!((1..=limits::CANDIDATES_MAX).contains(&ranked.len()));
                prop_assert_eq!(ranked.iter().collect::<HashSet<_>>().len(), ranked.len());
                let free = by_cost(&live, ranking.model.digest, &task, now);
                prop_assert_eq!(ranked.len(), free.len().min(limits::CANDIDATES_MAX));
                for candidate in &ranked {
                    prop_assert!(free.iter().any(|(_, node)| node == candidate), "a gated node was ranked");
                    prop_assert!(!request.exclude.contains(candidate));
                    let node = live.iter().find(|node| node.node == *candidate).unwrap();
                    prop_assert_eq!(standing(node, now), None, "ranked, though it stands badly");
                }
            }
            Err(refusal) => match pool.model(&request.model) {
                None => {
                    let unknown = matches!(refusal.kind, RefusalKind::UnknownModel { .. });
                    prop_assert!(unknown);
                }
                Some(model) => {
                    // Fewer nodes than reasons that can be told: every one has its own.
                    prop_assert_eq!(refusal.reasons.len(), live.len().min(limits::REASONS_MAX));
                    for (node, hold) in &refusal.reasons {
                        let node = live.iter().find(|live| live.node == *node).unwrap();
                        prop_assert_eq!(gate(node, model.digest, &task, now), Some(hold.clone()));
                    }
                    let full = refusal.reasons.iter().any(|(_, hold)| matches!(hold, Hold::Full { .. } | Hold::Unproven));
                    prop_assert_eq!(refusal.kind == RefusalKind::Overloaded, full);
                    prop_assert!(!full || refusal.retry_after_ms.is_some());
                }
            },
        }
    }

    #[test]
    fn the_same_arguments_give_the_same_ranking_in_whatever_order_nodes_came(
        live in nodes(20), request in request(), entropy: u64
    ) {
        let pool = pool();
        let task = Task::new(CLIENT, &request);
        let (mut forward, mut backward) = (fleet(&live, NOW), fleet(live.iter().rev(), NOW));
        let ranked = forward.rank(&pool, &task, NOW, entropy);
        prop_assert_eq!(&ranked, &forward.rank(&pool, &task, NOW, entropy));
        prop_assert_eq!(&ranked, &backward.rank(&pool, &task, NOW, entropy));
    }

    #[test]
    fn more_load_never_improves_a_rank(live in nodes(12), more in 1u32..5, which: prop::sample::Index, entropy: u64) {
        prop_assume!(!live.is_empty());
        let pool = pool();
        let request = plain();
        let task = Task::new(CLIENT, &request);
        let mut loaded = live.clone();
        let chosen = which.get_mut(&mut loaded);
        for worker in &mut chosen.workers {
            worker.active_tasks = worker.active_tasks.saturating_add(more);
        }
        let chosen = chosen.node;
        let place = |live: &[LiveNode]| match fleet(live, NOW).rank(&pool, &task, NOW, entropy) {
            Ok(ranking) => ranking.candidates.iter().position(|ranked| ranked.node == chosen).unwrap_or(usize::MAX),
            Err(_) => usize::MAX,
        };
        prop_assert!(place(&loaded) >= place(&live));
    }
}

/// Ten thousand nodes of one kind that cannot take a task: reasons are listed, each of them true, and the nearest first.
#[test]
fn a_crowd_that_cannot_is_refused_with_reasons() {
    let pool = pool();
    let now = NOW;
    let id = |number: u32| {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&number.to_le_bytes());
        NodeId(bytes)
    };
    let model = pool.models()[0].digest;
    let mut live: Vec<LiveNode> = (0..10_000)
        .map(|number| LiveNode {
            silent_from_steady_ms: u64::MAX,
            attestation: trust::score::Attestation::Vouched,
            hold: Some(Hold::Draining),
            workers: vec![scheduler::LiveWorker::new(model, 4, 1)],
            ..LiveNode::new(id(number), now)
        })
        .collect();
    live[7_777].hold = None;
    live[7_777].workers[0].active_tasks = 4;
    let request = MatchRequest { exclude: Vec::new(), ..plain() };
    let task = Task::new(CLIENT, &request);
    let refusal = fleet(&live, now).rank(&pool, &task, now, 1).unwrap_err();
    assert_eq!(refusal.reasons.len(), limits::REASONS_MAX);
    assert_eq!(refusal.reasons[0], (id(7_777), Hold::Full { slots: 4 }));
    assert_eq!(refusal.kind, RefusalKind::Overloaded);
    assert!(refusal.reasons[1..].iter().all(|(_, hold)| *hold == Hold::Draining));
}
