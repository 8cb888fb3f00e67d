//! A state taken elsewhere, in parts of which each proves itself.
//!
//! The tree is cut below its first [`PART_BITS`] bits. The [`Manifest`] names what stands at each of the 256 places, and
//! folds to the root that one trusts already; a part is the entries below one place. So parts can come from anybody, in any
//! order, and a wrong one is refused when it comes, whoever sent it.
//!
//! ```
//! # use protocol::ids::NodeId;
//! use registry::{Fact, Genesis, Registry, snapshot::{Assembly, PARTS}};
//!
//! let mut registry = Registry::default();
//! registry.apply(Fact::Genesis(Genesis::new(vec![NodeId([1; 32])], &[7; 32], 0)))?;
//!
//! let mut assembly = Assembly::new(registry.root(), registry.state().manifest())?;
//! for number in 0..PARTS {
//!     assembly.add(number, &registry.state().part(number)?)?;
//! }
//! assert_eq!(Registry::from(assembly.finish().expect("nothing is missing")), registry);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crate::{
    keys,
    state::State,
    tree::{self, Link, Tree},
};
use protocol::{
    codec, limits,
    proof::{self, Digest, EMPTY},
};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error as _, SeqAccess, Visitor},
};
use std::fmt;

/// Bits of a path that choose a part.
pub const PART_BITS: usize = 8;
/// Parts of a snapshot.
pub const PARTS: usize = 1 << PART_BITS;

/// What stands at one place of a tree: enough to know its hash, and which kind it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Top {
    /// Nothing.
    Nothing,
    /// A single entry.
    Leaf {
        /// Its path.
        path: Digest,
        /// The hash of its value.
        value_digest: Digest,
    },
    /// Several.
    Branch {
        /// The hash of the left ones.
        left: Digest,
        /// The hash of the right ones.
        right: Digest,
    },
}

impl Top {
    fn of(link: &Link) -> Self {
        match link {
            Link::Empty => Self::Nothing,
            Link::Leaf(leaf) => Self::Leaf { path: leaf.path, value_digest: proof::value_digest(&leaf.value) },
            Link::Branch(branch) => {
                let [left, right] = &branch.children;
                Self::Branch { left: left.hash(), right: right.hash() }
            }
        }
    }

    fn hash(&self) -> Digest {
        match self {
            Self::Nothing => EMPTY,
            Self::Leaf { path, value_digest } => proof::leaf(path, value_digest),
            Self::Branch { left, right } => proof::branch(left, right),
        }
    }
}

/// What stands at each of the places of a state. About 16 kB.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`PARTS`] of them.
    pub tops: Vec<Top>,
}

/// Entries of one part: twice as many as an even share of the largest state has. An entry of nothing takes two bytes to
/// send and much more to hold, so bytes alone bound nothing.
const PART_ENTRIES_MAX: usize = 1 << 17;

/// A key and its value.
type Entry = (Vec<u8>, Vec<u8>);

/// The entries of one part.
#[derive(Serialize, Deserialize)]
struct Part(#[serde(deserialize_with = "at_most")] Vec<Entry>);

fn at_most<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Entry>, D::Error> {
    struct Entries;

    impl<'de> Visitor<'de> for Entries {
        type Value = Vec<Entry>;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(formatter, "at most {PART_ENTRIES_MAX} entries")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Self::Value, A::Error> {
            let mut entries = Vec::new();
            while let Some(entry) = sequence.next_element()? {
                if entries.len() >= PART_ENTRIES_MAX {
                    return Err(A::Error::invalid_length(entries.len() + 1, &self));
                }
                entries.push(entry);
            }
            Ok(entries)
        }
    }

    deserializer.deserialize_seq(Entries)
}

/// Why something is no part of a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The manifest is not that of the root.
    #[error("the manifest does not lead to the root")]
    Manifest,
    /// There is no such part.
    #[error("a snapshot has {PARTS} parts")]
    Number,
    /// The state has more below one place than a part may hold.
    #[error("the part is longer than {} bytes", limits::SNAPSHOT_PART_BYTES_MAX)]
    TooLong,
    /// Too long, or not a list of entries.
    #[error("the part cannot be read")]
    Malformed,
    /// Not the entries that the manifest names.
    #[error("the part does not have what the manifest says")]
    Part,
    /// What is in it is agreed on, but of a later version of this program.
    #[error("the state has records that this program does not know: install a newer version")]
    Form,
}

impl State {
    /// What stands at each of the places of this state.
    pub fn manifest(&self) -> Manifest {
        Manifest { tops: (0..PARTS).map(|number| Top::of(&place(self.tree.top(), number))).collect() }
    }

    /// The entries below one place, encoded.
    pub fn part(&self, number: usize) -> Result<Vec<u8>, SnapshotError> {
        if number >= PARTS {
            return Err(SnapshotError::Number);
        }
        let top = place(self.tree.top(), number);
        let entries: Vec<_> = tree::leaves(&top).map(|leaf| (leaf.key.to_vec(), leaf.value.to_vec())).collect();
        if entries.len() > PART_ENTRIES_MAX {
            return Err(SnapshotError::TooLong);
        }
        codec::encode(&Part(entries), limits::SNAPSHOT_PART_BYTES_MAX).map_err(|_| SnapshotError::TooLong)
    }
}

/// What is below the place with this number. A single entry that stands higher is below the place that its path leads to.
fn place(top: &Link, number: usize) -> Link {
    let mut link = top;
    for depth in 0..PART_BITS {
        match link {
            Link::Branch(branch) => link = &branch.children[number >> (PART_BITS - 1 - depth) & 1],
            Link::Leaf(leaf) if usize::from(leaf.path[0]) != number => return Link::Empty,
            Link::Leaf(_) | Link::Empty => break,
        }
    }
    link.clone()
}

/// A state that is being put together.
#[derive(Debug)]
pub struct Assembly {
    manifest: Manifest,
    parts: Vec<Option<Tree>>,
}

impl Assembly {
    /// Begins with a root that one trusts, and anybody's manifest.
    pub fn new(root: Digest, manifest: Manifest) -> Result<Self, SnapshotError> {
        if manifest.tops.len() != PARTS {
            return Err(SnapshotError::Manifest);
        }
        // A single entry keeps its hash wherever below its root it is named: it stands where its path leads.
        let is_astray =
            |(number, top): (usize, &Top)| matches!(top, Top::Leaf { path, .. } if usize::from(path[0]) != number);
        if manifest.tops.iter().enumerate().any(is_astray) {
            return Err(SnapshotError::Manifest);
        }
        // Two subtrees at a time, up to the root. A single entry keeps its hash on the way up, everything else does not.
        let mut level: Vec<(bool, Digest)> =
            manifest.tops.iter().map(|top| (matches!(top, Top::Leaf { .. }), top.hash())).collect();
        while level.len() > 1 {
            level = level.chunks(2).map(|pair| joined(pair[0], pair[1])).collect();
        }
        if level[0].1 != root {
            return Err(SnapshotError::Manifest);
        }
        Ok(Self { manifest, parts: (0..PARTS).map(|_| None).collect() })
    }

    /// Numbers of parts that are missing.
    pub fn missing(&self) -> impl Iterator<Item = usize> {
        self.parts.iter().enumerate().filter(|(_, part)| part.is_none()).map(|(number, _)| number)
    }

    /// Adds a part. Refused where it is not exactly what the manifest names.
    pub fn add(&mut self, number: usize, bytes: &[u8]) -> Result<(), SnapshotError> {
        let top = self.manifest.tops.get(number).ok_or(SnapshotError::Number)?;
        let part: Part = codec::decode(bytes, limits::SNAPSHOT_PART_BYTES_MAX).map_err(|_| SnapshotError::Malformed)?;
        let mut link = Link::Empty;
        for (key, value) in &part.0 {
            let leaf = tree::Leaf::new(proof::path(key), key, value);
            // Below its place only, and each entry once: the one form of a part.
            if usize::from(leaf.path[0]) != number || !link.insert(PART_BITS, leaf) {
                return Err(SnapshotError::Part);
            }
        }
        if Top::of(&link) != *top {
            return Err(SnapshotError::Part);
        }
        if !part.0.iter().all(|(key, value)| keys::is_valid(key, value)) {
            return Err(SnapshotError::Form);
        }
        self.parts[number] = Some(Tree::of(link));
        Ok(())
    }

    /// The state, once no part is missing.
    pub fn finish(self) -> Option<State> {
        let mut level: Vec<Link> =
            self.parts.into_iter().map(|part| part.map(|tree| tree.top().clone())).collect::<Option<_>>()?;
        while level.len() > 1 {
            let mut links = level.into_iter();
            level = std::iter::from_fn(|| Some(Link::joined([links.next()?, links.next()?]))).collect();
        }
        Some(State { tree: Tree::of(level.pop().unwrap_or_default()) })
    }
}

fn joined(left: (bool, Digest), right: (bool, Digest)) -> (bool, Digest) {
    match (left, right) {
        ((false, EMPTY), (is_leaf, hash)) if is_leaf || hash == EMPTY => (is_leaf, hash),
        ((true, hash), (false, EMPTY)) => (true, hash),
        ((_, left), (_, right)) => (false, proof::branch(&left, &right)),
    }
}
