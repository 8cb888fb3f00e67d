//! A million operations, honest and hostile, on one pool: money adds up, nothing counts twice, and a state that was
//! carried in parts goes on like the one it was carried from. One run of one seed.

use crate::{
    books::Books,
    crowd::{Crowd, Operation, done},
    snapshot::carried,
    world::World,
};
use protocol::{ids::NodeId, link::Role};
use registry::{Fact, Tree};

const OPERATIONS: u64 = 1_000_000;
const CHECKED_EVERY: u64 = 10_000;

#[test]
fn a_million_operations_leave_every_credit_in_its_place() {
    let mut crowd = Crowd::new(0x5eed);
    let (mut registry, mut books) = (World::founded().registry, Books::default());
    let mut follower = None;
    let (mut done_well, mut blocks) = (0u64, 0u64);
    for number in 0..OPERATIONS {
        let operation = crowd.next();
        let before = registry.state().clone();
        let events = done(&mut registry, &operation);
        match &events {
            Some(events) => events.iter().for_each(|event| books.note(event)),
            None => assert_eq!(registry.state(), &before, "what is rejected changes nothing"),
        }
        done_well += u64::from(events.is_some());
        blocks += u64::from(matches!(operation, Operation::Block(_)));
        if let Operation::Bundle(signed) = &operation
            && events.is_some()
            && number % 16 == 0
        {
            let agreed = registry.root();
            assert!(done(&mut registry, &Operation::Bundle(signed.clone())).is_none(), "a bundle counts once");
            assert_eq!(registry.root(), agreed);
        }
        if let Some(follower) = &mut follower {
            assert_eq!(done(follower, &operation), events);
        }
        if number == OPERATIONS * 9 / 10 {
            follower = Some(carried(&registry));
        }
        if number % CHECKED_EVERY == 0 {
            books.check(&registry);
        }
    }
    books.check(&registry);
    // It was a test of something: much was done, and much refused.
    assert!(done_well > OPERATIONS / 5 && done_well < OPERATIONS * 9 / 10, "{done_well}");
    assert!(books.settlements > OPERATIONS / 200, "{}", books.settlements);
    assert_eq!(follower.unwrap(), registry, "a snapshot and the log after it are the state");
    let backwards: Vec<_> = registry.state().entries().collect::<Vec<_>>().into_iter().rev().collect();
    assert_eq!(backwards.into_iter().collect::<Tree>().root(), registry.root(), "in whatever order it came to be");
    assert!(books.refused_lines > 100 && books.committees > 10, "{} {}", books.refused_lines, books.committees);
    assert!(registry.faults().count() > 10);
    println!("{done_well} of {OPERATIONS} done, {blocks} blocks, {} settlements", books.settlements);
}

#[test]
fn who_joins_first_does_not_matter_to_the_root() {
    let joined = |order: [u8; 3]| {
        let mut world = World::founded();
        for byte in order {
            let fact = Fact::MemberAdmitted { node: NodeId([byte; 32]), role: Role::Node, at_unix_ms: 1 };
            world.registry.apply(fact).unwrap();
        }
        world.registry.root()
    };
    assert_eq!(joined([1, 2, 3]), joined([3, 1, 2]));
}
