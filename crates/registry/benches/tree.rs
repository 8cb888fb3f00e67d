//! What the tree of a large pool costs, on one core: `cargo bench -p registry`.
//!
//! 100,000 entries of 150 bytes, as members are. Prints one line of JSON; times are means of the wall clock, in
//! nanoseconds. `update` is one entry of a tree that nobody shares; `block` is one of 256 entries changed in a fork, with
//! the root computed once at the end, as a block of facts does.
#![expect(clippy::unwrap_used, reason = "a benchmark may end with what went wrong")]

use protocol::{ids::NodeId, proof::Finding};
use registry::Tree;
use std::{hint::black_box, time::Instant};

const ENTRIES: u32 = 100_000;
const VALUE_BYTES: usize = 150;
const ROUNDS: u32 = 20_000;

fn key(number: u32) -> Vec<u8> {
    let mut id = NodeId([7; 32]);
    id.0[..4].copy_from_slice(&number.to_le_bytes());
    registry::keys::member(id).as_bytes().to_vec()
}

/// Mean of `rounds`, in nanoseconds.
fn mean(rounds: u32, mut run: impl FnMut(u32)) -> u128 {
    let start = Instant::now();
    (0..rounds).for_each(&mut run);
    start.elapsed().as_nanos() / u128::from(rounds)
}

fn main() {
    let mut tree = Tree::default();
    let build = mean(ENTRIES, |number| tree.insert(&key(number), &[1; VALUE_BYTES]));
    let first_root = mean(1, |_| {
        black_box(tree.root());
    });
    let keys: Vec<_> = (0..ROUNDS).map(|round| key(round.wrapping_mul(7_919) % ENTRIES)).collect();

    let get = mean(ROUNDS, |round| {
        black_box(tree.get(&keys[round as usize]));
    });
    let update = mean(ROUNDS, |round| tree.insert(&keys[round as usize], &round.to_le_bytes().repeat(37)));
    let update_and_root = mean(ROUNDS, |round| {
        tree.insert(&keys[round as usize], &[2; VALUE_BYTES]);
        black_box(tree.root());
    });
    let block = mean(ROUNDS / 256, |round| {
        let mut fork = tree.clone();
        for number in 0..256 {
            fork.insert(&keys[((round * 256 + number) % ROUNDS) as usize], &[3; VALUE_BYTES]);
        }
        black_box(fork.root());
        tree = fork;
    }) / 256;
    let root = tree.root();
    let prove = mean(ROUNDS, |round| drop(black_box(tree.prove(&keys[round as usize]))));
    let proofs: Vec<_> = keys.iter().map(|key| tree.prove(key).encode().unwrap()).collect();
    let verify = mean(ROUNDS, |round| {
        let proof = protocol::proof::Proof::decode(&proofs[round as usize]).unwrap();
        assert!(matches!(proof.check(&root, &keys[round as usize]), Ok(Finding::Present(_))));
    });
    let absent = tree.prove(&key(ENTRIES)).encode().unwrap();
    let proof_bytes = proofs.iter().map(Vec::len).sum::<usize>() / proofs.len();
    println!(
        "{{\"entries\":{ENTRIES},\"build_ns\":{build},\"first_root_ns\":{first_root},\"get_ns\":{get},\
         \"update_ns\":{update},\"update_and_root_ns\":{update_and_root},\"block_of_256_per_update_ns\":{block},\
         \"prove_ns\":{prove},\"decode_and_verify_ns\":{verify},\"proof_bytes\":{proof_bytes},\
         \"absence_proof_bytes\":{}}}",
        absent.len()
    );
}
