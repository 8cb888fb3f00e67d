//! Bundles that are not final yet, by their authors and sequence numbers.
//!
//! Everybody may fill only a share: an author, and a member through which others' bundles come.

use crate::execution::{BundleId, bundle_id};
use protocol::{
    ids::{AccountId, NodeId},
    limits,
    signed::Signed,
};
use registry::{Authenticated, Bundle, State, keys};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Bound,
    sync::Arc,
};

/// Bytes of everything that waits.
const BYTES_MAX: usize = 64 << 20;
/// Bytes that one way in may take: this machine's own callers, or one other member.
const SOURCE_BYTES_MAX: usize = 16 << 20;
/// Bytes of one author.
const AUTHOR_BYTES_MAX: usize = 1 << 20;
/// Authors that one block chooses from.
const LANES_MAX: usize = 2 * limits::BLOCK_BUNDLES_MAX;
/// Bundles of one author that one block chooses from.
const LANE_MAX: usize = 64;

/// A bundle whose signature holds.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) signed: Signed<Bundle>,
    pub(crate) bundle: Authenticated,
    pub(crate) id: BundleId,
    /// Through which other member it came; `None`: from this machine.
    pub(crate) source: Option<NodeId>,
}

impl Entry {
    pub(crate) fn new(signed: Signed<Bundle>, bundle: Authenticated, source: Option<NodeId>) -> Self {
        let id = bundle_id(&signed);
        Self { signed, bundle, id, source }
    }

    pub(crate) fn author(&self) -> AccountId {
        self.bundle.bundle().author
    }

    pub(crate) fn sequence(&self) -> u64 {
        self.bundle.bundle().sequence
    }

    pub(crate) fn not_after_unix_ms(&self) -> u64 {
        self.bundle.bundle().not_after_unix_ms
    }

    /// In a body.
    pub(crate) fn bytes(&self) -> usize {
        // Signer, signature, and the length of the payload.
        self.signed.payload.len() + 32 + 64 + 4
    }
}

#[derive(Debug, Default)]
pub(crate) struct Mempool {
    authors: BTreeMap<AccountId, BTreeMap<u64, Arc<Entry>>>,
    ends: BTreeSet<(u64, AccountId, u64)>,
    author_bytes: HashMap<AccountId, usize>,
    source_bytes: HashMap<Option<NodeId>, usize>,
    bytes: usize,
    /// Whose turn was last.
    served: Option<AccountId>,
}

/// There is no room for a bundle, or another one has its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full;

impl Mempool {
    /// Takes a bundle in: whether it is a new one.
    pub(crate) fn insert(&mut self, entry: Arc<Entry>) -> Result<bool, Full> {
        let (author, sequence, bytes) = (entry.author(), entry.sequence(), entry.bytes());
        if let Some(known) = self.get(author, sequence) {
            return if known.id == entry.id { Ok(false) } else { Err(Full) };
        }
        let of_author = self.author_bytes.get(&author).copied().unwrap_or(0) + bytes;
        let of_source = self.source_bytes.get(&entry.source).copied().unwrap_or(0) + bytes;
        if of_author > AUTHOR_BYTES_MAX || of_source > SOURCE_BYTES_MAX || self.bytes + bytes > BYTES_MAX {
            return Err(Full);
        }
        self.author_bytes.insert(author, of_author);
        self.source_bytes.insert(entry.source, of_source);
        self.bytes += bytes;
        self.ends.insert((entry.not_after_unix_ms(), author, sequence));
        self.authors.entry(author).or_default().insert(sequence, entry);
        Ok(true)
    }

    pub(crate) fn get(&self, author: AccountId, sequence: u64) -> Option<&Arc<Entry>> {
        self.authors.get(&author)?.get(&sequence)
    }

    pub(crate) fn remove(&mut self, author: AccountId, sequence: u64) -> Option<Arc<Entry>> {
        let bundles = self.authors.get_mut(&author)?;
        let entry = bundles.remove(&sequence)?;
        if bundles.is_empty() {
            self.authors.remove(&author);
        }
        self.ends.remove(&(entry.not_after_unix_ms(), author, sequence));
        self.bytes -= entry.bytes();
        subtract(&mut self.author_bytes, author, entry.bytes());
        subtract(&mut self.source_bytes, entry.source, entry.bytes());
        Some(entry)
    }

    /// Drops what an author can say no more, because a number as high is final.
    pub(crate) fn drop_said(&mut self, author: AccountId, sequence: u64) {
        let Some(bundles) = self.authors.get(&author) else { return };
        let said: Vec<u64> = bundles.range(..=sequence).map(|(sequence, _)| *sequence).collect();
        said.into_iter().for_each(|sequence| drop(self.remove(author, sequence)));
    }

    /// Drops what has run out by the time of a block.
    pub(crate) fn drop_expired(&mut self, unix_ms: u64) {
        while let Some((end, author, sequence)) = self.ends.first().copied()
            && end < unix_ms
        {
            self.remove(author, sequence);
        }
    }

    /// Drops everything that is behind a state which came otherwise than block by block.
    pub(crate) fn drop_all_said(&mut self, state: &State) {
        let said = self.authors.keys().filter_map(|author| Some((*author, state.read(&keys::sequence(*author))?)));
        let said: Vec<_> = said.collect();
        said.into_iter().for_each(|(author, sequence)| self.drop_said(author, sequence));
    }

    /// What can be said yet in this state, at most as much as a block takes: bundles and bytes. Not every one need apply.
    pub(crate) fn waiting(&self, state: &State) -> (usize, usize) {
        let (mut count, mut bytes) = (0, 0);
        for (author, bundles) in self.authors.iter().take(LANES_MAX) {
            let said = state.read(&keys::sequence(*author)).unwrap_or(0);
            for entry in bundles.range((Bound::Excluded(said), Bound::Unbounded)).take(LANE_MAX) {
                count += 1;
                bytes += entry.1.bytes();
            }
            if count >= limits::BLOCK_BUNDLES_MAX || bytes >= limits::BLOCK_BODY_BYTES_MAX {
                break;
            }
        }
        (count, bytes)
    }

    /// Bundles of each author by their numbers; the author whose turn was last comes last.
    pub(crate) fn lanes(&self) -> Vec<Vec<Arc<Entry>>> {
        let (after, until) = match self.served {
            Some(served) => ((Bound::Excluded(served), Bound::Unbounded), (Bound::Unbounded, Bound::Included(served))),
            None => ((Bound::Unbounded, Bound::Unbounded), (Bound::Unbounded, Bound::Excluded(AccountId([0; 32])))),
        };
        let lanes = self.authors.range(after).chain(self.authors.range(until)).take(LANES_MAX);
        lanes.map(|(_, bundles)| bundles.values().take(LANE_MAX).cloned().collect()).collect()
    }

    /// Says whose turn was last.
    pub(crate) fn serve(&mut self, author: AccountId) {
        self.served = Some(author);
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }
}

fn subtract<K: std::hash::Hash + Eq>(sums: &mut HashMap<K, usize>, key: K, bytes: usize) {
    if let std::collections::hash_map::Entry::Occupied(mut sum) = sums.entry(key) {
        *sum.get_mut() -= bytes;
        if *sum.get() == 0 {
            sum.remove();
        }
    }
}

#[cfg(test)]
mod tests;
