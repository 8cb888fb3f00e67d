//! Proofs that something stands, or does not stand, in a pool's agreed state: how the state is hashed, and how a proof is
//! checked by whoever knows nothing but the root.
//!
//! The state is a map from keys to values, kept as a binary trie. The place of an entry is the hash of its key ([`path`]),
//! read bit by bit from the root. A subtree with a single entry *is* that entry (a leaf), a subtree with none is
//! [`EMPTY`], every other is a branch. So the root is a function of the set of entries, in whatever order they came.
//!
//! | what | hash |
//! |---|---|
//! | path of a key | BLAKE3, keyed "path", of the key |
//! | leaf | BLAKE3, keyed "leaf", of path ‖ BLAKE3(value) |
//! | branch | BLAKE3, keyed "branch", of left ‖ right |
//! | nothing | 32 zero bytes |
//!
//! The three keys keep a hash of one kind from being taken for another; inputs of leaves and branches have 64 bytes,
//! which BLAKE3 hashes in one step.
//!
//! ```
//! use protocol::proof::{self, End, Finding, Proof};
//!
//! let root = proof::leaf(&proof::path(b"name"), &proof::value_digest(b"value"));
//! let proof = Proof { siblings: Vec::new(), end: End::Own(b"value".to_vec()) };
//! assert_eq!(proof.check(&root, b"name"), Ok(Finding::Present(b"value")));
//!
//! let other = End::Other { path: proof::path(b"name"), value_digest: proof::value_digest(b"value") };
//! let proof = Proof { siblings: Vec::new(), end: other };
//! assert_eq!(proof.check(&root, b"another name"), Ok(Finding::Absent));
//! assert!(proof.check(&root, b"name").is_err(), "it proves nothing about what is there");
//! ```

use crate::{
    codec::{self, CodecError},
    limits,
};
use serde::{Deserialize, Serialize};

/// A BLAKE3 hash: a root, a path, a leaf or a branch.
pub type Digest = [u8; 32];

/// The hash of a subtree without entries. No preimage of it is known, so nothing else has it.
pub const EMPTY: Digest = [0; 32];
/// Bits of a path, and so the depth of the deepest tree.
pub const DEPTH_MAX: usize = 256;

const PATH: &[u8; 32] = b"darkbloom/tree/1/path...........";
const LEAF: &[u8; 32] = b"darkbloom/tree/1/leaf...........";
const BRANCH: &[u8; 32] = b"darkbloom/tree/1/branch.........";

/// Where the entry of a key stands. Hashed, so that nobody can choose names that make the tree deep.
pub fn path(key: &[u8]) -> Digest {
    *blake3::keyed_hash(PATH, key).as_bytes()
}

/// The hash of a value.
pub fn value_digest(value: &[u8]) -> Digest {
    *blake3::hash(value).as_bytes()
}

/// The hash of an entry.
pub fn leaf(path: &Digest, value_digest: &Digest) -> Digest {
    pair(LEAF, path, value_digest)
}

/// The hash of two subtrees.
pub fn branch(left: &Digest, right: &Digest) -> Digest {
    pair(BRANCH, left, right)
}

fn pair(key: &[u8; 32], left: &Digest, right: &Digest) -> Digest {
    let mut bytes = [0; 64];
    bytes[..32].copy_from_slice(left);
    bytes[32..].copy_from_slice(right);
    *blake3::keyed_hash(key, &bytes).as_bytes()
}

/// The bit of a path that decides at this depth, below [`DEPTH_MAX`]: whether it goes right.
pub fn goes_right(path: &Digest, depth: usize) -> bool {
    path[depth / 8] >> (7 - depth % 8) & 1 == 1
}

/// Bits that two paths share from the root on.
pub fn shared_bits(one: &Digest, other: &Digest) -> usize {
    let differing = one.iter().zip(other).position(|(one, other)| one != other);
    differing.map_or(DEPTH_MAX, |at| at * 8 + (one[at] ^ other[at]).leading_zeros() as usize)
}

/// What a tree says about one key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// Hashes beside the way to the place of the key, from the root on.
    pub siblings: Vec<Digest>,
    /// What is at that place.
    pub end: End,
}

/// What is where the way to a key ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    /// The key's own entry, with this value.
    Own(Vec<u8>),
    /// The single entry of a subtree in which the key would be.
    Other {
        /// Its place.
        path: Digest,
        /// The hash of its value.
        value_digest: Digest,
    },
    /// Nothing.
    Nothing,
}

/// What a proof proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding<'a> {
    /// The key has this value.
    Present(&'a [u8]),
    /// The key has no value.
    Absent,
}

/// A proof that proves nothing about this key under this root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProofError {
    /// A way longer than any path.
    #[error("the proof is deeper than a tree can be")]
    TooDeep,
    /// The entry that it shows instead of the key's is the key's, or stands elsewhere.
    #[error("the proof ends at an entry that says nothing about the key")]
    Elsewhere,
    /// It is of another tree, or changed.
    #[error("the proof does not lead to the root")]
    Root,
}

impl Proof {
    /// What it proves about `key` to one who trusts `root`.
    pub fn check(&self, root: &Digest, key: &[u8]) -> Result<Finding<'_>, ProofError> {
        if self.siblings.len() > DEPTH_MAX {
            return Err(ProofError::TooDeep);
        }
        let own = path(key);
        let (end, finding) = match &self.end {
            End::Own(value) => (leaf(&own, &value_digest(value)), Finding::Present(value)),
            End::Nothing => (EMPTY, Finding::Absent),
            End::Other { path, value_digest } => {
                // An entry that is not on the key's way says nothing about it; the key's own entry says it is there.
                let shared = shared_bits(path, &own);
                if shared < self.siblings.len() || shared == DEPTH_MAX {
                    return Err(ProofError::Elsewhere);
                }
                (leaf(path, value_digest), Finding::Absent)
            }
        };
        let found = self.siblings.iter().enumerate().rfold(end, |hash, (depth, sibling)| {
            if goes_right(&own, depth) { branch(sibling, &hash) } else { branch(&hash, sibling) }
        });
        if found == *root { Ok(finding) } else { Err(ProofError::Root) }
    }

    /// The form in which proofs travel.
    pub fn encode(&self) -> Result<Vec<u8>, CodecError> {
        codec::encode(self, limits::PROOF_BYTES_MAX)
    }

    /// Reads a proof.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode(bytes, limits::PROOF_BYTES_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two entries whose paths part at the first bit: the tree is one branch.
    fn pair_of_keys() -> ([u8; 1], [u8; 1]) {
        let side = |right| (0..=255u8).find(|byte| goes_right(&path(&[*byte]), 0) == right).unwrap();
        ([side(false)], [side(true)])
    }

    #[test]
    fn a_proof_holds_for_its_key_root_and_value_only() {
        let (left, right) = pair_of_keys();
        let hash = |key: &[u8]| leaf(&path(key), &value_digest(b"v"));
        let root = branch(&hash(&left), &hash(&right));
        let proof = Proof { siblings: vec![hash(&right)], end: End::Own(b"v".to_vec()) };
        assert_eq!(proof.check(&root, &left), Ok(Finding::Present(b"v")));
        assert_eq!(proof.check(&root, &right), Err(ProofError::Root));
        assert_eq!(proof.check(&EMPTY, &left), Err(ProofError::Root));
        let other = Proof { end: End::Own(b"w".to_vec()), ..proof.clone() };
        assert_eq!(other.check(&root, &left), Err(ProofError::Root));
        assert_eq!(Proof { end: End::Nothing, ..proof }.check(&root, &left), Err(ProofError::Root));
        let none = Proof { siblings: Vec::new(), end: End::Nothing };
        assert_eq!(none.check(&EMPTY, &left), Ok(Finding::Absent));
    }

    #[test]
    fn hostile_proofs_are_refused() {
        let (left, right) = pair_of_keys();
        let hash = |key: &[u8]| leaf(&path(key), &value_digest(b"v"));
        let root = branch(&hash(&left), &hash(&right));
        let shows = |key: &[u8]| End::Other { path: path(key), value_digest: value_digest(b"v") };
        // "The entry on the other side stands where yours would be."
        let elsewhere = Proof { siblings: vec![hash(&left)], end: shows(&right) };
        assert_eq!(elsewhere.check(&root, &left), Err(ProofError::Elsewhere));
        // "Your own entry is another's."
        let itself = Proof { siblings: vec![hash(&right)], end: shows(&left) };
        assert_eq!(itself.check(&root, &left), Err(ProofError::Elsewhere));
        // A branch taken for a leaf: its two halves are no path and value.
        let inner = Proof { siblings: Vec::new(), end: End::Other { path: hash(&left), value_digest: hash(&right) } };
        assert_eq!(inner.check(&root, &left), Err(ProofError::Root));
        let deep = Proof { siblings: vec![EMPTY; DEPTH_MAX + 1], end: End::Nothing };
        assert_eq!(deep.check(&root, &left), Err(ProofError::TooDeep));
        assert!(Proof::decode(&vec![0xff; limits::PROOF_BYTES_MAX]).is_err());
        assert!(Proof::decode(&vec![0; limits::PROOF_BYTES_MAX + 1]).is_err());
    }

    #[test]
    fn bits_are_counted_from_the_root() {
        let mut one = [0; 32];
        one[1] = 0b0010_0000;
        assert!(goes_right(&one, 10) && !goes_right(&one, 9));
        assert_eq!(shared_bits(&one, &[0; 32]), 10);
        assert_eq!(shared_bits(&one, &one), DEPTH_MAX);
    }
}
