//! The same facts give the same root everywhere and always: a long run of one seed, and the root that it must have.

use crate::{
    crowd::{Crowd, done},
    world::World,
};

/// A change of this number is a change of what every pool has agreed on: it needs a new version of the records.
const ROOT: &str = "72ea20b5d21bec5975fd2cf88eeab1ccd6e3bbb02121c41eb488c66eaf0dd4e1";

#[test]
fn a_long_run_has_the_root_that_it_always_had() {
    let (mut crowd, mut registry) = (Crowd::new(1), World::founded().registry);
    for _ in 0..50_000 {
        let operation = crowd.next();
        done(&mut registry, &operation);
    }
    assert_eq!(blake3::Hash::from(registry.root()).to_hex().as_str(), ROOT);
}
