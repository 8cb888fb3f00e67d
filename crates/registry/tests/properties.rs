//! Whatever facts come, in whatever order: no panic, the same log gives the same state, nothing counts twice.

use proptest::prelude::*;
use protocol::{
    fault::FaultKind,
    grant::ModelRef,
    ids::{ModelDigest, NodeId},
    link::{ModelEntry, Role},
};
use registry::{Fact, Genesis, Registry};
use std::collections::BTreeMap;
use trust::observations::{Bin, Observations, Rates, Sessions};

// Few enough of each that facts meet.
fn node() -> impl Strategy<Value = NodeId> {
    (0u8..5).prop_map(|byte| NodeId([byte; 32]))
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[aAbB]{1,2}",
        1 => Just("default".to_owned()),
        1 => "[aA]@0[0-3]{3}",
        1 => any::<String>(),
        1 => (195usize..205).prop_map(|length| "n".repeat(length)),
    ]
}

fn observations() -> impl Strategy<Value = Observations> {
    let bins = proptest::collection::vec((0u8..180, any::<u16>(), any::<u16>()), 0..4);
    let rates = proptest::collection::vec((0u8..6, any::<u32>(), any::<[u32; 4]>()), 0..4);
    (bins, rates, any::<[u32; 6]>(), any::<bool>()).prop_map(|(bins, rates, numbers, sorted)| {
        let bin = |(hour, departures_milli, exposure_milli)| Bin { hour, departures_milli, exposure_milli };
        let rate =
            |(model, prefill_milli, decode_milli)| (ModelDigest([model; 32]), Rates { prefill_milli, decode_milli });
        let mut seen = Observations {
            sessions: Sessions { bins: bins.into_iter().map(bin).collect() },
            rates: rates.into_iter().map(rate).collect(),
            memory_mib: numbers[0],
            ..Observations::default()
        };
        (seen.network.samples, seen.network.jitter_us) = (numbers[1] as u16, numbers[2]);
        seen.network.loss_ppm = numbers[3] % 1_100_000;
        (seen.results.valid_milli, seen.results.invalid_milli) = (numbers[4], numbers[5]);
        if sorted {
            seen.sessions.bins.sort_unstable_by_key(|bin| bin.hour);
            seen.sessions.bins.dedup_by_key(|bin| bin.hour);
            seen.rates.sort_unstable_by_key(|(model, _)| *model);
            seen.rates.dedup_by_key(|(model, _)| *model);
        }
        seen
    })
}

fn fact() -> impl Strategy<Value = Fact> {
    let genesis = (proptest::collection::vec(node(), 0..3), 0u8..2, 0u64..2)
        .prop_map(|(orchestrators, secret, at)| Fact::Genesis(Genesis::new(orchestrators, &[secret; 32], at)));
    let admitted = (node(), any::<bool>(), any::<u64>()).prop_map(|(node, lends, at_unix_ms)| {
        let role = if lends { Role::Node } else { Role::Client };
        Fact::MemberAdmitted { node, role, at_unix_ms }
    });
    let removed = (node(), any::<u64>()).prop_map(|(node, at_unix_ms)| Fact::MemberRemoved { node, at_unix_ms });
    let model = (name(), proptest::collection::vec(name(), 0..12), 0u8..6, any::<String>(), any::<u64>()).prop_map(
        |(name, aliases, byte, licence, number)| {
            let digest = ModelDigest([byte; 32]);
            Fact::ModelAdded(ModelEntry { name, aliases, digest, bytes: number, licence, created_unix_s: number })
        },
    );
    let observed = (node(), 0u64..4, observations()).prop_map(|(node, epoch, observations)| Fact::Observed {
        node,
        epoch,
        observations,
    });
    let forgotten = (0u8..6).prop_map(|byte| Fact::ModelRemoved { digest: ModelDigest([byte; 32]) });
    let nodes = || proptest::collection::vec(node(), 0..3);
    let changed = (nodes(), nodes()).prop_map(|(add, remove)| Fact::CommitteeChanged { add, remove });
    let fault = (node(), 0u64..2, any::<u64>(), proptest::collection::vec(any::<u8>(), 0..3)).prop_map(
        |(member, epoch, view, evidence)| {
            let kind = FaultKind::NullifyFinalize;
            Fact::Fault { member, epoch, view, kind, evidence }
        },
    );
    prop_oneof![1 => genesis, 4 => admitted, 1 => removed, 6 => model, 4 => observed, 1 => forgotten, 2 => changed, 1 => fault]
}

/// A log that begins properly, most of the time.
fn log() -> impl Strategy<Value = Vec<Fact>> {
    (any::<u8>(), proptest::collection::vec(fact(), 0..40)).prop_map(|(dice, mut facts)| {
        if dice > 25 {
            facts.insert(0, Fact::Genesis(Genesis::new(vec![NodeId([1; 32])], &[0; 32], 0)));
        }
        facts
    })
}

proptest! {
    #[test]
    fn a_log_is_its_state(facts in log()) {
        let mut registry = Registry::default();
        let (mut kept, mut meant) = (Vec::new(), BTreeMap::new());
        for fact in facts {
            let before = registry.clone();
            match registry.apply(fact.clone()) {
                Ok(events) if events.is_empty() => prop_assert_eq!(&before, &registry, "no event, no change"),
                Ok(_) => {
                    prop_assert_ne!(&before, &registry);
                    kept.push(fact.encode().expect("an accepted fact fits the log"));
                }
                Err(_) => prop_assert_eq!(&before, &registry, "a rejected fact changes nothing"),
            }
            // Names never change their meaning, other than to mean nothing.
            for entry in before.models() {
                let now = registry.model(&ModelRef::Digest(entry.digest));
                prop_assert!(now.is_none_or(|now| now == entry));
                for name in std::iter::once(&entry.name).chain(&entry.aliases) {
                    prop_assert_eq!(registry.model(&ModelRef::Name(name.clone())), now);
                    meant.entry(name.to_lowercase()).or_insert(entry.digest);
                }
            }
            for (name, digest) in &meant {
                let now = registry.model(&ModelRef::Name(name.clone()));
                prop_assert!(now.is_none_or(|now| now.digest == *digest), "{} means another model", name);
            }
        }
        let mut replayed = Registry::default();
        for bytes in &kept {
            replayed.apply(Fact::decode(bytes).expect("as it was encoded")).expect("as it was accepted");
        }
        prop_assert_eq!(&replayed, &registry);
    }

    #[test]
    fn nothing_counts_twice(facts in log()) {
        let (mut once, mut twice) = (Registry::default(), Registry::default());
        for fact in facts {
            let first = once.apply(fact.clone());
            prop_assert_eq!(twice.apply(fact.clone()), first.clone());
            match first {
                Ok(_) => prop_assert_eq!(twice.apply(fact), Ok(Vec::new())),
                Err(rejection) => prop_assert_eq!(twice.apply(fact), Err(rejection)),
            }
        }
        prop_assert_eq!(once, twice);
    }

    #[test]
    fn only_members_are_observed_and_epochs_increase(facts in log()) {
        let mut registry = Registry::default();
        for fact in facts {
            let before = registry.clone();
            let _ = registry.apply(fact);
            for (node, observations) in registry.all_observations() {
                prop_assert!(registry.is_member(node));
                prop_assert_eq!(observations.check(), Ok(()));
                if before.observations(node).is_some_and(|old| old != observations) {
                    prop_assert!(before.observed_epoch(node) < registry.observed_epoch(node));
                }
            }
        }
    }

    #[test]
    fn every_model_is_found_by_all_its_names(facts in log()) {
        let mut registry = Registry::default();
        for fact in facts {
            let _ = registry.apply(fact);
        }
        for entry in registry.models() {
            prop_assert_eq!(registry.model(&ModelRef::Digest(entry.digest)), Some(entry));
            for name in std::iter::once(&entry.name).chain(&entry.aliases) {
                prop_assert_eq!(registry.model(&ModelRef::Name(name.to_uppercase())), Some(entry));
                prop_assert!(!name.eq_ignore_ascii_case("default"));
            }
        }
        prop_assert_eq!(registry.model(&ModelRef::Name("Default".to_owned())), registry.models().first());
    }

    #[test]
    fn any_bytes_are_a_fact_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(fact) = Fact::decode(&bytes) {
            let _ = Registry::default().apply(fact);
        }
    }
}
