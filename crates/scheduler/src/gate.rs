//! Gates: a named reason for every node that gets no work (promise P10).

use crate::{LiveNode, LiveWorker, Now, Presence, Task};
use protocol::{grant::Locality, hold::Hold, ids::ModelDigest};

/// Why `node` cannot take `task` with this model, if so: the first reason that would have to go.
pub fn gate(node: &LiveNode, model: ModelDigest, task: &Task<'_>, now: Now) -> Option<Hold> {
    if let Some(hold) = absent(node, now).or_else(|| node.hold.clone()) {
        return Some(hold);
    }
    let policy = &task.request.policy;
    if task.request.exclude.contains(&node.node) {
        return Some(Hold::Excluded);
    }
    if policy.locality == Locality::Device && node.node != task.client {
        return Some(Hold::OutsideLocality);
    }
    match node.worker(model) {
        None => Some(without_worker(node)),
        Some(worker) if worker.hold.is_none() && worker.tier < policy.tier_min => Some(Hold::BelowTier),
        Some(worker) => worker_standing(node, worker, now),
    }
}

/// Why `node` would get no task at all, if so, for whoever asks how it stands.
pub fn standing(node: &LiveNode, now: Now) -> Option<Hold> {
    if let Some(hold) = absent(node, now).or_else(|| node.hold.clone()) {
        return Some(hold);
    }
    let mut reasons = Vec::new();
    for worker in &node.workers {
        reasons.push(worker_standing(node, worker, now)?);
    }
    reasons.into_iter().min_by_key(distance).or(Some(Hold::Starting))
}

/// Why `node` would get no task with this model, whatever the task, if so.
pub(crate) fn model_standing(node: &LiveNode, model: ModelDigest, now: Now) -> Option<Hold> {
    let reason = absent(node, now).or_else(|| node.hold.clone());
    reason.or_else(|| match node.worker(model) {
        None => Some(without_worker(node)),
        Some(worker) => worker_standing(node, worker, now),
    })
}

/// Why `node` gets no task with a model that it has no worker for.
pub(crate) fn other_model_standing(node: &LiveNode, now: Now) -> Hold {
    absent(node, now).or_else(|| node.hold.clone()).unwrap_or_else(|| without_worker(node))
}

fn without_worker(node: &LiveNode) -> Hold {
    if node.workers.is_empty() { Hold::Starting } else { Hold::OtherModel }
}

fn absent(node: &LiveNode, now: Now) -> Option<Hold> {
    match node.presence {
        Presence::Left => Some(Hold::Left),
        Presence::Linked if node.is_responsive(now) => None,
        Presence::Linked | Presence::Lost => Some(Hold::Unresponsive),
    }
}

fn worker_standing(node: &LiveNode, worker: &LiveWorker, now: Now) -> Option<Hold> {
    if worker.hold.is_some() {
        return worker.hold.clone();
    }
    if !worker.is_current(now) {
        return Some(Hold::EvidenceExpired);
    }
    if worker.tasks(now) >= u64::from(worker.places()) {
        return Some(Hold::Full { slots: worker.slots });
    }
    node.record(worker.model).hold(node.attestation, now.steady_ms)
}

/// How far a reason is from going away by itself: where there are more reasons than can be told, the nearest are.
pub(crate) fn distance(hold: &Hold) -> u8 {
    match hold {
        Hold::Full { .. } | Hold::Unproven => 0,
        Hold::Starting => 1,
        Hold::EvidenceExpired | Hold::Refused { .. } | Hold::WorkerDown { .. } | Hold::Owner { .. } => 2,
        Hold::Unresponsive | Hold::Draining | Hold::Excluded | Hold::Paused { .. } => 3,
        Hold::Ejected { .. } | Hold::Probation => 3,
        Hold::BelowTier | Hold::OutsideLocality | Hold::OtherModel => 4,
        // `Left`, and whatever comes later.
        _ => 5,
    }
}
