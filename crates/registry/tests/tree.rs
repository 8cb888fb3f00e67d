//! The tree against a map of the standard library, and its proofs against whoever changes them.

use proptest::prelude::*;
use protocol::proof::{Finding, Proof};
use registry::Tree;
use std::collections::BTreeMap;

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

fn key() -> impl Strategy<Value = Vec<u8>> {
    // Few enough that they meet.
    (0u8..24).prop_map(|byte| vec![byte])
}

fn operations() -> impl Strategy<Value = Vec<(Vec<u8>, Option<u8>)>> {
    proptest::collection::vec((key(), proptest::option::weighted(0.6, any::<u8>())), 0..120)
}

fn applied(operations: &[(Vec<u8>, Option<u8>)], tree: &mut Tree, model: &mut Model) {
    for (key, value) in operations {
        match value {
            Some(value) => {
                tree.insert(key, &[*value]);
                model.insert(key.clone(), vec![*value]);
            }
            None => assert_eq!(tree.remove(key), model.remove(key).is_some()),
        }
    }
}

fn built<'a>(entries: impl Iterator<Item = (&'a Vec<u8>, &'a Vec<u8>)>) -> Tree {
    entries.map(|(key, value)| (key.as_slice(), value.as_slice())).collect()
}

fn large() -> Tree {
    let mut tree = Tree::default();
    for number in 0..3_000u32 {
        tree.insert(&number.to_le_bytes(), &number.to_be_bytes().repeat(4));
    }
    tree
}

proptest! {
    #[test]
    fn it_is_a_map_whose_root_depends_on_the_entries_only(operations in operations(), seed in any::<u64>()) {
        let (mut tree, mut model) = (Tree::default(), Model::new());
        applied(&operations, &mut tree, &mut model);
        prop_assert_eq!(tree.len(), model.len());
        for byte in 0..24u8 {
            prop_assert_eq!(tree.get(&[byte]), model.get(&vec![byte]).map(Vec::as_slice));
        }
        let listed: Model = tree.iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
        prop_assert_eq!(&listed, &model);
        // Forwards, backwards, and in an order that the seed picks: the same root, without any removal.
        let mut shuffled: Vec<_> = model.iter().collect();
        shuffled.sort_by_key(|(key, _)| blake3::hash(&[key.as_slice(), &seed.to_le_bytes()].concat()).to_hex());
        for other in [built(model.iter()), built(model.iter().rev()), built(shuffled.into_iter())] {
            prop_assert_eq!(other.root(), tree.root());
        }
    }

    #[test]
    fn a_fork_is_on_its_own(first in operations(), left in operations(), right in operations()) {
        let (mut tree, mut model) = (Tree::default(), Model::new());
        applied(&first, &mut tree, &mut model);
        let (before, kept) = (tree.clone(), tree.root());
        let (mut fork, mut fork_model) = (tree.clone(), model.clone());
        applied(&left, &mut tree, &mut model);
        applied(&right, &mut fork, &mut fork_model);
        prop_assert_eq!(tree.root(), built(model.iter()).root());
        prop_assert_eq!(fork.root(), built(fork_model.iter()).root());
        prop_assert_eq!(before.root(), kept);
        prop_assert_eq!(tree == fork, model == fork_model);
    }

    #[test]
    fn everything_is_proven_present_or_absent(operations in operations()) {
        let (mut tree, mut model) = (Tree::default(), Model::new());
        applied(&operations, &mut tree, &mut model);
        for byte in 0..30u8 {
            let proof = Proof::decode(&tree.prove(&[byte]).encode().unwrap()).unwrap();
            let finding = model.get(&vec![byte]).map_or(Finding::Absent, |value| Finding::Present(value));
            prop_assert_eq!(proof.check(&tree.root(), &[byte]), Ok(finding));
        }
    }

    #[test]
    fn any_bytes_are_a_proof_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        if let Ok(proof) = Proof::decode(&bytes) {
            prop_assert!(proof.check(&[7; 32], b"key").is_err());
        }
    }
}

#[test]
fn a_proof_with_any_bit_flipped_is_refused() {
    let tree = large();
    let root = tree.root();
    // Present, and absent in both ways.
    let absent = (3_000..4_000u32).map(|number| number.to_le_bytes());
    for key in [7u32.to_le_bytes()].into_iter().chain(absent.take(4)) {
        let bytes = tree.prove(&key).encode().unwrap();
        assert!(Proof::decode(&bytes).unwrap().check(&root, &key).is_ok());
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[at] ^= 1 << bit;
                let accepted = Proof::decode(&changed).is_ok_and(|proof| proof.check(&root, &key).is_ok());
                assert!(!accepted, "bit {bit} of byte {at}");
            }
        }
    }
}

#[test]
fn a_proof_of_an_old_root_is_refused_under_a_new_one() {
    let mut tree = large();
    let key = 7u32.to_le_bytes();
    let (old, proof) = (tree.root(), tree.prove(&key));
    assert!(tree.remove(&key));
    assert!(proof.check(&old, &key).is_ok());
    assert!(proof.check(&tree.root(), &key).is_err());
    assert_eq!(tree.prove(&key).check(&tree.root(), &key), Ok(Finding::Absent));
    assert!(tree.prove(&key).check(&old, &key).is_err());
}
