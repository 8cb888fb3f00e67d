//! Who agrees: planned, taken over, betrayed.

use crate::world::*;
use protocol::{
    fault::FaultKind,
    header::{Committee, CommitteeError},
    ids::NodeId,
    limits::{FAULT_EVIDENCE_BYTES_MAX, ORCHESTRATORS_MAX},
};
use registry::{Event, Fact, PoolError, Registry, Rejection, keys};

fn ids(bytes: &[u8]) -> Vec<NodeId> {
    bytes.iter().map(|byte| NodeId([*byte; 32])).collect()
}

fn of(bytes: &[u8]) -> Committee {
    Committee::new(ids(bytes)).unwrap()
}

fn change(add: &[u8], remove: &[u8]) -> Fact {
    Fact::CommitteeChanged { add: ids(add), remove: ids(remove) }
}

fn planned(bytes: &[u8]) -> Result<Vec<Event>, Rejection> {
    Ok(vec![Event::NextCommitteeSet { committee: of(bytes).digest() }])
}

fn refused(error: PoolError) -> Result<Vec<Event>, Rejection> {
    Err(Rejection::Pool(error))
}

/// A pool whose committee has grown to these, one at a time.
fn grown_to(count: u8) -> World {
    let mut world = World::founded();
    for byte in 2..=count {
        world.owner(change(&[byte], &[])).unwrap();
        world.next_epoch();
    }
    assert_eq!(world.registry.orchestrators().len(), usize::from(count));
    world
}

#[test]
fn a_planned_committee_takes_over_with_the_next_epoch() {
    let mut world = World::founded();
    assert_eq!(world.owner(change(&[2], &[])), planned(&[1, 2]));
    assert_eq!(world.owner(change(&[2], &[])), Ok(Vec::new()), "it is planned already");
    assert_eq!(world.registry.orchestrators(), ids(&[1]));
    assert_eq!(world.registry.state().next_committee(), Some(of(&[1, 2])));
    assert_eq!(world.pass(1), []);
    assert_eq!(world.says(NodeId([2; 32]).into(), Fact::ModelAdded(model(1))), Err(Rejection::UnknownMember));
    let events = world.next_epoch();
    assert_eq!(events, [Event::CommitteeChanged { epoch: 1, committee: of(&[1, 2]).digest() }]);
    assert_eq!(world.registry.orchestrators(), ids(&[1, 2]));
    assert_eq!(world.registry.state().next_committee(), Some(of(&[1, 2])));
    world.says(NodeId([2; 32]).into(), Fact::ModelAdded(model(1))).unwrap();
    assert_eq!(world.next_epoch(), [], "nothing was planned");
}

#[test]
fn a_plan_can_be_changed_and_taken_back() {
    let mut world = World::founded();
    world.owner(change(&[2], &[])).unwrap();
    assert_eq!(world.owner(change(&[3], &[2])), planned(&[1, 3]));
    assert_eq!(world.owner(change(&[], &[3])), planned(&[1]), "the present one stays");
    assert_eq!(world.registry.state().read(&keys::next_committee()), None);
    assert_eq!(world.next_epoch(), []);
    assert_eq!(world.registry.state().committee_of(0), Some(of(&[1])));
}

#[test]
fn those_who_stay_are_a_quorum_of_both_committees() {
    let mut world = grown_to(7);
    let too_many = || refused(PoolError::TooManyChanges { max: 2 });
    for (add, remove) in [(&[8, 9, 10][..], &[][..]), (&[], &[1, 2, 3]), (&[8, 9], &[1]), (&[8], &[1, 2])] {
        assert_eq!(world.owner(change(add, remove)), too_many());
    }
    for (add, remove) in [(&[8, 9][..], &[][..]), (&[], &[1, 2]), (&[8], &[1])] {
        let mut world = world.clone();
        world.owner(change(add, remove)).unwrap();
        let (present, next) = (of(&[1, 2, 3, 4, 5, 6, 7]), world.registry.state().next_committee().unwrap());
        let stay = next.members().iter().filter(|member| present.contains(**member)).count();
        assert!(stay >= present.quorum() && stay >= next.quorum(), "+{add:?} -{remove:?}");
    }
    // What is counted is how far the plan is from the present, not how it came about.
    world.owner(change(&[8], &[])).unwrap();
    world.owner(change(&[9], &[8])).unwrap();
    world.owner(change(&[8], &[])).unwrap();
    assert_eq!(world.owner(change(&[10], &[])), too_many());
}

#[test]
fn the_rule_leaves_a_quorum_whatever_the_size() {
    for size in 4..=ORCHESTRATORS_MAX {
        let present = Committee::new((0..size).map(|byte| NodeId([byte as u8; 32])).collect()).unwrap();
        for removed in 0..=present.faults() {
            for added in 0..=present.faults() - removed {
                let stay = size - removed;
                let next = stay + added;
                let quorum = next - (next - 1) / 3;
                assert!(stay >= quorum && stay >= present.quorum(), "{size} -{removed} +{added}");
            }
        }
    }
}

#[test]
fn a_committee_has_one_to_sixteen_members() {
    let mut world = World::founded();
    let none = refused(PoolError::Committee(CommitteeError::Empty));
    assert_eq!(world.owner(change(&[], &[1])), none);
    assert_eq!(world.owner(change(&[2, 3], &[])), refused(PoolError::TooManyChanges { max: 1 }));
    assert_eq!(world.owner(change(&[2, 2], &[])), refused(PoolError::Committee(CommitteeError::Repeated)));
    assert_eq!(world.owner(change(&[2], &[2])), refused(PoolError::BothWays));
    let mut world = grown_to(ORCHESTRATORS_MAX as u8);
    assert_eq!(world.owner(change(&[99], &[])), refused(PoolError::Committee(CommitteeError::TooMany)));
    world.owner(change(&[99], &[16])).unwrap();
}

#[test]
fn a_fault_is_noted_once_of_who_was_there() {
    let mut world = grown_to(3);
    let kind = FaultKind::ConflictingFinalize;
    let fault = |member: u8, epoch, evidence: Vec<u8>| {
        let member = NodeId([member; 32]);
        Fact::Fault { member, epoch, view: 9, kind, evidence }
    };
    // Epochs: 0 was {1}, 1 was {1, 2}, 2 is {1, 2, 3}.
    let not_there = || refused(PoolError::NotInCommittee);
    for (member, epoch) in [(9, 2), (3, 1), (1, 3), (1, 0), (1, u64::MAX)] {
        assert_eq!(world.orchestrator(fault(member, epoch, vec![1])), not_there(), "{member} in {epoch}");
    }
    for evidence in [Vec::new(), vec![0; FAULT_EVIDENCE_BYTES_MAX + 1]] {
        assert_eq!(world.orchestrator(fault(2, 1, evidence)), refused(PoolError::Evidence));
    }
    let member = NodeId([2; 32]);
    for epoch in [1, 2] {
        let events = world.orchestrator(fault(2, epoch, vec![1, 2, 3])).unwrap();
        assert_eq!(events, [Event::Faulted { member, epoch, kind }]);
    }
    assert_eq!(world.orchestrator(fault(2, 1, vec![4])), Ok(Vec::new()), "once for each epoch and kind");
    let noted: Vec<_> = world.registry.faults().copied().collect();
    assert_eq!(noted.iter().map(|fault| fault.epoch).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(noted[0].evidence, *blake3::hash(&[1, 2, 3]).as_bytes());
    let key = keys::fault(member, 1, kind);
    let proof = world.registry.prove(&key);
    assert_eq!(key.check(&proof, &world.registry.root()), Ok(Some(noted[0])));
    assert_eq!(Registry::from(world.registry.state().clone()).faults().count(), 2);
    assert_eq!(world.registry.state().read(&keys::counts()).unwrap().faults, 2);
}
