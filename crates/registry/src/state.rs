//! The agreed state itself: a tree of records, and what a block makes of it.

use crate::{
    BundleError, Event, Fact, PoolError, Rejection,
    apply::{self, expiry},
    bundle::Authenticated,
    draft::Draft,
    keys::{self, Key},
    records::Record,
    tree::Tree,
};
use protocol::{
    header::Committee,
    ids::{AccountId, NodeId},
    limits,
    proof::{Digest, Proof},
    signed::Verifier,
};

/// The agreed state of a pool, as members of a committee fork it: a clone is one reference count. Equal where the roots are.
///
/// A block is [`State::begin`], then [`State::apply`] for each of its bundles. Neither changes the state it starts from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    pub(crate) tree: Tree,
}

/// Which block facts are in. Its time is the only time there is for facts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockContext {
    /// Higher than of every block before.
    pub height: u64,
    /// Not lower than of the block before. With a higher one the committee that was agreed on takes over.
    pub epoch: u64,
    /// In milliseconds since 1970; not before that of the block before.
    pub unix_ms: u64,
}

/// A state, and what it changed of the one before.
#[derive(Debug, Clone)]
pub struct Step {
    /// The state now.
    pub state: State,
    /// What has changed.
    pub events: Vec<Event>,
    pub(crate) touched: Vec<Vec<u8>>,
}

/// Believes no signature: for facts that carry none.
struct Nobody;

impl Verifier for Nobody {
    fn holds(&self, _: &NodeId, _: &[u8], _: &[u8; 64]) -> bool {
        false
    }
}

impl State {
    /// The hash of everything that was agreed on.
    pub fn root(&self) -> Digest {
        self.tree.root()
    }

    /// A record.
    pub fn read<R: Record>(&self, key: &Key<R>) -> Option<R> {
        R::decode(self.tree.get(key.as_bytes())?)
    }

    /// A proof of what is, or is not, under a key: [`Key::check`] reads it.
    pub fn prove<R: Record>(&self, key: &Key<R>) -> Proof {
        self.tree.prove(key.as_bytes())
    }

    /// As [`State::prove`], of a key as bytes: what whoever asks means by it, is theirs to know.
    pub fn prove_bytes(&self, key: &[u8]) -> Proof {
        self.tree.prove(key)
    }

    /// Every key and value, by ascending path.
    pub fn entries(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.tree.iter()
    }

    /// Who agrees in this epoch; nobody before the genesis.
    pub fn committee(&self) -> Option<Committee> {
        self.read(&keys::committee())
    }

    /// Who agrees in the next epoch, as it stands now.
    pub fn next_committee(&self) -> Option<Committee> {
        self.read(&keys::next_committee()).or_else(|| self.committee())
    }

    /// Who agreed in an epoch: known of the present committee and the one before it, for epochs that have begun.
    pub fn committee_of(&self, epoch: u64) -> Option<Committee> {
        let is_begun = self.read(&keys::clock()).is_some_and(|clock| epoch <= clock.epoch);
        match self.read(&keys::past_committee()) {
            _ if !is_begun => None,
            Some(past) if epoch < past.since_epoch => None,
            Some(past) if epoch < past.until_epoch => Some(past.committee),
            Some(_) | None => self.committee(),
        }
    }

    /// Begins a block: time passes, and what was due by then is done.
    pub fn begin(&self, context: &BlockContext) -> Result<Step, Rejection> {
        self.step(&Nobody, |draft| expiry::begin(draft, context))
    }

    /// Applies a bundle: all of its facts, or none.
    pub fn apply(&self, authenticated: &Authenticated, verifier: &dyn Verifier) -> Result<Step, Rejection> {
        let bundle = authenticated.bundle();
        self.step(verifier, |draft| {
            let author = bundle.author;
            if draft.pool().ok_or(Rejection::NotFounded)? != bundle.pool {
                return Err(BundleError::OtherPool.into());
            }
            let now = draft.now();
            let latest = now.saturating_add(limits::BUNDLE_LIFETIME_MS);
            if !(now..=latest).contains(&bundle.not_after_unix_ms) {
                return Err(BundleError::Expired.into());
            }
            if let Some(last) = draft.read(&keys::sequence(author)).filter(|last| bundle.sequence <= *last) {
                return Err(BundleError::Replayed { last }.into());
            }
            // A number is kept for each author: strangers have none, until they join.
            if !is_known(draft, author) && !matches!(bundle.facts[..], [Fact::Joined { .. }]) {
                return Err(Rejection::UnknownMember);
            }
            if !draft.has(&keys::sequence(author)) {
                if draft.counts().authors as usize >= limits::AUTHORS_MAX {
                    return Err(PoolError::Full("authors").into());
                }
                draft.count(|counts| counts.authors += 1);
            }
            draft.write(keys::sequence(author), &bundle.sequence);
            bundle.facts.iter().try_for_each(|fact| apply::fact(draft, author, fact))
        })
    }

    /// Applies a fact of the pool's own orchestrator, which the orchestrator's own log is believed for: as in a bundle by
    /// it, without a number. Facts that carry signatures come in bundles only.
    pub(crate) fn apply_own(&self, fact: &Fact) -> Result<Step, Rejection> {
        self.step(&Nobody, |draft| {
            if let Fact::Genesis(genesis) = fact {
                return apply::pool::found(draft, genesis);
            }
            let params = draft.read(&keys::params());
            let author = params.map_or(AccountId([0; 32]), |params| params.genesis.owner);
            apply::fact(draft, author, fact)
        })
    }

    fn step(
        &self,
        verifier: &dyn Verifier,
        change: impl FnOnce(&mut Draft) -> Result<(), Rejection>,
    ) -> Result<Step, Rejection> {
        let mut draft = Draft::new(self.tree.clone(), verifier);
        change(&mut draft)?;
        Ok(Step { state: Self { tree: draft.tree }, events: draft.events, touched: draft.touched })
    }
}

fn is_known(draft: &Draft, author: AccountId) -> bool {
    draft.has(&keys::member(author.into()))
        || draft.has(&keys::standing(author))
        || draft.has(&keys::account(author))
        || draft.read(&keys::committee()).is_some_and(|committee| committee.contains(author.into()))
}
