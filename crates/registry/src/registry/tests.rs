//! What facts of today do, in a pool of one orchestrator.

use super::*;
use crate::{Genesis, GenesisError, ModelError};
use protocol::{header::CommitteeError, ids::ModelDigest, limits, link::Role};

const NODE: NodeId = NodeId([9; 32]);

fn genesis() -> Genesis {
    Genesis::new(vec![NodeId([1; 32])], &[7; 32], 5)
}

fn founded() -> Registry {
    let mut registry = Registry::default();
    registry.apply(Fact::Genesis(genesis())).unwrap();
    registry
}

fn model(name: &str, aliases: &[&str], byte: u8) -> ModelEntry {
    ModelEntry {
        name: name.to_owned(),
        aliases: aliases.iter().map(|&alias| alias.to_owned()).collect(),
        digest: ModelDigest([byte; 32]),
        bytes: 1,
        licence: "MIT".to_owned(),
        created_unix_s: 1,
    }
}

fn name_of<'a>(registry: &'a Registry, name: &str) -> Option<&'a str> {
    registry.model(&ModelRef::Name(name.to_owned())).map(|entry| entry.name.as_str())
}

#[test]
fn a_pool_is_named_by_its_genesis_and_founded_once() {
    let mut registry = Registry::default();
    let admitted = Fact::MemberAdmitted { node: NODE, role: Role::Node, at_unix_ms: 1 };
    assert_eq!(registry.apply(admitted), Err(Rejection::NotFounded));
    assert!(!registry.admits(&[7; 32]));
    let mut registry = founded();
    assert_eq!(registry.pool(), Some(genesis().pool().unwrap()));
    assert_eq!(registry.apply(Fact::Genesis(genesis())), Ok(Vec::new()));
    let other = Genesis { created_unix_ms: 6, ..genesis() };
    assert_ne!(other.pool(), genesis().pool());
    assert_eq!(registry.apply(Fact::Genesis(other)), Err(Rejection::FoundedDifferently));
    assert!(registry.admits(&[7; 32]) && !registry.admits(&[8; 32]));
}

#[test]
fn a_genesis_names_each_orchestrator_once() {
    let with = |orchestrators| Genesis { orchestrators, ..genesis() }.pool();
    assert_eq!(with(Vec::new()), Err(GenesisError::Committee(CommitteeError::Empty)));
    assert_eq!(with(vec![NODE, NodeId([1; 32]), NODE]), Err(GenesisError::Committee(CommitteeError::Repeated)));
    let many = (0..=limits::ORCHESTRATORS_MAX as u8).map(|byte| NodeId([byte; 32])).collect();
    assert_eq!(with(many), Err(GenesisError::Committee(CommitteeError::TooMany)));
}

#[test]
fn a_removed_member_stays_removed() {
    let mut registry = founded();
    let admitted = |role| Fact::MemberAdmitted { node: NODE, role, at_unix_ms: 1 };
    let removed = Fact::MemberRemoved { node: NODE, at_unix_ms: 2 };
    assert_eq!(registry.apply(removed.clone()), Err(Rejection::UnknownMember));
    let event = Event::MemberAdmitted { node: NODE, role: Role::Node };
    assert_eq!(registry.apply(admitted(Role::Node)), Ok(vec![event]));
    assert_eq!(registry.apply(admitted(Role::Node)), Ok(Vec::new()));
    assert!(registry.member(NODE).unwrap().has_role(Role::Node));
    assert!(!registry.member(NODE).unwrap().has_role(Role::Client));
    assert!(registry.is_member(NODE));
    assert_eq!(registry.apply(removed.clone()), Ok(vec![Event::MemberRemoved { node: NODE }]));
    assert_eq!(registry.apply(removed), Ok(Vec::new()));
    assert_eq!(registry.apply(admitted(Role::Client)), Err(Rejection::Removed));
    assert!(!registry.is_member(NODE) && !registry.member(NODE).unwrap().has_role(Role::Node));
}

#[test]
fn members_are_observed_once_an_epoch_and_others_never() {
    let mut registry = founded();
    let observed = |epoch, memory_mib| Fact::Observed {
        node: NODE,
        epoch,
        observations: Observations { memory_mib, ..Observations::default() },
    };
    assert_eq!(registry.apply(observed(1, 1)), Err(Rejection::UnknownMember));
    registry.apply(Fact::MemberAdmitted { node: NODE, role: Role::Node, at_unix_ms: 1 }).unwrap();
    assert_eq!(registry.apply(observed(5, 1)), Ok(vec![Event::Observed { node: NODE, epoch: 5 }]));
    assert_eq!(registry.apply(observed(5, 1)), Ok(Vec::new()));
    for stale in [observed(5, 2), observed(4, 1)] {
        assert_eq!(registry.apply(stale), Err(Rejection::EpochPassed { epoch: 5 }));
    }
    assert_eq!(registry.apply(observed(6, 2)), Ok(vec![Event::Observed { node: NODE, epoch: 6 }]));
    assert_eq!(registry.observations(NODE).map(|seen| seen.memory_mib), Some(2));
    let mut impossible = Observations::default();
    impossible.network.loss_ppm = 2_000_000;
    let fact = Fact::Observed { node: NODE, epoch: 7, observations: impossible };
    assert!(matches!(registry.apply(fact), Err(Rejection::Observations(_))));
    registry.apply(Fact::MemberRemoved { node: NODE, at_unix_ms: 2 }).unwrap();
    assert_eq!(registry.observations(NODE), None);
    assert_eq!(registry.apply(observed(8, 1)), Err(Rejection::Removed));
}

#[test]
fn names_keep_their_meaning_whoever_comes_later() {
    let mut registry = founded();
    for (entry, name) in [
        (model("Tiny", &["default", "small", "SMALL", "tiny", "", "sp ace"], 1), "Tiny"),
        (model("tiny", &["small", "mini"], 2), "tiny@02020202"),
        (model("MINI", &[], 3), "MINI@03030303"),
        (model("default", &["other"], 4), "default@04040404"),
    ] {
        let digest = entry.digest;
        assert_eq!(registry.apply(Fact::ModelAdded(entry)), Ok(vec![Event::ModelAdded { digest }]));
        assert_eq!(registry.model(&ModelRef::Digest(digest)).unwrap().name, name);
    }
    for (asked, found) in [
        ("default", Some("Tiny")),
        ("DeFault", Some("Tiny")),
        ("small", Some("Tiny")),
        ("tiny", Some("Tiny")),
        ("mini", Some("tiny@02020202")),
        ("Mini@03030303", Some("MINI@03030303")),
        ("other", Some("default@04040404")),
        ("", None),
        ("nobody", None),
    ] {
        assert_eq!(name_of(&registry, asked), found, "{asked}");
    }
    assert_eq!(registry.models()[0].aliases, ["small"]);
    assert_eq!(registry.apply(Fact::ModelAdded(model("again", &[], 1))), Ok(Vec::new()));
    assert_eq!(name_of(&registry, "again"), None);
}

#[test]
fn models_are_bounded() {
    let mut registry = founded();
    let rejected = |error: ModelError| Err(Rejection::Model(error));
    for bad in ["", "sp ace", "ж", "new\nline", &"x".repeat(limits::MODEL_NAME_CHARS_MAX + 1)] {
        assert_eq!(registry.apply(Fact::ModelAdded(model(bad, &[], 1))), rejected(ModelError::Name), "{bad:?}");
    }
    let licence = "x".repeat(limits::LICENCE_BYTES_MAX + 1);
    let long = ModelEntry { licence, ..model("a", &[], 1) };
    assert_eq!(registry.apply(Fact::ModelAdded(long)), rejected(ModelError::Licence));
    let names: Vec<String> = (0..100).map(|number| format!("alias-{number}")).collect();
    let aliases: Vec<&str> = names.iter().map(String::as_str).collect();
    let longest = "x".repeat(limits::MODEL_NAME_CHARS_MAX);
    for number in 0..limits::MODELS_MAX {
        let mut entry = model(&longest, &aliases, 0);
        entry.digest.0[..2].copy_from_slice(&(number as u16).to_be_bytes());
        registry.apply(Fact::ModelAdded(entry)).unwrap();
    }
    assert_eq!(registry.models()[0].aliases.len(), limits::MODEL_ALIASES_MAX);
    assert!(registry.models().iter().all(|entry| entry.name.len() <= limits::MODEL_NAME_CHARS_MAX));
    assert_eq!(registry.apply(Fact::ModelAdded(model("more", &[], 255))), Err(Rejection::ModelsFull));
}
