//! Whatever facts come, in whatever order: no panic, the same log gives the same state, nothing counts twice.

use proptest::prelude::*;
use protocol::{
    grant::ModelRef,
    ids::{ModelDigest, NodeId},
    link::{ModelEntry, Role},
};
use registry::{Fact, Genesis, Registry};

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
    prop_oneof![1 => genesis, 4 => admitted, 1 => removed, 6 => model]
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
        let mut kept = Vec::new();
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
            // Names never change their meaning.
            for (at, entry) in before.models().iter().enumerate() {
                prop_assert_eq!(&registry.models()[at], entry);
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
