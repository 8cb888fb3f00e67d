//! A state while facts are applied to it: what is read and written, what has changed, and under which keys.

use crate::{
    Event, Rejection,
    keys::{self, Key},
    records::{Counts, Record},
    tree::Tree,
};
use protocol::{ids::PoolId, signed::Signable, signed::Signed, signed::Verifier};

/// Dropped where a fact is rejected: then nothing has changed.
pub(crate) struct Draft<'a> {
    pub(crate) tree: Tree,
    pub(crate) verifier: &'a dyn Verifier,
    pub(crate) events: Vec<Event>,
    /// Keys that were written or erased.
    pub(crate) touched: Vec<Vec<u8>>,
}

impl<'a> Draft<'a> {
    pub(crate) fn new(tree: Tree, verifier: &'a dyn Verifier) -> Self {
        Self { tree, verifier, events: Vec::new(), touched: Vec::new() }
    }

    pub(crate) fn read<R: Record>(&self, key: &Key<R>) -> Option<R> {
        let value = self.tree.get(key.as_bytes())?;
        Some(R::decode(value).expect("values are written as records, and checked where they come from elsewhere"))
    }

    pub(crate) fn has<R: Record>(&self, key: &Key<R>) -> bool {
        self.tree.get(key.as_bytes()).is_some()
    }

    pub(crate) fn write<R: Record>(&mut self, key: Key<R>, record: &R) {
        let value = record.encode().expect("what facts bring in is bounded, so that records fit");
        self.tree.insert(key.as_bytes(), &value);
        self.touched.push(key.into_bytes());
    }

    pub(crate) fn erase<R: Record>(&mut self, key: Key<R>) {
        self.tree.remove(key.as_bytes());
        self.touched.push(key.into_bytes());
    }

    pub(crate) fn happened(&mut self, event: Event) {
        self.events.push(event);
    }

    pub(crate) fn counts(&self) -> Counts {
        self.read(&keys::counts()).unwrap_or_default()
    }

    pub(crate) fn count(&mut self, change: impl FnOnce(&mut Counts)) {
        let mut counts = self.counts();
        change(&mut counts);
        self.write(keys::counts(), &counts);
    }

    /// The time that was agreed on last, in milliseconds since 1970.
    pub(crate) fn now(&self) -> u64 {
        self.read(&keys::clock()).unwrap_or_default().unix_ms
    }

    pub(crate) fn pool(&self) -> Option<PoolId> {
        self.read(&keys::params()).map(|params| params.pool)
    }

    /// A payload within a fact, if its signature holds and it is for this pool.
    pub(crate) fn open<T: Signable>(&self, signed: &Signed<T>, pool: impl Fn(&T) -> PoolId) -> Result<T, Rejection> {
        let payload = signed.open(self.verifier).ok_or(Rejection::Signature)?;
        if self.pool() == Some(pool(&payload)) { Ok(payload) } else { Err(Rejection::Signature) }
    }
}
