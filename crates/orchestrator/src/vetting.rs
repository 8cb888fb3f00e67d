//! What is believed of a node's own word, and how much of it is kept.

use crate::live::Worker;
use protocol::{
    grant::{Locality, Policy, Tier, WorkerEvidence},
    hold::Hold,
    ids::{ModelDigest, NodeId},
    limits,
    link::{NodeState, WorkerState},
    peer::live::Load,
    signed::Signed,
};
use scheduler::{Budget, LiveWorker, Now};
use std::{net::SocketAddr, sync::Arc};

/// Evidence is signed anew once an hour or when a worker restarts; checking a signature costs 50 µs or so.
const CHECKS_BURST: u32 = 2 * limits::MODELS_PER_NODE_MAX as u32;
const CHECKS_PER_SECOND: u32 = 4;
/// A queue longer than this many times the most slots is none.
const CAPACITY_MAX: u32 = 8 * limits::SLOTS_MAX;

/// Evidence whose signature holds.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) signed: Signed<WorkerEvidence>,
    model: ModelDigest,
    pub(crate) tier: Tier,
    issued_unix_ms: u64,
    expires_unix_ms: u64,
    /// Of the worker's program.
    pub(crate) measurement: [u8; 32],
}

#[cfg(test)]
impl Checked {
    /// Evidence that a test has signed.
    pub(crate) fn believed(signed: Signed<WorkerEvidence>) -> Self {
        let evidence = signed.decode_unverified().expect("a test signs evidence");
        Self {
            signed,
            model: evidence.model,
            tier: evidence.tier,
            issued_unix_ms: evidence.issued_unix_ms,
            expires_unix_ms: evidence.expires_unix_ms,
            measurement: evidence.measurement,
        }
    }
}

/// A node's state, as far as it is believed, within bounds.
#[derive(Clone)]
pub(crate) struct Vetted {
    pub(crate) label: String,
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) active_tasks: u32,
    pub(crate) hold: Option<Hold>,
    pub(crate) workers: Vec<Worker>,
}

impl Vetted {
    /// The same node under another load, whose workers are in the same order.
    pub(crate) fn under(&self, load: &Load) -> Self {
        let mut other = self.clone();
        other.active_tasks = load.active_tasks;
        // What was found here stays.
        other.hold = other.hold.or_else(|| load.hold.clone().map(shortened));
        for (worker, tasks) in other.workers.iter_mut().zip(&load.workers) {
            worker.live.active_tasks = *tasks;
        }
        other
    }

    /// Whether a worker holds that is said to, or none is said to.
    pub(crate) fn is_sound(&self) -> bool {
        self.workers.is_empty() || self.workers.iter().any(|worker| worker.evidence.is_some())
    }
}

/// Vets the states of one node. Remembers the evidence it has checked, since most states repeat it.
pub(crate) struct Vetter {
    node: NodeId,
    checked: Vec<Arc<Checked>>,
    checks: Budget,
}

impl Vetter {
    pub(crate) fn new(node: NodeId) -> Self {
        Self { node, checked: Vec::new(), checks: Budget::per_second(CHECKS_PER_SECOND, CHECKS_BURST) }
    }

    /// The believable part of `state`. `refused_models`: models of it that the pool does not take, and why.
    pub(crate) fn vet(&mut self, state: NodeState, refused_models: &[(ModelDigest, String)], now: Now) -> Vetted {
        let mut checked = Vec::new();
        let mut workers: Vec<Worker> = Vec::new();
        for worker in state.workers.iter().take(limits::MODELS_PER_NODE_MAX) {
            // One worker for each model: the first.
            if workers.iter().any(|other| other.live.model == worker.model.digest) {
                continue;
            }
            let refused = refused_models.iter().find(|(model, _)| *model == worker.model.digest);
            let evidence = match refused {
                Some((_, why)) => Err(why.clone()),
                None => self.check(worker, now),
            };
            checked.extend(evidence.iter().cloned());
            workers.push(bounded(worker, evidence));
        }
        self.checked = checked;
        let addresses = dialable(state.addresses);
        let hold = match state.hold {
            None if addresses.is_empty() => Some(refused("it announces no address")),
            hold => hold.map(shortened),
        };
        Vetted {
            label: shortened_to(&state.label, limits::LABEL_CHARS_MAX),
            addresses,
            active_tasks: state.active_tasks,
            hold,
            workers,
        }
    }

    fn check(&mut self, worker: &WorkerState, now: Now) -> Result<Arc<Checked>, String> {
        let (signed, model) = (&worker.evidence, worker.model.digest);
        if let Some(known) = self.checked.iter().find(|known| known.model == model && known.signed == *signed) {
            return Ok(Arc::clone(known));
        }
        if signed.payload.len() > limits::EVIDENCE_BYTES_MAX {
            return Err(format!("evidence of more than {} bytes", limits::EVIDENCE_BYTES_MAX));
        }
        if !self.checks.withdraw(now.steady_ms) {
            return Err("its evidence changes too often".to_owned());
        }
        // The client's own policy is the client's to check; what is asked here is whether the evidence holds at all.
        let any = Policy { locality: Locality::Network, tier_min: Tier::SelfSigned };
        trust::evidence::verify(signed, self.node, model, &any, now.unix_ms).map_err(|error| error.to_string())?;
        let evidence = signed.decode_unverified().map_err(|error| error.to_string())?;
        Ok(Arc::new(Checked {
            signed: signed.clone(),
            model,
            tier: evidence.tier,
            issued_unix_ms: evidence.issued_unix_ms,
            expires_unix_ms: evidence.expires_unix_ms,
            measurement: evidence.measurement,
        }))
    }
}

fn bounded(worker: &WorkerState, evidence: Result<Arc<Checked>, String>) -> Worker {
    let checked = evidence.as_ref().ok();
    let slots = worker.facts.slots.min(limits::SLOTS_MAX);
    let live = LiveWorker {
        tier: checked.map_or(Tier::SelfSigned, |checked| checked.tier),
        issued_unix_ms: checked.map_or(0, |checked| checked.issued_unix_ms),
        expires_unix_ms: checked.map_or(0, |checked| checked.expires_unix_ms),
        capacity: worker.capacity.min(CAPACITY_MAX),
        active_tasks: worker.active_tasks,
        hold: evidence.as_ref().err().map(|why| refused(why)),
        ..LiveWorker::new(worker.model.digest, slots, worker.model.bytes)
    };
    Worker {
        live,
        evidence: evidence.ok(),
        context_tokens: worker.facts.context_tokens,
        chat: worker.facts.chat,
        writes: worker.facts.chat || worker.facts.embedding_length == 0,
        bytes: worker.model.bytes,
    }
}

fn refused(why: &str) -> Hold {
    Hold::Refused { why: shortened_to(why, limits::WHY_CHARS_MAX) }
}

fn dialable(mut addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    addresses.truncate(limits::ADDRESSES_MAX);
    addresses.retain(|address| {
        let ip = address.ip();
        address.port() != 0 && !ip.is_unspecified() && !ip.is_multicast()
    });
    addresses.shrink_to_fit();
    addresses
}

pub(crate) fn shortened(hold: Hold) -> Hold {
    match hold {
        Hold::WorkerDown { why } => Hold::WorkerDown { why: shortened_to(&why, limits::WHY_CHARS_MAX) },
        Hold::Refused { why } => Hold::Refused { why: shortened_to(&why, limits::WHY_CHARS_MAX) },
        Hold::Owner { rule, lifts_unix_ms } => {
            Hold::Owner { rule: shortened_to(&rule, limits::WHY_CHARS_MAX), lifts_unix_ms }
        }
        hold => hold,
    }
}

/// A node's text goes to terminals and logs: no control characters, and not too much of it.
fn shortened_to(text: &str, chars_max: usize) -> String {
    text.chars().filter(|c| !c.is_control()).take(chars_max).collect()
}

#[cfg(test)]
mod tests;
