//! An ordered set of small keys, made for keys that move all the time.
//!
//! The keys stand in runs of at most [`RUN_MAX`]; a search halves the list of runs and then one run, without a branch to
//! be guessed, and a change shifts a part of one run, which fits the innermost cache. A `BTreeSet` has eleven keys to a
//! node: for as many keys it goes through three times as many places in memory, and guesses wrong at each.

/// Keys of one run.
const RUN_MAX: usize = 128;

/// An ordered set.
#[derive(Debug)]
pub(super) struct Ordered<K> {
    // Keys of run `i` are not below `lows[i]` and below `lows[i + 1]`; the first low bounds nothing.
    lows: Vec<K>,
    runs: Vec<Vec<K>>,
    len: usize,
}

impl<K> Default for Ordered<K> {
    fn default() -> Self {
        Self { lows: Vec::new(), runs: Vec::new(), len: 0 }
    }
}

impl<K: Copy + Ord> Ordered<K> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn first(&self) -> Option<K> {
        // No run is empty.
        self.runs.first().map(|run| run[0])
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = K> {
        self.runs.iter().flatten().copied()
    }

    /// The keys that are not below this one.
    pub(super) fn from(&self, low: K) -> impl Iterator<Item = K> {
        let at = self.run_of(low);
        let (run, later) = match self.runs.get(at..) {
            Some([run, later @ ..]) => (&run[run.partition_point(|key| *key < low)..], later),
            _ => (&[][..], &[][..]),
        };
        run.iter().chain(later.iter().flatten()).copied()
    }

    pub(super) fn insert(&mut self, key: K) {
        let at = self.run_of(key);
        let Some(run) = self.runs.get_mut(at) else {
            self.lows.push(key);
            self.runs.push(vec![key]);
            self.len = 1;
            return;
        };
        let Err(place) = run.binary_search(&key) else { return };
        run.insert(place, key);
        self.len += 1;
        if run.len() > RUN_MAX {
            let upper = run.split_off(RUN_MAX / 2);
            self.lows.insert(at + 1, upper[0]);
            self.runs.insert(at + 1, upper);
        }
    }

    pub(super) fn remove(&mut self, key: K) {
        let at = self.run_of(key);
        let Some(run) = self.runs.get_mut(at) else { return };
        let Ok(place) = run.binary_search(&key) else { return };
        run.remove(place);
        self.len -= 1;
        if run.len() < RUN_MAX / 4 {
            self.join(at);
        }
    }

    /// The run in which this key is, or would be.
    fn run_of(&self, key: K) -> usize {
        self.lows.partition_point(|low| *low <= key).saturating_sub(1)
    }

    /// Joins a short run with the one before or behind it, if that leaves room to grow.
    fn join(&mut self, at: usize) {
        let length = |at: usize| self.runs.get(at).map_or(usize::MAX, Vec::len);
        let room = RUN_MAX / 2 - length(at);
        let lower = match at.checked_sub(1) {
            Some(before) if length(before) <= room => before,
            _ if length(at + 1) <= room => at,
            // A run among full ones stays short; an empty one goes.
            _ if self.runs[at].is_empty() => {
                self.runs.remove(at);
                self.lows.remove(at);
                return;
            }
            _ => return,
        };
        let upper = self.runs.remove(lower + 1);
        self.lows.remove(lower + 1);
        self.runs[lower].extend(upper);
    }
}

#[cfg(test)]
mod tests {
    use super::Ordered;
    use proptest::{collection::vec, prelude::*};
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn it_holds_what_a_tree_holds(
            growing in vec(0u16..2_000, 0..1_500), shrinking in vec((0u16..2_000, 0u16..500), 0..3_000), low in 0u16..2_000,
        ) {
            let (mut ordered, mut tree) = (Ordered::default(), BTreeSet::new());
            for key in growing {
                ordered.insert(key);
                tree.insert(key);
            }
            for (gone, new) in shrinking {
                ordered.remove(gone);
                tree.remove(&gone);
                // Most of what is left is in the lower quarter.
                if new % 4 == 0 {
                    ordered.insert(new);
                    tree.insert(new);
                }
                prop_assert_eq!(ordered.first(), tree.first().copied());
                prop_assert!(ordered.runs.iter().all(|run| !run.is_empty() && run.len() <= super::RUN_MAX));
            }
            prop_assert_eq!(ordered.len(), tree.len());
            prop_assert_eq!(ordered.is_empty(), tree.is_empty());
            prop_assert!(ordered.iter().eq(tree.iter().copied()));
            prop_assert!(ordered.from(low).eq(tree.range(low..).copied()));
        }
    }
}
