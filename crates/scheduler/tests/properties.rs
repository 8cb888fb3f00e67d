//! What holds for every pool, task and time.
#![expect(clippy::unwrap_used, reason = "clippy knows test functions, but not what they call")]

use proptest::{collection::vec, option, prelude::*};
use protocol::{
    grant::{Locality, MatchRequest, ModelRef, Policy, RefusalKind, Tier},
    hold::Hold,
    ids::{ModelDigest, NodeId, TaskId},
    limits,
    link::ModelEntry,
};
use registry::{Fact, Genesis, Registry};
use scheduler::{LiveNode, LiveWorker, Now, Presence, Task, gate, rank, standing};
use std::collections::HashSet;

const MODELS: u8 = 3;
const NOW: Now = Now { unix_ms: 1_700_000_000_000, steady_ms: 1_000_000 };
const CLIENT: NodeId = NodeId([1; 32]);

fn pool() -> Registry {
    let mut registry = Registry::default();
    registry.apply(Fact::Genesis(Genesis::new(vec![NodeId([0; 32])], &[0; 32], 0))).unwrap();
    for byte in 0..MODELS {
        let model = ModelEntry {
            name: format!("model-{byte}"),
            aliases: Vec::new(),
            digest: ModelDigest([byte; 32]),
            bytes: 1,
            licence: "MIT".to_owned(),
            created_unix_s: 0,
        };
        registry.apply(Fact::ModelAdded(model)).unwrap();
    }
    registry
}

fn hold() -> impl Strategy<Value = Hold> {
    prop_oneof![
        Just(Hold::Starting),
        Just(Hold::Full { slots: 2 }),
        Just(Hold::Draining),
        Just(Hold::WorkerDown { why: "killed".to_owned() })
    ]
}

fn worker() -> impl Strategy<Value = LiveWorker> {
    let evidence = (0u64..=200_000, 0u64..=200_000).prop_map(|(before, after)| {
        (NOW.unix_ms.saturating_sub(before).saturating_add(20_000), (NOW.unix_ms + after).saturating_sub(20_000))
    });
    let count = || prop_oneof![6 => 0u32..6, 1 => any::<u32>()];
    (0..MODELS, evidence, (count(), count(), count(), count()), 0u64..2_000_000, option::weighted(0.1, hold()))
        .prop_map(
            |(model, (issued_unix_ms, expires_unix_ms), (slots, capacity, active_tasks, reserved), until, hold)| {
                LiveWorker {
                    model: ModelDigest([model; 32]),
                    tier: Tier::SelfSigned,
                    issued_unix_ms,
                    expires_unix_ms,
                    slots,
                    capacity,
                    active_tasks,
                    reserved,
                    reserved_until_steady_ms: until,
                    hold,
                }
            },
        )
}

fn node() -> impl Strategy<Value = LiveNode> {
    let presence = prop_oneof![8 => Just(Presence::Linked), 1 => Just(Presence::Left), 1 => Just(Presence::Lost)];
    let times = (500_000u64..3_000_000, 0u64..1_500_000);
    (any::<u8>(), presence, times, any::<bool>(), option::weighted(0.2, hold()), vec(worker(), 0..4)).prop_map(
        |(byte, presence, (silent_from_steady_ms, doubted_until_steady_ms), probing, hold, workers)| LiveNode {
            node: NodeId([byte; 32]),
            presence,
            silent_from_steady_ms,
            probing,
            doubted_until_steady_ms,
            hold,
            workers,
        },
    )
}

fn nodes(most: usize) -> impl Strategy<Value = Vec<LiveNode>> {
    vec(node(), 0..most).prop_map(|mut nodes| {
        let mut seen = HashSet::new();
        nodes.retain(|node| seen.insert(node.node));
        nodes
    })
}

fn request() -> impl Strategy<Value = MatchRequest> {
    let model = prop_oneof![
        (0..=MODELS).prop_map(|byte| ModelRef::Digest(ModelDigest([byte; 32]))),
        Just(ModelRef::Name("default".to_owned())),
        "model-[0-3]".prop_map(ModelRef::Name),
    ];
    let locality = prop_oneof![1 => Just(Locality::Device), 4 => Just(Locality::Pool), 1 => Just(Locality::Network)];
    (model, locality, vec(any::<u8>().prop_map(|byte| NodeId([byte; 32])), 0..20)).prop_map(
        |(model, locality, exclude)| MatchRequest {
            task: TaskId([0; 16]),
            model,
            prompt_bucket_bytes: 4096,
            answer_bucket_tokens: 0,
            policy: Policy { locality, tier_min: Tier::SelfSigned },
            exclude,
        },
    )
}

proptest! {
    #[test]
    fn every_node_is_ranked_or_has_a_reason(
        live in nodes(40), request in request(), steady_ms in 0u64..4_000_000, entropy: u64
    ) {
        let (pool, now) = (pool(), Now { steady_ms, ..NOW });
        let task = Task { client: CLIENT, request: &request };
        match rank(&pool, &live, &task, now, entropy) {
            Ok(ranking) => {
                prop_assert_eq!(pool.model(&request.model), Some(ranking.model));
                prop_assert!((1..=limits::CANDIDATES_MAX).contains(&ranking.candidates.len()));
                prop_assert_eq!(ranking.candidates.iter().collect::<HashSet<_>>().len(), ranking.candidates.len());
                let free = live.iter().filter(|node| gate(node, ranking.model.digest, &task, now).is_none());
                let free: HashSet<NodeId> = free.map(|node| node.node).collect();
                prop_assert_eq!(ranking.candidates.len(), free.len().min(limits::CANDIDATES_MAX));
                for candidate in &ranking.candidates {
                    prop_assert!(free.contains(candidate), "a gated node was ranked");
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
                Some(_) => {
                    prop_assert_eq!(refusal.reasons.len(), live.len().min(limits::REASONS_MAX));
                    let full = refusal.reasons.iter().any(|(_, hold)| matches!(hold, Hold::Full { .. }));
                    prop_assert_eq!(refusal.kind == RefusalKind::Overloaded, full);
                    if full {
                        prop_assert!(refusal.retry_after_ms.is_some());
                    }
                }
            },
        }
    }

    #[test]
    fn the_same_arguments_give_the_same_ranking_in_whatever_order_they_come(
        live in nodes(20), request in request(), entropy: u64
    ) {
        let pool = pool();
        let task = Task { client: CLIENT, request: &request };
        let forward = rank(&pool, &live, &task, NOW, entropy);
        let backward: Vec<LiveNode> = live.iter().rev().cloned().collect();
        prop_assert_eq!(&forward, &rank(&pool, &live, &task, NOW, entropy));
        prop_assert_eq!(&forward, &rank(&pool, &backward, &task, NOW, entropy));
    }

    #[test]
    fn more_load_never_improves_a_rank(live in nodes(12), more in 1u32..5, which: prop::sample::Index, entropy: u64) {
        prop_assume!(!live.is_empty());
        let pool = pool();
        let request = MatchRequest {
            task: TaskId([0; 16]), model: ModelRef::Name("default".to_owned()), prompt_bucket_bytes: 0,
            answer_bucket_tokens: 0, policy: Policy::default(), exclude: Vec::new(),
        };
        let task = Task { client: CLIENT, request: &request };
        let mut loaded = live.clone();
        let chosen = which.get_mut(&mut loaded);
        for worker in &mut chosen.workers {
            worker.active_tasks = worker.active_tasks.saturating_add(more);
        }
        let chosen = chosen.node;
        let place = |live: &[LiveNode]| {
            let candidates = rank(&pool, live, &task, NOW, entropy).map(|ranking| ranking.candidates).unwrap_or_default();
            candidates.iter().position(|node| *node == chosen).unwrap_or(usize::MAX)
        };
        prop_assert!(place(&loaded) >= place(&live));
    }
}

#[test]
fn chance_decides_between_equals_and_doubt_comes_last() {
    let worker = LiveWorker {
        model: ModelDigest([0; 32]),
        tier: Tier::SelfSigned,
        issued_unix_ms: NOW.unix_ms,
        expires_unix_ms: NOW.unix_ms + 1,
        slots: 4,
        capacity: 16,
        active_tasks: 0,
        reserved: 0,
        reserved_until_steady_ms: 0,
        hold: None,
    };
    let mut live: Vec<LiveNode> = (0..4)
        .map(|byte| LiveNode {
            node: NodeId([byte; 32]),
            presence: Presence::Linked,
            silent_from_steady_ms: u64::MAX,
            probing: false,
            doubted_until_steady_ms: 0,
            hold: None,
            workers: vec![worker.clone()],
        })
        .collect();
    live[3].probing = true;
    live[2].workers[0].active_tasks = 15;
    let pool = pool();
    let request = MatchRequest {
        task: TaskId([0; 16]),
        model: ModelRef::Name("default".to_owned()),
        prompt_bucket_bytes: 0,
        answer_bucket_tokens: 0,
        policy: Policy::default(),
        exclude: Vec::new(),
    };
    let task = Task { client: CLIENT, request: &request };
    let first = |entropy| rank(&pool, &live, &task, NOW, entropy).unwrap().candidates[0];
    let firsts: HashSet<NodeId> = (0..100).map(first).collect();
    assert_eq!(firsts, HashSet::from([NodeId([0; 32]), NodeId([1; 32])]));
    let share = (0..1_000).filter(|&entropy| first(entropy) == NodeId([0; 32])).count();
    assert!((400..600).contains(&share), "one of two equals got {share} of 1,000");
    // The doubted node is idle, the other nearly full: it still comes after it.
    let request = MatchRequest { exclude: vec![NodeId([0; 32]), NodeId([1; 32])], ..request };
    let task = Task { client: CLIENT, request: &request };
    let ranking = rank(&pool, &live, &task, NOW, 0).unwrap();
    assert_eq!(ranking.candidates, [NodeId([2; 32]), NodeId([3; 32])]);
}
