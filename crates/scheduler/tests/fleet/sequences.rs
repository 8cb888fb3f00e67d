//! Whatever happens to a fleet in whatever order, its index decides as if it looked at everything.

use crate::{
    reference::by_cost,
    strategies::{CLIENT, NOW, node, plain, pool, request, worker},
};
use proptest::{collection::vec, prelude::*};
use protocol::{
    grant::{MatchRequest, RefusalKind},
    ids::{ModelDigest, NodeId},
    limits,
};
use scheduler::{Ended, Fleet, LiveNode, LiveWorker, Now, Rule, Task};
use std::collections::BTreeMap;
use trust::{observations::Rates, score::Attestation};

#[derive(Debug, Clone)]
enum Step {
    Insert(Box<LiveNode>),
    Remove(u8),
    SetWorkers(u8, Vec<LiveWorker>),
    Heard(u8),
    HeardOnly(u8, u64),
    Doubt(u8),
    Reserve(u8, u8),
    Ended(u8, u8, bool),
    Canary(u8, u8, bool),
    Wait(u64),
    Ask(Box<MatchRequest>, u64),
}

fn step() -> impl Strategy<Value = Step> {
    // Few ids, so that steps meet.
    let id = || 0u8..30;
    let model = || 0u8..3;
    prop_oneof![
        4 => (id(), node()).prop_map(|(id, node)| Step::Insert(Box::new(LiveNode { node: NodeId([id; 32]), ..node }))),
        1 => id().prop_map(Step::Remove),
        2 => (id(), vec(worker(), 0..3)).prop_map(|(id, workers)| Step::SetWorkers(id, workers)),
        2 => id().prop_map(Step::Heard),
        3 => (id(), 0u64..7_000).prop_map(|(id, ms)| Step::HeardOnly(id, ms)),
        1 => id().prop_map(Step::Doubt),
        3 => (id(), model()).prop_map(|(id, model)| Step::Reserve(id, model)),
        2 => (id(), model(), any::<bool>()).prop_map(|(id, model, well)| Step::Ended(id, model, well)),
        1 => (id(), model(), any::<bool>()).prop_map(|(id, model, well)| Step::Canary(id, model, well)),
        2 => prop_oneof![0u64..500, 0u64..100_000].prop_map(Step::Wait),
        5 => (request(), any::<u64>()).prop_map(|(request, entropy)| Step::Ask(Box::new(request), entropy)),
    ]
}

fn take(fleet: &mut Fleet, known: &mut BTreeMap<NodeId, LiveNode>, step: Step, now: &mut Now) {
    let mut both = |fleet: &mut Fleet, id: u8, change: &dyn Fn(&mut LiveNode)| {
        let id = NodeId([id; 32]);
        let there = known.get_mut(&id).map(change).is_some();
        assert_eq!(fleet.update(id, *now, change).is_some(), there);
    };
    let steady_ms = now.steady_ms;
    match step {
        Step::Insert(live) => {
            assert_eq!(fleet.insert((*live).clone(), *now), known.insert(live.node, *live));
        }
        Step::Remove(id) => assert_eq!(fleet.remove(NodeId([id; 32])), known.remove(&NodeId([id; 32]))),
        Step::SetWorkers(id, workers) => both(fleet, id, &|live| live.workers.clone_from(&workers)),
        Step::Heard(id) => both(fleet, id, &|live| live.silent_from_steady_ms = steady_ms + 6_000),
        Step::HeardOnly(id, ms) => {
            let id = NodeId([id; 32]);
            let was_there = known.get(&id).is_some_and(|live| live.is_responsive(*now));
            assert_eq!(fleet.heard(id, steady_ms + ms, *now), was_there);
            if let Some(live) = known.get_mut(&id) {
                live.silent_from_steady_ms = steady_ms + ms;
            }
        }
        Step::Doubt(id) => both(fleet, id, &|live| live.doubted_until_steady_ms = steady_ms + 30_000),
        Step::Ended(id, model, well) => {
            let how = if well { Ended::Completed } else { Ended::Failed };
            both(fleet, id, &|live| live.records.get_mut(ModelDigest([model; 32])).ended(how, steady_ms));
        }
        Step::Canary(id, model, passed) => {
            both(fleet, id, &|live| live.records.get_mut(ModelDigest([model; 32])).canary(passed, steady_ms));
        }
        Step::Reserve(id, model) => {
            let (id, model) = (NodeId([id; 32]), ModelDigest([model; 32]));
            fleet.reserve(id, model, *now);
            if let Some(live) = known.get_mut(&id) {
                *live = fleet.get(id).expect("it is known").clone();
            }
        }
        Step::Wait(ms) => *now = Now { unix_ms: now.unix_ms + ms, steady_ms: now.steady_ms + ms },
        Step::Ask(..) => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]
    #[test]
    fn the_index_decides_as_if_it_looked_at_everything(steps in vec(step(), 0..150)) {
        let pool = pool();
        let (mut fleet, mut known, mut now) = (Fleet::new(Rule::default()), BTreeMap::new(), NOW);
        for step in steps {
            if let Step::Ask(request, entropy) = &step {
                let task = Task::new(CLIENT, request);
                let Some(model) = pool.model(&request.model) else { continue };
                let live: Vec<LiveNode> = known.values().cloned().collect();
                let exact = by_cost(&live, model.digest, &task, now);
                match fleet.rank(&pool, &task, now, *entropy) {
                    Ok(ranking) => {
                        prop_assert_eq!(ranking.candidates.len(), exact.len().min(limits::CANDIDATES_MAX));
                        for ranked in &ranking.candidates {
                            let at = exact.iter().position(|(_, node)| *node == ranked.node);
                            prop_assert!(at.is_some(), "a gated node was ranked");
                            prop_assert_eq!(exact[at.unwrap()].0.1, ranked.estimate.cost_us);
                        }
                        // Fewer nodes than are looked at: the first is as good as the best.
                        if exact.len() <= 24 {
                            let best = exact[0].0;
                            let first = ranking.candidates[0];
                            let doubted = live.iter().find(|live| live.node == first.node).unwrap().is_doubted(now);
                            prop_assert_eq!(doubted, best.0);
                            prop_assert!(first.estimate.cost_us <= best.1 / 100 * 110 + 110);
                        }
                    }
                    Err(refusal) => {
                        prop_assert!(exact.is_empty(), "a node had a place");
                        let unknown = matches!(refusal.kind, RefusalKind::UnknownModel { .. });
                        prop_assert!(!unknown);
                        prop_assert_eq!(refusal.reasons.len(), live.len());
                    }
                }
            }
            take(&mut fleet, &mut known, step, &mut now);
            prop_assert_eq!(fleet.len(), known.len());
        }
        // Nothing is left of nodes that are gone.
        for id in known.keys() {
            fleet.remove(*id);
        }
        let request = plain();
        let refusal = fleet.rank(&pool, &Task::new(CLIENT, &request), now, 0).unwrap_err();
        prop_assert!(fleet.is_empty() && refusal.reasons.is_empty() && fleet.canaries_due(now, 9).is_empty());
    }
}

/// Two thousand different machines: the index looks at a few dozen, and still finds one of the best.
#[test]
fn among_thousands_the_first_is_among_the_best() {
    let pool = pool();
    let model = pool.models()[0].digest;
    let mut state = 3u64;
    let mut random = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let live: Vec<LiveNode> = (0..2_000u32)
        .map(|number| {
            let mut id = [0; 32];
            id[..4].copy_from_slice(&number.to_le_bytes());
            let alone = 4_000 + random(40_000) as u32;
            let decode_milli = [alone, alone * 17 / 10, alone * 27 / 10, alone * 38 / 10];
            let rates = Rates { prefill_milli: alone * (3 + random(20) as u32), decode_milli };
            let active_tasks = random(9) as u32;
            LiveNode {
                silent_from_steady_ms: u64::MAX,
                attestation: Attestation::Vouched,
                rtt_us: random(150_000) as u32,
                workers: vec![LiveWorker { rates, active_tasks, ..LiveWorker::new(model, 8, 1) }],
                ..LiveNode::new(NodeId(id), NOW)
            }
        })
        .collect();
    let mut fleet = crate::strategies::fleet(&live, NOW);
    for prompt in [512, 4_096, 32_768, 131_072] {
        for answer in [16, 64, 256] {
            let request = MatchRequest { prompt_bucket_bytes: prompt, answer_bucket_tokens: answer, ..plain() };
            let task = Task::new(CLIENT, &request);
            let exact = by_cost(&live, model, &task, NOW);
            for entropy in 0..20 {
                let first = fleet.rank(&pool, &task, NOW, entropy).unwrap().candidates[0];
                let at = exact.iter().position(|(_, node)| *node == first.node).unwrap();
                let over = first.estimate.cost_us as f64 / exact[0].0.1 as f64;
                assert!(at < 20 && over < 1.15, "{prompt} {answer}: place {at}, {over:.3} of the best");
            }
        }
    }
}
