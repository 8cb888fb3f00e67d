//! Gates: a named reason for every node that gets no work (promise P10).

use crate::{LiveNode, LiveWorker, Now, Presence, Task};
use protocol::{
    grant::Locality,
    hold::Hold,
    ids::ModelDigest,
    market::{self, Price},
};

/// When to look again where places are taken or workers load, in milliseconds: about one short answer.
pub(crate) const SOON_MS: u64 = 1_000;
/// How long it takes to start a worker that died, about.
const RESTART_MS: u64 = 2_000;

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
        Some(worker) => worker_standing(node, worker, now).or_else(|| too_dear(node, worker, task)),
    }
}

/// Why a worker that has a place costs more than the client gives, or has.
fn too_dear(node: &LiveNode, worker: &LiveWorker, task: &Task<'_>) -> Option<Hold> {
    if worker.price == Price::default() || task.own.contains(&node.node) {
        return None;
    }
    let request = task.request;
    if request.price_max.is_some_and(|max| !worker.price.is_within(max)) {
        return Some(Hold::AboveCeiling);
    }
    let needed_micro = market::amount_micro(worker.price, request.prompt_bucket_bytes, request.answer_bucket_tokens);
    let available_micro = task.funds_micro.filter(|available| *available < needed_micro)?;
    Some(Hold::Unfunded { needed_micro, available_micro })
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
        Hold::OutsideRegions { .. } | Hold::ModelNotAllowed | Hold::ProgramNotAllowed => 4,
        Hold::AboveCeiling | Hold::Unfunded { .. } | Hold::Blocked => 4,
        // `Left`, and whatever comes later.
        _ => 5,
    }
}

/// In how many milliseconds a node that is held back like this may be back by itself, if that can be said at all.
pub(crate) fn back_ms(node: &LiveNode, model: ModelDigest, hold: &Hold, is_needed: bool, now: Now) -> Option<u64> {
    match hold {
        Hold::Full { .. } | Hold::Unproven | Hold::Starting => Some(SOON_MS),
        // Its node starts another.
        Hold::WorkerDown { .. } => Some(RESTART_MS),
        // Who has been away for a moment is back in a moment, more likely than not; who has been away for long is not.
        Hold::Unresponsive => Some(now.steady_ms.saturating_sub(node.silent_from_steady_ms).max(SOON_MS)),
        Hold::Ejected { .. } | Hold::Probation => Some(node.record(model).back_ms(is_needed, now.steady_ms)),
        Hold::Paused { until_unix_ms: at } | Hold::Owner { lifts_unix_ms: at, .. } => {
            at.map(|at| at.saturating_sub(now.unix_ms).max(SOON_MS))
        }
        _ => None,
    }
}
