//! States in parts.

use crate::world::*;
use protocol::{ids::NodeId, link::Role};
use registry::{
    Registry,
    snapshot::{Assembly, Manifest, PARTS, SnapshotError, Top},
};

/// A state with a few entries for each part, and some parts with one or none.
fn large() -> Registry {
    let mut world = World::trading();
    for number in 0..300u32 {
        let mut id = [200; 32];
        id[..4].copy_from_slice(&number.to_le_bytes());
        world.admit(NodeId(id), Role::Node);
    }
    world.registry
}

pub(crate) fn carried(registry: &Registry) -> Registry {
    let mut assembly = Assembly::new(registry.root(), registry.state().manifest()).unwrap();
    while let Some(number) = assembly.missing().last() {
        assembly.add(number, &registry.state().part(number).unwrap()).unwrap();
    }
    Registry::from(assembly.finish().unwrap())
}

#[test]
fn a_state_is_carried_whole_with_what_is_derived_from_it() {
    for registry in [Registry::default(), World::founded().registry, large()] {
        let other = carried(&registry);
        assert_eq!(other.root(), registry.root());
        assert_eq!(other.models(), registry.models());
        assert!(other.members().eq(registry.members()));
        assert!(other.all_observations().eq(registry.all_observations()));
        assert_eq!(other.orchestrators(), registry.orchestrators());
        assert_eq!(other.state().manifest(), registry.state().manifest());
    }
}

#[test]
fn a_wrong_manifest_is_refused_by_the_root() {
    let registry = large();
    let manifest = registry.state().manifest();
    assert!(manifest.tops.iter().any(|top| matches!(top, Top::Leaf { .. })), "kinds are mixed");
    assert!(manifest.tops.iter().any(|top| matches!(top, Top::Nothing)));
    let refused = |manifest: Manifest| {
        assert_eq!(Assembly::new(registry.root(), manifest).unwrap_err(), SnapshotError::Manifest);
    };
    refused(Manifest { tops: Vec::new() });
    refused(Manifest { tops: manifest.tops[1..].to_vec() });
    for at in 0..PARTS {
        for other in [Top::Nothing, Top::Leaf { path: [1; 32], value_digest: [2; 32] }, manifest.tops[(at + 1) % PARTS]]
        {
            let mut changed = manifest.clone();
            if std::mem::replace(&mut changed.tops[at], other) != other {
                refused(changed);
            }
        }
    }
    // A single entry, named elsewhere below the same branch: the hashes fold to the same root, and no part would fit.
    let small = World::founded().registry;
    let tops = small.state().manifest().tops;
    let astray = (0..PARTS).step_by(2).find(|at| {
        [tops[*at], tops[at + 1]].iter().filter(|top| matches!(top, Top::Leaf { .. })).count() == 1
            && [tops[*at], tops[at + 1]].contains(&Top::Nothing)
    });
    let at = astray.expect("entries stand alone in a small state");
    let mut swapped = Manifest { tops };
    swapped.tops.swap(at, at + 1);
    assert_eq!(Assembly::new(small.root(), swapped).unwrap_err(), SnapshotError::Manifest);
    // The root itself, named as if it stood alone in one place.
    let mut alone = Manifest { tops: vec![Top::Nothing; PARTS] };
    alone.tops[0] = Top::Branch { left: [0; 32], right: registry.root() };
    refused(alone);
}

#[test]
fn a_part_of_millions_of_nothings_is_refused_before_it_is_held() {
    let registry = large();
    let mut assembly = Assembly::new(registry.root(), registry.state().manifest()).unwrap();
    // A length in seven-bit groups, and so many empty keys with empty values.
    let mut nothings = vec![0x80, 0x80, 0x80, 0x04];
    nothings.resize(4 + (2 << 23), 0);
    assert_eq!(assembly.add(0, &nothings), Err(SnapshotError::Malformed));
    assert_eq!(registry.state().part(PARTS), Err(SnapshotError::Number));
}

#[test]
fn a_wrong_part_is_refused_when_it_comes() {
    let registry = large();
    let state = registry.state();
    let mut assembly = Assembly::new(registry.root(), state.manifest()).unwrap();
    assert_eq!(assembly.add(PARTS, &[0]), Err(SnapshotError::Number));
    for number in 0..PARTS {
        let part = state.part(number).unwrap();
        let other = state.part((number + 1) % PARTS).unwrap();
        if part != other {
            assert_eq!(assembly.add(number, &other), Err(SnapshotError::Part));
        }
        for at in 0..part.len() {
            let mut changed = part.clone();
            changed[at] ^= 1;
            assert!(assembly.add(number, &changed).is_err(), "byte {at} of part {number}");
        }
        assert_eq!(assembly.missing().next(), Some(number));
        assembly.add(number, &part).unwrap();
    }
    assert_eq!(Registry::from(assembly.finish().unwrap()), registry);
}
