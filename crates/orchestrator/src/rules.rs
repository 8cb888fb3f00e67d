//! What the pool has agreed on about nodes, put into effect: its policy before nodes are ranked, and removals at once.
//!
//! A node that the policy keeps from work has a named reason, like any other that gets none, and takes no place among the
//! candidates. The policy is that of the newest block; what clients are shown of it may be a block older, and is judged by
//! the same rule once more (`anchor`).

use crate::{
    anchor, gossip, matching,
    shared::Shared,
    vetting::{Checked, Vetted},
};
use protocol::{
    grant::Tier,
    hold::Hold,
    ids::{ModelDigest, NodeId},
    link::ToNode,
    pool::PoolPolicy,
};
use registry::{Event, Member, Registry, keys};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::broadcast::error::RecvError,
    time::{MissedTickBehavior, interval, sleep},
};

/// A state that is taken over from other orchestrators comes without events: so often everything is looked at anyway.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// How often, and how long apart, is looked for what a committee that ends has signed.
const HANDOVER_TRIES: u32 = 50;
const HANDOVER_PAUSE: Duration = Duration::from_millis(200);

/// Why a pool's policy keeps a worker from work, if it does.
pub(crate) fn hold(
    policy: &PoolPolicy,
    member: &Member,
    model: ModelDigest,
    evidence: &Checked,
    is_program_allowed: impl FnOnce() -> bool,
    now_unix_ms: u64,
) -> Option<Hold> {
    let is_in = |regions: &[_]| member.region.as_ref().is_some_and(|region| regions.contains(region));
    if !policy.regions.is_empty() && !is_in(&policy.regions) {
        return Some(Hold::OutsideRegions { region: member.region.clone() });
    }
    if policy.models.as_ref().is_some_and(|models| !models.contains(&model)) {
        return Some(Hold::ModelNotAllowed);
    }
    // Beyond its own word, a node's tier is what the pool agreed on.
    let agreed = member.evidence.filter(|agreed| agreed.until_unix_ms > now_unix_ms);
    if evidence.tier.min(agreed.map_or(Tier::SelfSigned, |agreed| agreed.tier)) < policy.tier_min {
        return Some(Hold::BelowTier);
    }
    (policy.measured_only && !is_program_allowed()).then_some(Hold::ProgramNotAllowed)
}

/// The policy as it concerns one node.
pub(crate) struct Rules<'a> {
    registry: &'a Registry,
    about: Option<(&'a PoolPolicy, &'a Member)>,
}

impl<'a> Rules<'a> {
    pub(crate) fn of(registry: &'a Registry, node: NodeId) -> Self {
        Self { registry, about: registry.policy().zip(registry.member(node)) }
    }

    /// Why one of its workers gets no work, if so.
    pub(crate) fn hold(&self, model: ModelDigest, evidence: &Checked, now_unix_ms: u64) -> Option<Hold> {
        let (policy, member) = self.about?;
        hold(policy, member, model, evidence, || self.registry.allows(&evidence.measurement), now_unix_ms)
    }

    /// Notes the reasons with the workers that nothing else speaks against.
    pub(crate) fn apply(&self, vetted: &mut Vetted, now_unix_ms: u64) {
        for worker in &mut vetted.workers {
            if let (None, Some(evidence)) = (&worker.live.hold, &worker.evidence) {
                worker.live.hold = self.hold(worker.live.model, evidence, now_unix_ms);
            }
        }
    }
}

/// Acts on what is agreed on, as long as the orchestrator runs.
pub(crate) async fn follow(shared: Arc<Shared>) {
    let mut events = shared.member.events();
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let happened = tokio::select! {
            happened = events.recv() => happened,
            _ = ticks.tick() => {
                look_at_all(&shared).await;
                continue;
            }
        };
        match happened {
            Ok(happened) => {
                for event in &happened.events {
                    take(&shared, event).await;
                }
            }
            Err(RecvError::Lagged(_)) => look_at_all(&shared).await,
            Err(RecvError::Closed) => return,
        }
    }
}

async fn take(shared: &Arc<Shared>, event: &Event) {
    match event {
        Event::MemberRemoved { node } => put_out(shared, *node),
        Event::MemberDescribed { node } | Event::MemberAdmitted { node, .. } => look_at(shared, &[*node]),
        Event::PolicySet | Event::MeasurementSet { .. } => look_at_all(shared).await,
        Event::CommitteeChanged { epoch, .. } => {
            let (owner, epoch) = (Arc::clone(shared), *epoch);
            shared.spawn(async move { hand_over(&owner, epoch).await });
        }
        // Whoever only reads may do so no more.
        Event::StandingSet { standing: None, .. } => shared.removals.send_modify(|removals| *removals += 1),
        _ => {}
    }
}

/// Another committee has taken over: nodes with a link here learn it now, so that its permits hold with them.
async fn hand_over(shared: &Shared, epoch: u64) {
    let mut handovers = Vec::new();
    for _ in 0..HANDOVER_TRIES {
        handovers = shared.member.handovers(epoch.saturating_sub(1)).await;
        if !handovers.is_empty() {
            break;
        }
        // The signatures under the last block of an epoch may come a moment after the block.
        sleep(HANDOVER_PAUSE).await;
    }
    let Some(params) = shared.registry().state().read(&keys::params()) else { return };
    let newest = shared.anchors.current();
    let agreement = anchor::agreement(anchor::lineage(params.genesis, handovers), newest.as_deref());
    shared.live().tell_all(&ToNode::Agreed(Box::new(agreement)));
}

/// A machine was removed: its links end, and nothing that was known of it counts.
pub(crate) fn put_out(shared: &Shared, node: NodeId) {
    gossip::forget(shared, node);
    shared.live().forget(node);
    shared.observed().forget(node);
    shared.removals.send_modify(|removals| *removals += 1);
}

async fn look_at_all(shared: &Arc<Shared>) {
    let mut after = None;
    loop {
        let nodes = shared.live().ids_after(after);
        let Some(last) = nodes.last() else { return };
        after = Some(*last);
        look_at(shared, &nodes);
        tokio::task::yield_now().await;
    }
}

/// Judges some nodes anew.
fn look_at(shared: &Arc<Shared>, nodes: &[NodeId]) {
    let (now, mut removed, mut freed) = (shared.now(), Vec::new(), Vec::new());
    {
        let registry = shared.registry();
        let mut live = shared.live();
        for node in nodes {
            if registry.member(*node).is_some_and(|member| member.removed_unix_ms.is_some()) {
                removed.push(*node);
            } else {
                freed.extend(live.rule(*node, &Rules::of(&registry, *node), now));
            }
        }
    }
    removed.into_iter().for_each(|node| put_out(shared, node));
    freed.sort_unstable();
    freed.dedup();
    for model in freed {
        matching::serve(shared, model);
    }
}
