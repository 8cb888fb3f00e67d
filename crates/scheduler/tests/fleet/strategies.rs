//! Pools, nodes and requests of every kind.

use proptest::{collection::vec, option, prelude::*};
use protocol::{
    grant::{Locality, MatchRequest, ModelRef, Policy, Tier},
    hold::Hold,
    ids::{ModelDigest, NodeId, TaskId},
    link::ModelEntry,
    market::Price,
};
use registry::{Fact, Genesis, Registry};
use scheduler::{Ended, Fleet, LiveNode, LiveWorker, Now, Presence, Record, Records, Rule};
use std::collections::HashSet;
use trust::{observations::Rates, score::Attestation, survival::Hazard};

pub(crate) const MODELS: u8 = 3;
pub(crate) const NOW: Now = Now { unix_ms: 1_700_000_000_000, steady_ms: 1_000_000 };
pub(crate) const CLIENT: NodeId = NodeId([1; 32]);

pub(crate) fn pool() -> Registry {
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

pub(crate) fn fleet<'l>(live: impl IntoIterator<Item = &'l LiveNode>, now: Now) -> Fleet {
    let mut fleet = Fleet::new(Rule::default());
    for live in live {
        fleet.insert(live.clone(), now);
    }
    fleet
}

pub(crate) fn hold() -> impl Strategy<Value = Hold> {
    prop_oneof![
        Just(Hold::Starting),
        Just(Hold::Full { slots: 2 }),
        Just(Hold::Draining),
        Just(Hold::Paused { until_unix_ms: None }),
        Just(Hold::Owner { rule: "on battery".to_owned(), lifts_unix_ms: None }),
        Just(Hold::WorkerDown { why: "killed".to_owned() })
    ]
}

pub(crate) fn rates() -> impl Strategy<Value = Rates> {
    let rate = || prop_oneof![1 => Just(0u32), 8 => 1_000u32..200_000, 1 => any::<u32>()];
    (rate(), [rate(), rate(), rate(), rate()])
        .prop_map(|(prefill_milli, decode_milli)| Rates { prefill_milli, decode_milli })
}

pub(crate) fn worker() -> impl Strategy<Value = LiveWorker> {
    let evidence = (0u64..=200_000, 0u64..=200_000).prop_map(|(before, after)| {
        (NOW.unix_ms.saturating_sub(before).saturating_add(20_000), (NOW.unix_ms + after).saturating_sub(20_000))
    });
    let count = || prop_oneof![6 => 0u32..6, 1 => any::<u32>()];
    let counts = (count(), count(), count(), count(), count(), count());
    (0..MODELS, evidence, counts, rates(), 0u64..2_000_000, option::weighted(0.1, hold())).prop_map(
        |(model, (issued_unix_ms, expires_unix_ms), counts, rates, reserved_until_steady_ms, hold)| {
            let (slots, capacity, active_tasks, reserved, load_ms, price_micro) = counts;
            LiveWorker {
                model: ModelDigest([model; 32]),
                tier: Tier::SelfSigned,
                issued_unix_ms,
                expires_unix_ms,
                slots,
                capacity,
                active_tasks,
                reserved,
                reserved_until_steady_ms,
                rates,
                load_ms,
                price: Price { prompt_micro: u64::from(price_micro), output_micro: u64::from(price_micro) },
                hold,
            }
        },
    )
}

fn record() -> impl Strategy<Value = Record> {
    vec((0u8..6, 0u64..2_000_000), 0..12).prop_map(|events| {
        let mut record = Record::NEW;
        for (what, at) in events {
            match what {
                0 | 1 => record.started(at),
                2 => record.ended(Ended::Completed, at),
                3 => record.ended(Ended::Failed, at),
                4 => record.canary(true, at),
                _ => record.ended(Ended::Without, at),
            }
        }
        record
    })
}

pub(crate) fn node() -> impl Strategy<Value = LiveNode> {
    let presence = prop_oneof![8 => Just(Presence::Linked), 1 => Just(Presence::Left), 1 => Just(Presence::Lost)];
    let times = (500_000u64..3_000_000, 0u64..1_500_000, 0u64..1_500_000);
    let attestation = prop_oneof![1 => Just(Attestation::SelfSigned), 5 => Just(Attestation::Vouched)];
    let hazard = (1u32..5_000, 1u32..50_000)
        .prop_map(|(departures_milli, exposure_milli)| Hazard { departures_milli, exposure_milli });
    let standing = (presence, any::<bool>(), option::weighted(0.2, hold()), attestation, hazard);
    (any::<u8>(), standing, times, 0u32..1_000_000, vec(worker(), 0..4), vec(record(), MODELS as usize)).prop_map(
        |(byte, (presence, probing, hold, attestation, hazard), times, number, workers, kept)| {
            let mut records = Records::default();
            for (model, record) in (0..MODELS).zip(kept) {
                records.set(ModelDigest([model; 32]), record);
            }
            LiveNode {
                node: NodeId([byte; 32]),
                presence,
                silent_from_steady_ms: times.0,
                probing,
                doubted_until_steady_ms: times.1,
                hold,
                attestation,
                score_ppm: number,
                rtt_us: number,
                session_since_steady_ms: times.2,
                hazard,
                workers,
                records,
            }
        },
    )
}

pub(crate) fn nodes(most: usize) -> impl Strategy<Value = Vec<LiveNode>> {
    vec(node(), 0..most).prop_map(|mut nodes| {
        let mut seen = HashSet::new();
        nodes.retain(|node| seen.insert(node.node));
        nodes
    })
}

/// Of the default model, for anybody.
pub(crate) fn plain() -> MatchRequest {
    MatchRequest::new(TaskId([0; 16]), ModelRef::Name("default".to_owned()), 4_096, 0)
}

pub(crate) fn request() -> impl Strategy<Value = MatchRequest> {
    let model = prop_oneof![
        (0..=MODELS).prop_map(|byte| ModelRef::Digest(ModelDigest([byte; 32]))),
        Just(ModelRef::Name("default".to_owned())),
        "model-[0-3]".prop_map(ModelRef::Name),
    ];
    let locality = prop_oneof![1 => Just(Locality::Device), 4 => Just(Locality::Pool), 1 => Just(Locality::Network)];
    let sizes = (0u32..17, option::weighted(0.5, 0u32..13));
    (model, locality, vec(any::<u8>().prop_map(|byte| NodeId([byte; 32])), 0..20), sizes).prop_map(
        |(model, locality, exclude, (prompt, answer))| MatchRequest {
            model,
            prompt_bucket_bytes: 1 << prompt,
            answer_bucket_tokens: answer.map_or(0, |answer| 1 << answer),
            policy: Policy { locality, tier_min: Tier::SelfSigned },
            exclude,
            ..plain()
        },
    )
}
