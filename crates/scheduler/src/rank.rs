//! The order of those that pass the gates.

use crate::{
    LiveNode, Now, Task,
    cost::{Estimate, Outlook, Rule, Sizes},
    gate::{SOON_MS, distance},
};
use protocol::{
    grant::{Refusal, RefusalKind},
    hold::Hold,
    ids::NodeId,
    limits,
    link::ModelEntry,
};
use std::cmp::{Ordering, Reverse};

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

/// A node that may be named.
struct Candidate<'l> {
    node: &'l LiveNode,
    estimate: Estimate,
    is_doubted: bool,
}

impl Candidate<'_> {
    /// Doubted ones last, then by cost, the higher score, and chance, which is drawn only where it decides.
    fn order(&self, other: &Self, entropy: u64) -> Ordering {
        let key = |own: &Self| (own.is_doubted, own.estimate.cost_us, Reverse(own.node.score_ppm));
        let chance = |own: &Self| (drawn(entropy, own.node.node), own.node.node);
        key(self).cmp(&key(other)).then_with(|| chance(self).cmp(&chance(other)))
    }
}

/// Orders nodes that have passed the gates, by what they promise.
///
/// The first is the better of two drawn among those as good as the best (power of two choices: M. Mitzenmacher, "The
/// power of two choices in randomized load balancing", IEEE TPDS 12(10), 2001): several orchestrators that see the same
/// loads do not all send to the same node. The others follow by cost.
pub(crate) fn order<'l>(
    nodes: impl IntoIterator<Item = (&'l LiveNode, &'l Outlook)>,
    rule: &Rule,
    task: &Task<'_>,
    now: Now,
    entropy: u64,
) -> Vec<Ranked> {
    let weighed = rule.weigh(Sizes::from(task));
    // Only the first of them, in order.
    let mut ranked: Vec<Candidate<'_>> = Vec::with_capacity(AS_GOOD_MAX + 1);
    for (node, outlook) in nodes {
        let outlook = if task.own.contains(&node.node) { outlook.free() } else { *outlook };
        let estimate = outlook.estimate(&weighed, &node.hazard.at_age(node.session_age_ms(now)));
        let candidate = Candidate { node, estimate, is_doubted: node.is_doubted(now) };
        // The index names the better ones first: most go to the end.
        let earlier = ranked.iter().rev().take_while(|other| candidate.order(other, entropy).is_lt()).count();
        let at = ranked.len() - earlier;
        if at < AS_GOOD_MAX {
            ranked.truncate(AS_GOOD_MAX - 1);
            ranked.insert(at, candidate);
        }
    }
    if let Some(best) = ranked.first() {
        let most_us = best.estimate.cost_us.saturating_mul(AS_GOOD_PERCENT) / 100;
        let as_good = |other: &&Candidate<'_>| other.is_doubted == best.is_doubted && other.estimate.cost_us <= most_us;
        let band = ranked.iter().take_while(as_good).enumerate();
        // The two with the lowest draw; of them the earlier in order.
        let mut two = [(u64::MAX, usize::MAX); 2];
        for (at, candidate) in band {
            let draw = (drawn(entropy, candidate.node.node), at);
            if draw < two[0] {
                two = [draw, two[0]];
            } else if draw < two[1] {
                two[1] = draw;
            }
        }
        let first = two[0].1.min(two[1].1);
        ranked[..=first].rotate_right(1);
    }
    ranked.truncate(limits::CANDIDATES_MAX);
    ranked.into_iter().map(|candidate| Ranked { node: candidate.node.node, estimate: candidate.estimate }).collect()
}

const _: () = assert!(AS_GOOD_MAX >= limits::CANDIDATES_MAX, "the first of the order are in it");

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
