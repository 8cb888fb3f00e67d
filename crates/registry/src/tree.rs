//! A persistent map whose root proves what is in it: the binary trie of [`protocol::proof`].
//!
//! Cloning is one reference count: the clones share what they have in common, and what one of them changes the others do
//! not see. Hashes are computed when they are asked for, once for all clones that share a subtree.

use protocol::proof::{self, DEPTH_MAX, Digest, EMPTY, End, Proof};
use std::{
    fmt,
    sync::{Arc, OnceLock},
};

/// The map.
///
/// ```
/// use protocol::proof::Finding;
/// use registry::Tree;
///
/// let mut tree = Tree::default();
/// tree.insert(b"name", b"value");
/// let before = tree.clone();
/// tree.remove(b"name");
///
/// assert_eq!(before.get(b"name"), Some(b"value".as_slice()), "a clone keeps what it had");
/// assert_eq!(before.prove(b"name").check(&before.root(), b"name"), Ok(Finding::Present(b"value")));
/// assert_eq!(tree.root(), Tree::default().root(), "the root is a function of the entries");
/// ```
#[derive(Clone, Default)]
pub struct Tree {
    top: Link,
    len: usize,
}

#[derive(Clone, Default)]
pub(crate) enum Link {
    #[default]
    Empty,
    Leaf(Arc<Leaf>),
    Branch(Arc<Branch>),
}

pub(crate) struct Leaf {
    pub(crate) path: Digest,
    pub(crate) key: Box<[u8]>,
    pub(crate) value: Box<[u8]>,
    hash: OnceLock<Digest>,
}

/// Two subtrees; never without an entry, and never with a single one.
pub(crate) struct Branch {
    pub(crate) children: [Link; 2],
    hash: OnceLock<Digest>,
}

impl Clone for Branch {
    fn clone(&self) -> Self {
        // Cloned only to be changed.
        Self { children: self.children.clone(), hash: OnceLock::new() }
    }
}

impl Leaf {
    pub(crate) fn new(path: Digest, key: &[u8], value: &[u8]) -> Arc<Self> {
        Arc::new(Self { path, key: key.into(), value: value.into(), hash: OnceLock::new() })
    }
}

impl Link {
    pub(crate) fn hash(&self) -> Digest {
        match self {
            Self::Empty => EMPTY,
            Self::Leaf(leaf) => *leaf.hash.get_or_init(|| proof::leaf(&leaf.path, &proof::value_digest(&leaf.value))),
            // As deep as paths have bits: 256 calls.
            Self::Branch(branch) => *branch.hash.get_or_init(|| {
                let [left, right] = &branch.children;
                proof::branch(&left.hash(), &right.hash())
            }),
        }
    }

    /// The one form of two subtrees: a single entry moves up.
    pub(crate) fn joined(children: [Self; 2]) -> Self {
        match children {
            [Self::Empty, Self::Empty] => Self::Empty,
            [leaf @ Self::Leaf(_), Self::Empty] | [Self::Empty, leaf @ Self::Leaf(_)] => leaf,
            children => Self::Branch(Arc::new(Branch { children, hash: OnceLock::new() })),
        }
    }

    /// Puts a leaf where it belongs. True if its place was free.
    pub(crate) fn insert(&mut self, depth: usize, new: Arc<Leaf>) -> bool {
        match self {
            Self::Empty => {
                *self = Self::Leaf(new);
                true
            }
            Self::Branch(branch) => {
                let branch = Arc::make_mut(branch);
                branch.hash = OnceLock::new();
                branch.children[usize::from(proof::goes_right(&new.path, depth))].insert(depth + 1, new)
            }
            Self::Leaf(old) if old.path == new.path => {
                *old = new;
                false
            }
            Self::Leaf(old) => {
                let mut children = [Self::Empty, Self::Empty];
                children[usize::from(proof::goes_right(&old.path, depth))] = Self::Leaf(Arc::clone(old));
                children[usize::from(proof::goes_right(&new.path, depth))].insert(depth + 1, new);
                *self = Self::Branch(Arc::new(Branch { children, hash: OnceLock::new() }));
                true
            }
        }
    }

    /// Takes out the leaf of a path that is there.
    fn remove(&mut self, depth: usize, path: &Digest) {
        let Self::Branch(branch) = self else {
            *self = Self::Empty;
            return;
        };
        let branch = Arc::make_mut(branch);
        branch.hash = OnceLock::new();
        branch.children[usize::from(proof::goes_right(path, depth))].remove(depth + 1, path);
        if let [Self::Empty, Self::Leaf(_)] | [Self::Leaf(_), Self::Empty] = branch.children {
            *self = Self::joined(std::mem::take(&mut branch.children));
        }
    }
}

impl Tree {
    /// The value of a key.
    pub fn get(&self, key: &[u8]) -> Option<&[u8]> {
        self.leaf(&proof::path(key)).map(|leaf| &*leaf.value)
    }

    fn leaf(&self, path: &Digest) -> Option<&Leaf> {
        let mut link = &self.top;
        for depth in 0..=DEPTH_MAX {
            match link {
                Link::Empty => return None,
                Link::Leaf(leaf) => return (leaf.path == *path).then_some(&**leaf),
                Link::Branch(branch) => link = &branch.children[usize::from(proof::goes_right(path, depth))],
            }
        }
        None
    }

    /// Gives a key a value.
    pub fn insert(&mut self, key: &[u8], value: &[u8]) {
        let is_new = self.top.insert(0, Leaf::new(proof::path(key), key, value));
        self.len += usize::from(is_new);
    }

    /// Takes the value of a key away: whether it had one.
    pub fn remove(&mut self, key: &[u8]) -> bool {
        let path = proof::path(key);
        // Looked up first: a key that is not there must not copy the way to it.
        let is_there = self.leaf(&path).is_some();
        if is_there {
            self.top.remove(0, &path);
            self.len -= 1;
        }
        is_there
    }

    /// The hash of everything in it. Trees with the same entries have the same root.
    pub fn root(&self) -> Digest {
        self.top.hash()
    }

    /// A proof of what is, or is not, under a key.
    pub fn prove(&self, key: &[u8]) -> Proof {
        let path = proof::path(key);
        let (mut link, mut siblings) = (&self.top, Vec::new());
        while let Link::Branch(branch) = link {
            let right = proof::goes_right(&path, siblings.len());
            siblings.push(branch.children[usize::from(!right)].hash());
            link = &branch.children[usize::from(right)];
        }
        let end = match link {
            Link::Leaf(leaf) if leaf.path == path => End::Own(leaf.value.to_vec()),
            Link::Leaf(leaf) => End::Other { path: leaf.path, value_digest: proof::value_digest(&leaf.value) },
            _ => End::Nothing,
        };
        Proof { siblings, end }
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has no entries.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Keys and values, by ascending path.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        leaves(&self.top).map(|leaf| (&*leaf.key, &*leaf.value))
    }

    pub(crate) fn top(&self) -> &Link {
        &self.top
    }

    pub(crate) fn of(top: Link) -> Self {
        let len = leaves(&top).count();
        Self { top, len }
    }
}

/// Leaves of a subtree, by ascending path.
pub(crate) fn leaves(top: &Link) -> impl Iterator<Item = &Leaf> {
    let mut waiting = vec![top];
    std::iter::from_fn(move || {
        loop {
            match waiting.pop()? {
                Link::Empty => {}
                Link::Leaf(leaf) => return Some(&**leaf),
                Link::Branch(branch) => waiting.extend(branch.children.iter().rev()),
            }
        }
    })
}

/// By root: the entries are the same.
impl PartialEq for Tree {
    fn eq(&self, other: &Self) -> bool {
        self.root() == other.root()
    }
}

impl Eq for Tree {}

impl fmt::Debug for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tree({} entries, root {})", self.len, blake3::Hash::from(self.root()).to_hex())
    }
}

impl<'a> FromIterator<(&'a [u8], &'a [u8])> for Tree {
    fn from_iter<I: IntoIterator<Item = (&'a [u8], &'a [u8])>>(entries: I) -> Self {
        let mut tree = Self::default();
        for (key, value) in entries {
            tree.insert(key, value);
        }
        tree
    }
}
