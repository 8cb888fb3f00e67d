//! The order of those that pass the gates.

use crate::{
    LiveNode, Now,
    gate::{distance, gate},
};
use protocol::{
    grant::{MatchRequest, Refusal, RefusalKind},
    hold::Hold,
    ids::{ModelDigest, NodeId},
    limits,
    link::ModelEntry,
};
use registry::Registry;

/// Load is counted in millionths of a worker's slots.
const SLOTS_PPM: u64 = 1_000_000;
/// A doubted node comes after every other that has a place: a full worker with its queue weighs less.
const DOUBT_PPM: u64 = SLOTS_PPM << 32;
/// When to ask again where places are taken or workers load: about one short answer.
const RETRY_AFTER_MS: u32 = 1_000;

/// What is to be matched.
#[derive(Debug, Clone, Copy)]
pub struct Task<'a> {
    /// Who asks.
    pub client: NodeId,
    /// For what.
    pub request: &'a MatchRequest,
}

/// Who may serve a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ranking<'a> {
    /// The model that was meant.
    pub model: &'a ModelEntry,
    /// Best first, between 1 and [`limits::CANDIDATES_MAX`].
    pub candidates: Vec<NodeId>,
}

/// Ranks those of `live` that can take `task`, or says of each why not.
///
/// The order is that of the expected time to completion, as far as it is known: tasks relative to slots, doubted nodes
/// after the others. `entropy` is fresh for each call and orders equals, so that askers who see the same loads spread.
pub fn rank<'a, 'l>(
    snapshot: &'a Registry,
    live: impl IntoIterator<Item = &'l LiveNode> + Clone,
    task: &Task<'_>,
    now: Now,
    entropy: u64,
) -> Result<Ranking<'a>, Refusal> {
    let Some(model) = snapshot.model(&task.request.model) else {
        let known = snapshot.models().iter().map(|entry| entry.name.clone()).collect();
        return Err(Refusal { kind: RefusalKind::UnknownModel { known }, reasons: Vec::new(), retry_after_ms: None });
    };
    // The few best in order: inserted one by one, so that nothing grows with the pool.
    let mut best: Vec<(u64, u64, NodeId)> = Vec::with_capacity(limits::CANDIDATES_MAX + 1);
    for node in live.clone() {
        if gate(node, model.digest, task, now).is_none() {
            let key = (cost_ppm(node, model.digest, now), drawn(entropy, node.node), node.node);
            let at = best.partition_point(|other| *other < key);
            if at < limits::CANDIDATES_MAX {
                best.insert(at, key);
                best.truncate(limits::CANDIDATES_MAX);
            }
        }
    }
    if best.is_empty() {
        return Err(refusal(live, model.digest, task, now));
    }
    Ok(Ranking { model, candidates: best.into_iter().map(|(_, _, node)| node).collect() })
}

fn cost_ppm(node: &LiveNode, model: ModelDigest, now: Now) -> u64 {
    let load = node.worker(model).map_or(0, |worker| worker.tasks(now) * SLOTS_PPM / u64::from(worker.slots.max(1)));
    let doubt = if node.is_doubted(now) { DOUBT_PPM } else { 0 };
    load.min(DOUBT_PPM - 1) + doubt
}

/// A number that looks random for each node and each entropy: the finaliser of SplitMix64 (Steele, Lea and Flood, "Fast
/// splittable pseudorandom number generators", OOPSLA 2014) over every part of the id.
fn drawn(entropy: u64, node: NodeId) -> u64 {
    node.as_bytes().chunks_exact(8).fold(entropy, |state, part| {
        let part = u64::from_le_bytes(part.try_into().expect("chunks of eight"));
        let mut mixed = (state ^ part).wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    })
}

fn refusal<'l>(live: impl IntoIterator<Item = &'l LiveNode>, model: ModelDigest, task: &Task<'_>, now: Now) -> Refusal {
    let mut reasons: Vec<(NodeId, Hold)> =
        live.into_iter().filter_map(|node| Some((node.node, gate(node, model, task, now)?))).collect();
    reasons.sort_unstable_by_key(|(node, hold)| (distance(hold), *node));
    reasons.truncate(limits::REASONS_MAX);
    // The nearest reason comes first: where anybody is only full, the pool is overloaded.
    let (kind, retry_after_ms) = match reasons.first() {
        Some((_, Hold::Full { .. })) => (RefusalKind::Overloaded, Some(RETRY_AFTER_MS)),
        Some((_, Hold::Starting)) => (RefusalKind::NoNode, Some(RETRY_AFTER_MS)),
        _ => (RefusalKind::NoNode, None),
    };
    Refusal { kind, reasons, retry_after_ms }
}
