//! From observations to facts and scores: at the end of each period, and at the end of the process.

use crate::{live::SLICE, shared::Shared};
use committee::SayError;
use protocol::{
    grant::ModelRef,
    ids::{ModelDigest, NodeId},
    link::ScoreRow,
};
use registry::{Fact, Registry};
use std::sync::Arc;
use tokio::time::MissedTickBehavior;
use trust::{
    observations::Observations,
    score::{Attestation, PoolMedian, Score, score},
    survival::Hazard,
};

/// Facts that are handed in, and so synced, together.
const FACTS_AT_ONCE: usize = 256;

/// Writes and scores again and again.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut ticks = tokio::time::interval(shared.timings.observations_every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        write(&shared, false).await;
        rescore(&shared).await;
    }
}

/// Makes what has changed facts of the pool.
pub(crate) async fn write(shared: &Shared, at_the_end: bool) {
    let nodes = shared.observed().nodes();
    for slice in nodes.chunks(FACTS_AT_ONCE) {
        share_out(shared, slice);
        let due = shared.observed().due(slice, at_the_end, shared.now());
        let facts = due.into_iter().map(|(node, epoch, observations)| Fact::Observed { node, epoch, observations });
        // Handed in together, they are agreed on together.
        let written = futures_util::future::join_all(facts.map(|fact| shared.say(vec![fact]))).await;
        for error in written.into_iter().filter_map(Result::err) {
            // A member may have been removed meanwhile.
            if !matches!(error, SayError::Rejected(_)) {
                tracing::warn!(%error, "observations were not written");
                return;
            }
            tracing::debug!(%error, "observations of a node are no fact");
        }
    }
}

/// Of the nodes with a link here, those whose first home this is are ours to write.
fn share_out(shared: &Shared, nodes: &[NodeId]) {
    let firsts: Vec<(NodeId, bool)> = {
        let gossip = shared.gossip();
        nodes.iter().filter_map(|node| Some((*node, gossip.first_of_homes(*node)?))).collect()
    };
    let registry = shared.registry();
    let mut observed = shared.observed();
    for (node, is_first) in firsts {
        let agreed = registry.observed_epoch(node).zip(registry.observations(node));
        observed.set_ours(node, is_first, agreed, shared.now());
    }
}

/// What is known of a node: of one that another observes, what was agreed on.
fn seen_of(shared: &Shared, node: NodeId) -> Option<Observations> {
    let is_ours = shared.gossip().is_first_home(node);
    let observed = shared.observed().of(node).cloned();
    if is_ours && observed.is_some() {
        return observed;
    }
    let agreed = shared.registry().observations(node).cloned();
    agreed.or(observed)
}

/// Scores every node against the pool's median, and tells matching.
pub(crate) async fn rescore(shared: &Shared) {
    let mut nodes = shared.observed().nodes();
    nodes.extend(shared.live().remote());
    let mut seen: Vec<(NodeId, Observations)> = Vec::with_capacity(nodes.len());
    for slice in nodes.chunks(SLICE) {
        seen.extend(slice.iter().filter_map(|node| Some((*node, seen_of(shared, *node)?))));
        tokio::task::yield_now().await;
    }
    let reference = reference(&shared.registry());
    let median = match reference {
        Some(model) => PoolMedian::of(model, seen.iter().map(|(_, seen)| seen)),
        None => PoolMedian::default(),
    };
    for slice in seen.chunks(SLICE) {
        let now = shared.now();
        for (node, seen) in slice {
            let scored = score(seen, &median, attestation(), now.unix_ms);
            let hazard = Hazard::at(&seen.sessions, now.unix_ms);
            shared.live().scored(*node, row(&scored), hazard, now);
        }
        tokio::task::yield_now().await;
    }
    *shared.median() = median;
}

/// The score of a node that has just come or was measured.
pub(crate) fn score_one(shared: &Shared, node: NodeId) {
    let now = shared.now();
    let Some(seen) = seen_of(shared, node) else { return };
    let mut median = *shared.median();
    if median.model.is_none() || median.rates.prefill_milli == 0 {
        // The first that is measured is the measure.
        let reference = reference(&shared.registry());
        if let Some(model) = reference {
            median = PoolMedian::of(model, [&seen]);
        }
    }
    let scored = score(&seen, &median, attestation(), now.unix_ms);
    shared.live().scored(node, row(&scored), Hazard::at(&seen.sessions, now.unix_ms), now);
}

/// The model by which machines are compared: the pool's default.
fn reference(registry: &Registry) -> Option<ModelDigest> {
    registry.model(&ModelRef::Name("default".to_owned())).map(|entry| entry.digest)
}

/// Who is a member was admitted by the pool's ticket: the pool vouches for it.
fn attestation() -> Attestation {
    Attestation::Vouched
}

fn row(score: &Score) -> ScoreRow {
    let ppm = |part: f64| (part.clamp(0.0, 1.0) * 1e6).round() as u32;
    ScoreRow {
        total_ppm: ppm(score.total),
        attestation_ppm: ppm(score.attestation),
        hardware_ppm: ppm(score.hardware),
        network_ppm: ppm(score.network),
        uptime_ppm: ppm(score.uptime),
        results_ppm: ppm(score.results),
    }
}
