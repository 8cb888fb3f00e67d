//! The order of those that pass the gates.

use crate::{
    LiveNode, Now, Task,
    cost::{Estimate, Rule, Sizes},
    gate::{SOON_MS, distance},
};
use protocol::{
    grant::{Refusal, RefusalKind},
    hold::Hold,
    ids::{ModelDigest, NodeId},
    limits,
    link::ModelEntry,
};
use std::cmp::Reverse;

/// Nodes whose cost is within so many hundredths of the best are as good: two of them are drawn.
const AS_GOOD_PERCENT: u64 = 110;
/// And they are among so many first.
const AS_GOOD_MAX: usize = 8;

/// Who may serve a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ranking<'a> {
    /// The model that was meant.
    pub model: &'a ModelEntry,
    /// Best first, between 1 and [`limits::CANDIDATES_MAX`].
    pub candidates: Vec<Ranked>,
}

/// One that may serve it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ranked {
    /// Which node.
    pub node: NodeId,
    /// What is expected of it.
    pub estimate: Estimate,
}

/// The key by which candidates are ordered: doubted ones last, then by cost, the higher score, and chance.
type Key = (bool, u64, Reverse<u32>, u64, NodeId);

/// Orders nodes that have passed the gates.
///
/// The first is the better of two drawn among those as good as the best (power of two choices: M. Mitzenmacher, "The
/// power of two choices in randomized load balancing", IEEE TPDS 12(10), 2001): several orchestrators that see the same
/// loads do not all send to the same node. The others follow by cost.
pub(crate) fn order<'l>(
    nodes: impl IntoIterator<Item = &'l LiveNode>,
    model: ModelDigest,
    rule: &Rule,
    task: &Task<'_>,
    now: Now,
    entropy: u64,
) -> Vec<Ranked> {
    let sizes = Sizes::from(task);
    let mut ranked: Vec<(Key, Estimate)> = Vec::with_capacity(32);
    for node in nodes {
        if let Some(worker) = node.worker(model) {
            let estimate = rule.estimate(node, worker, sizes, now);
            let chance = drawn(entropy, node.node);
            ranked
                .push(((node.is_doubted(now), estimate.cost_us, Reverse(node.score_ppm), chance, node.node), estimate));
        }
    }
    ranked.sort_unstable_by_key(|(key, _)| *key);
    if let Some(((doubted, best, ..), _)) = ranked.first().copied() {
        let as_good = |key: &Key| key.0 == doubted && key.1 <= best.saturating_mul(AS_GOOD_PERCENT) / 100;
        let band = ranked.iter().take(AS_GOOD_MAX).take_while(|(key, _)| as_good(key)).count();
        // The two with the lowest draw; of them the earlier in order.
        let mut two = [usize::MAX; 2];
        for at in 0..band {
            let lower = |than: usize| than == usize::MAX || ranked[at].0.3 < ranked[than].0.3;
            if lower(two[0]) {
                two = [at, two[0]];
            } else if lower(two[1]) {
                two[1] = at;
            }
        }
        let first = two[0].min(two[1]);
        ranked[..=first].rotate_right(1);
    }
    ranked.truncate(limits::CANDIDATES_MAX);
    ranked.into_iter().map(|(key, estimate)| Ranked { node: key.4, estimate }).collect()
}

/// A refusal with these reasons, of which each node has at most one. `back_ms`: when one of the nodes may be back by
/// itself.
pub(crate) fn refusal(mut reasons: Vec<(NodeId, Hold)>, back_ms: Option<u64>) -> Refusal {
    reasons.sort_unstable_by_key(|(node, hold)| (distance(hold), *node));
    reasons.truncate(limits::REASONS_MAX);
    // The nearest reason comes first: where anybody only has no place, the pool is overloaded.
    let (kind, retry_after_ms) = match reasons.first() {
        Some((_, Hold::Full { .. } | Hold::Unproven)) => (RefusalKind::Overloaded, Some(SOON_MS)),
        _ => (RefusalKind::NoNode, back_ms),
    };
    Refusal { kind, reasons, retry_after_ms: retry_after_ms.map(|ms| u32::try_from(ms).unwrap_or(u32::MAX)) }
}

/// A number that looks random for each node and each entropy, over every part of the id.
pub(crate) fn drawn(entropy: u64, node: NodeId) -> u64 {
    node.as_bytes()
        .chunks_exact(8)
        .fold(entropy, |state, part| mix(state ^ u64::from_le_bytes(part.try_into().expect("chunks of eight"))))
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).
pub(crate) fn mix(state: u64) -> u64 {
    let mut mixed = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
