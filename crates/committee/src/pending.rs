//! What is said and not final: the mempool, and who on this machine waits for what becomes of a bundle in it.

use crate::{
    execution::Executed,
    mempool::{Entry, Full, Mempool},
};
use protocol::ids::AccountId;
use registry::{BundleError, Event, Rejection, State};
use std::{collections::BTreeMap, sync::Arc};
use tokio::sync::oneshot;

/// What became of a bundle.
#[derive(Debug, Clone)]
pub(crate) enum Outcome {
    /// It is final.
    Final {
        /// The state that it was applied to.
        before: State,
        /// What it changed.
        events: Vec<Event>,
    },
    /// It does not apply.
    Refused(Rejection),
    /// Its time is over.
    Expired,
}

/// A bundle that somebody on this machine waits for. It is said again until something has become of it.
#[derive(Debug)]
struct Waiting {
    entry: Arc<Entry>,
    replies: Vec<oneshot::Sender<Outcome>>,
}

#[derive(Debug, Default)]
pub(crate) struct Pending {
    pub(crate) mempool: Mempool,
    /// By author and number, so that each author's come in order.
    waiting: BTreeMap<(AccountId, u64), Waiting>,
}

impl Pending {
    /// Takes a bundle in for somebody on this machine.
    pub(crate) fn submit(&mut self, entry: Arc<Entry>) -> Result<oneshot::Receiver<Outcome>, Full> {
        let (reply, outcome) = oneshot::channel();
        self.mempool.insert(Arc::clone(&entry))?;
        let place = (entry.author(), entry.sequence());
        self.waiting.entry(place).or_insert_with(|| Waiting { entry, replies: Vec::new() }).replies.push(reply);
        Ok(outcome)
    }

    /// What somebody waits for, each author's in order.
    pub(crate) fn awaited(&self) -> Vec<Arc<Entry>> {
        self.waiting.values().map(|waiting| Arc::clone(&waiting.entry)).collect()
    }

    /// What waits of one author, in order, whoever waits for it.
    pub(crate) fn of(&self, author: AccountId) -> Vec<Arc<Entry>> {
        self.waiting.range((author, 0)..=(author, u64::MAX)).map(|(_, waiting)| Arc::clone(&waiting.entry)).collect()
    }

    /// A bundle does not apply: it goes, and who waits for it is told.
    pub(crate) fn refuse(&mut self, entry: &Entry, rejection: Rejection) {
        let is_this = |known: &Arc<Entry>| known.id == entry.id;
        if self.mempool.get(entry.author(), entry.sequence()).is_some_and(is_this) {
            self.mempool.remove(entry.author(), entry.sequence());
        }
        let place = (entry.author(), entry.sequence());
        if self.waiting.get(&place).is_some_and(|waiting| is_this(&waiting.entry)) {
            self.tell(place, &Outcome::Refused(rejection));
        }
    }

    /// A block is final: what is in it, and what it has made impossible, waits no more.
    pub(crate) fn finalised(&mut self, block: &Executed) {
        for (number, included) in block.bundles.iter().enumerate() {
            let place = (included.author, included.sequence);
            if self.waiting.get(&place).is_some_and(|waiting| waiting.entry.id == included.id) {
                let before = block.steps[number].state.clone();
                self.tell(place, &Outcome::Final { before, events: block.steps[number + 1].events.clone() });
            }
        }
        for included in &block.bundles {
            self.said(included.author, included.sequence);
        }
        self.passed(block.header.unix_ms);
    }

    /// A state came otherwise than block by block.
    pub(crate) fn overtaken(&mut self, state: &State, unix_ms: u64) {
        self.mempool.drop_all_said(state);
        let authors: Vec<AccountId> = self.waiting.keys().map(|(author, _)| *author).collect();
        for author in authors {
            if let Some(sequence) = state.read(&registry::keys::sequence(author)) {
                self.said(author, sequence);
            }
        }
        self.passed(unix_ms);
    }

    fn said(&mut self, author: AccountId, last: u64) {
        self.mempool.drop_said(author, last);
        let places: Vec<_> = self.waiting.range((author, 0)..=(author, last)).map(|(place, _)| *place).collect();
        for place in places {
            self.tell(place, &Outcome::Refused(BundleError::Replayed { last }.into()));
        }
    }

    fn passed(&mut self, unix_ms: u64) {
        self.mempool.drop_expired(unix_ms);
        let is_over = |waiting: &Waiting| waiting.entry.not_after_unix_ms() < unix_ms;
        let places: Vec<_> =
            self.waiting.iter().filter(|(_, waiting)| is_over(waiting)).map(|(place, _)| *place).collect();
        for place in places {
            self.tell(place, &Outcome::Expired);
        }
    }

    fn tell(&mut self, place: (AccountId, u64), outcome: &Outcome) {
        for reply in self.waiting.remove(&place).into_iter().flat_map(|waiting| waiting.replies) {
            // Who asked may be gone.
            let _ = reply.send(outcome.clone());
        }
    }
}
