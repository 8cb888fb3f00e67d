//! Proofs from the agreed state: any bytes are a proof or an error, and what one shows under a root is true.
#![no_main]

use fuzz::round_trip;
use libfuzzer_sys::fuzz_target;
use protocol::{
    limits::PROOF_BYTES_MAX,
    proof::{Finding, Proof},
};
use registry::Tree;
use std::sync::LazyLock;

static TREE: LazyLock<Tree> = LazyLock::new(|| {
    let mut tree = Tree::default();
    for number in 0..64u8 {
        tree.insert(&[number], &[number; 3]);
    }
    tree
});

fuzz_target!(|bytes: &[u8]| {
    let Ok(proof) = Proof::decode(bytes) else { return };
    round_trip::<Proof>(bytes, PROOF_BYTES_MAX);
    let root = TREE.root();
    for number in 0..128u8 {
        match proof.check(&root, &[number]) {
            Ok(Finding::Present(value)) => assert_eq!(TREE.get(&[number]), Some(value), "proven, but not so"),
            Ok(Finding::Absent) => assert_eq!(TREE.get(&[number]), None, "proven absent, but there"),
            Err(_) => {}
        }
    }
});
