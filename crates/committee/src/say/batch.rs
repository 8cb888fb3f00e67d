//! Facts of several callers on their way into one bundle, and what becomes of them.

use super::{Author, Caller, LIFETIME_MS, SayError, TRIES_MAX, is_of_bundle};
use crate::pending::Outcome;
use protocol::{
    ids::NodeId,
    limits,
    signed::{Signed, Verifier},
    time::unix_ms,
};
use registry::{Authenticated, Bundle, BundleError, Event, Fact, Rejection, State, Step, keys};
use std::time::SystemTime;
use tokio::sync::oneshot;

/// What a bundle has beside its facts: pool, author, sequence number, end, and lengths.
const OVERHEAD_BYTES: usize = 128;
/// Of the facts of one bundle, encoded.
pub(super) const FACTS_BYTES_MAX: usize = limits::SIGNED_BYTES_MAX - OVERHEAD_BYTES;

/// Callers whose facts apply one after the other.
pub(super) struct Batch {
    /// The finalised state.
    base: State,
    /// With what this machine has said since, and the callers so far.
    fork: State,
    callers: Vec<Caller>,
    facts: usize,
    bytes: usize,
}

/// A bundle that waits to be final, and whose facts are in it.
pub(super) struct Underway {
    callers: Vec<Caller>,
    not_after_unix_ms: u64,
    outcome: oneshot::Receiver<Outcome>,
}

/// Believes this machine, of what it is about to say itself.
struct Own(NodeId);

impl Verifier for Own {
    fn holds(&self, signer: &NodeId, _: &[u8], _: &[u8; 64]) -> bool {
        *signer == self.0
    }
}

/// What facts would change if this machine said them. Nothing is signed for that.
fn tried(author: &Author, state: &State, facts: &[Fact]) -> Result<Step, Rejection> {
    let me = author.key.id();
    let bundle = Bundle {
        pool: author.chain.rules.pool,
        author: me.into(),
        sequence: said(author, state).saturating_add(1),
        not_after_unix_ms: now(state),
        facts: facts.to_vec(),
    };
    let signed = Signed::new(me, &bundle, |_| [0; 64]).map_err(|_| BundleError::Size)?;
    let bundle = Authenticated::open(&signed, &Own(me))?;
    author.chain.rules.apply(state, &bundle)
}

fn said(author: &Author, state: &State) -> u64 {
    state.read(&keys::sequence(author.key.id().into())).unwrap_or(0)
}

fn now(state: &State) -> u64 {
    state.read(&keys::clock()).unwrap_or_default().unix_ms
}

impl Batch {
    /// Begins with a caller. `None`: it has its answer already, or another one must begin.
    pub(super) fn begin(author: &Author, first: Caller) -> Option<Self> {
        // First what waits, then what is final: what becomes final in between is in the second.
        let waiting = author.chain.waiting_of(author.key.id().into());
        let base = match author.chain.imminent(unix_ms(SystemTime::now())) {
            Ok(base) => base,
            Err(rejection) => {
                let _ = first.reply.send(Err(rejection.into()));
                return None;
            }
        };
        let mut fork = base.clone();
        for entry in waiting {
            if let Ok(step) = author.chain.rules.apply(&fork, &entry.bundle) {
                fork = step.state;
            }
        }
        let mut batch = Self { base, fork, callers: Vec::new(), facts: 0, bytes: 0 };
        // An empty batch has room for anybody.
        let _ = batch.add(author, first);
        Some(batch)
    }

    pub(super) fn has_room(&self) -> bool {
        self.facts < limits::BUNDLE_FACTS_MAX && !self.callers.iter().any(|caller| caller.alone)
    }

    /// Adds a caller, or answers it at once. It comes back if there is no room for it.
    pub(super) fn add(&mut self, author: &Author, caller: Caller) -> Result<(), Caller> {
        let (facts, bytes) = (self.facts + caller.facts.len(), self.bytes + caller.bytes);
        let fits = !caller.alone && facts <= limits::BUNDLE_FACTS_MAX && bytes <= FACTS_BYTES_MAX;
        if !self.callers.is_empty() && !fits {
            return Err(caller);
        }
        match tried(author, &self.fork, &caller.facts) {
            // Who asked may be gone.
            Err(rejection) => drop(caller.reply.send(Err(rejection.into()))),
            Ok(step) if step.events.is_empty() && self.is_so(author, &caller.facts) => {
                drop(caller.reply.send(Ok(Vec::new())));
            }
            Ok(step) => {
                (self.fork, self.facts, self.bytes) = (step.state, facts, bytes);
                self.callers.push(caller);
            }
        }
        Ok(())
    }

    /// Whether facts are final already. What only waits to be so may still come to nothing.
    fn is_so(&self, author: &Author, facts: &[Fact]) -> bool {
        tried(author, &self.base, facts).is_ok_and(|step| step.events.is_empty())
    }

    /// Signs the bundle and hands it out. `None`: everybody has an answer already.
    pub(super) fn submit(self, author: &Author) -> Option<Underway> {
        if self.callers.is_empty() {
            return None;
        }
        let time = unix_ms(SystemTime::now());
        let not_after_unix_ms = now(&self.base).max(time) + LIFETIME_MS;
        let bundle = Bundle {
            pool: author.chain.rules.pool,
            author: author.key.id().into(),
            sequence: author.next_sequence(said(author, &self.base), time),
            not_after_unix_ms,
            facts: self.callers.iter().flat_map(|caller| caller.facts.iter().cloned()).collect(),
        };
        let entry = author.chain.opened(author.key.sign(&bundle), None).expect("this machine's own signature holds");
        match author.chain.submit(entry.clone()) {
            Ok(outcome) => {
                author.speaker.spread(&[entry]);
                Some(Underway { callers: self.callers, not_after_unix_ms, outcome })
            }
            Err(_) => {
                answer(self.callers, &Err(SayError::Busy));
                None
            }
        }
    }
}

impl Underway {
    /// Waits for what becomes of the bundle and tells the callers. Those whose facts are to be said again come back.
    pub(super) async fn finish(self, author: &Author) -> Vec<Caller> {
        let Self { callers, not_after_unix_ms, outcome } = self;
        match author.outcome(outcome, not_after_unix_ms).await {
            Ok(Outcome::Final { events, .. }) if callers.len() == 1 => answer(callers, &Ok(events)),
            Ok(Outcome::Final { before, .. }) => share(author, before, callers),
            Ok(Outcome::Refused(rejection)) => return again(callers, rejection),
            Ok(Outcome::Expired) => answer(callers, &Err(SayError::Expired)),
            Err(error) => answer(callers, &Err(error)),
        }
        Vec::new()
    }
}

fn answer(callers: Vec<Caller>, answer: &Result<Vec<Event>, SayError>) {
    for caller in callers {
        let _ = caller.reply.send(answer.clone());
    }
}

/// Gives each caller its own events: the same facts on the same state, caller by caller.
fn share(author: &Author, mut state: State, callers: Vec<Caller>) {
    for caller in callers {
        let events = match tried(author, &state, &caller.facts) {
            Ok(step) => {
                state = step.state;
                step.events
            }
            // All of them applied, in this order, to this state.
            Err(_) => Vec::new(),
        };
        let _ = caller.reply.send(Ok(events));
    }
}

fn again(callers: Vec<Caller>, rejection: Rejection) -> Vec<Caller> {
    let is_one = callers.len() == 1;
    let is_certain = is_one && !is_of_bundle(&rejection);
    let mut left = Vec::new();
    for mut caller in callers {
        caller.tries += 1;
        if is_certain || caller.tries > TRIES_MAX {
            let _ = caller.reply.send(Err(rejection.into()));
        } else {
            caller.alone |= !is_of_bundle(&rejection);
            left.push(caller);
        }
    }
    left
}
