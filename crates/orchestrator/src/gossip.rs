//! What orchestrators tell each other of the nodes that are linked to them, so that any of them matches tasks to any
//! node. In memory and by the way: no match waits for it, and none of it is ever agreed on.
//!
//! * **Homes.** An orchestrator that a node is linked to is its home, and speaks for it ([`protocol::peer::live`]). A node
//!   has two. Where it has a link, the link counts, and what others say of it is only noted; when the link breaks
//!   and another home still hears from the node, it goes on through that one, as if nothing had happened. Where it has
//!   none, the home that the node prefers is believed, of those that hear from it.
//! * **What is believed of another.** Load, as a node's own word about it would be. Never evidence: that is vetted here
//!   by the same rules as on a link, and a home whose evidence does not hold is passed over. Never membership: only who
//!   is a node of the pool by what was agreed on is taken in. An ejection only as a suspicion: the node comes after the
//!   others for some minutes; a passed trial brings back a node that was ejected here. So an orchestrator that lies can
//!   make a node wait, or be tried in vain; it can not take it from the others' clients.
//! * **Once.** Measurements, trials and observations are made by a node's first home. Whoever sees a node fail without
//!   being its first home asks that one to look after it, and hears what became of it.
//! * **Silence.** A home that is not heard for as long as a node may be silent speaks for nobody; its nodes go on through
//!   their other homes, or are unresponsive.
//!
//! Bounded: nodes by [`protocol::limits::NODES_MAX`], messages and complaints of a peer by rates, signatures by the
//! profiles that are asked for.

mod heard;
mod home;
mod telling;

pub(crate) use telling::Parts;

use crate::{
    clock::millis, epochs, ledger, live::Wish, matching, measuring, peers::Message, rules::Rules, shared::Shared,
};
use heard::{Heard, Taken};
use protocol::{
    codec,
    ids::{ModelDigest, NodeId},
    limits,
    link::Role,
    peer::{
        LIVE,
        live::{Doubt, Gossip, Trial},
    },
};
use registry::Registry;
use scheduler::Now;
use std::{sync::Arc, time::Duration};
use telling::Telling;
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval, sleep},
};

/// What changes travels together for so long; who comes or goes is told at once.
const TELL_EVERY: Duration = Duration::from_millis(100);
/// A peer hears that nothing has changed so often: twice before it takes this one for silent. Most of what an idle
/// committee sends is this, and QUIC's acknowledgement of it.
const QUIET_MAX: Duration = Duration::from_millis(2_400);
/// Messages to one peer at a time.
const MESSAGES_AT_ONCE: usize = 8;
/// Profiles that are asked for at a time: their signatures are what costs, 50 µs or so each.
const ASKS_AT_ONCE: usize = 256;
/// Nodes that are brought up to date before locks are free for others.
const SLICE: usize = crate::live::SLICE;

/// What is said to other orchestrators, and by them.
pub(crate) struct Exchange {
    heard: Heard,
    telling: Telling,
}

impl Exchange {
    pub(crate) fn new(own: NodeId, silence_max: Duration) -> Self {
        Self { heard: Heard::new(own, millis(silence_max)), telling: Telling::new(matching::entropy()) }
    }

    /// Whether this orchestrator is a node's first home.
    pub(crate) fn is_first_home(&self, node: NodeId) -> bool {
        self.heard.is_first(node)
    }

    /// The same of a node with a link here; `None`: it has none.
    pub(crate) fn first_of_homes(&self, node: NodeId) -> Option<bool> {
        self.heard.is_direct(node).then(|| self.heard.is_first(node))
    }
}

/// Listens and tells until the orchestrator ends.
pub(crate) async fn run(shared: Arc<Shared>, mut incoming: mpsc::Receiver<Message>) {
    let news = shared.live().news();
    let mut ticks = interval(TELL_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            message = incoming.recv() => {
                let Some((from, _, message)) = message else { return };
                take(&shared, from, &message).await;
            }
            _ = ticks.tick() => {
                quiet(&shared).await;
                tell(&shared).await;
            }
            () = news.notified() => tell(&shared).await,
        }
    }
}

/// A node has a link here now.
pub(crate) fn linked(shared: &Shared, node: NodeId) {
    shared.gossip().heard.set_direct(node, true);
}

/// A node's link is gone. Where another home still speaks for it, it goes on through that one. Whether the link was the
/// one that counted, and the node had said goodbye.
pub(crate) fn unlinked(shared: &Shared, node: NodeId, link: u64) -> Option<bool> {
    let now = shared.now();
    let mut gossip = shared.gossip();
    let other = gossip.heard.other_home(node);
    let left = shared.live().unlink(node, link, other, now)?;
    gossip.heard.set_direct(node, false);
    Some(left)
}

/// Asks who may look after a node to do so: its first home to try a worker, all its homes to probe it.
pub(crate) fn doubt(shared: &Shared, node: NodeId, model: Option<ModelDigest>) {
    let mut gossip = shared.gossip();
    let homes = match model {
        Some(_) => gossip.heard.first(node).into_iter().collect(),
        None => gossip.heard.homes(node),
    };
    for home in homes {
        gossip.telling.doubt(home, Doubt { node, model });
    }
    drop(gossip);
    shared.live().news().notify_one();
}

/// A trial here showed how a node is.
pub(crate) fn tried(shared: &Shared, node: NodeId, model: ModelDigest, passed: bool) {
    shared.gossip().telling.trial(Trial { node, model, passed });
}

/// Whether a machine is a node of the pool.
fn is_lender(registry: &Registry, node: NodeId) -> bool {
    registry.member(node).is_some_and(|member| member.has_role(Role::Node))
}

/// Takes in what a peer says.
async fn take(shared: &Arc<Shared>, from: NodeId, message: &[u8]) {
    let gossip = match codec::decode::<Gossip>(message, limits::GOSSIP_BYTES_MAX) {
        Ok(gossip) => gossip,
        Err(error) => {
            shared.counters.gossip_malformed.count();
            tracing::warn!(peer = %from.short(), %error, "an orchestrator said what is no message");
            return;
        }
    };
    let now = shared.now();
    let taken = {
        let registry = shared.registry();
        let mut exchange = shared.gossip();
        let mut taken = exchange.heard.take(from, gossip, |node| is_lender(&registry, node), now);
        if taken.want_all {
            exchange.telling.want_all(from);
        }
        if taken.tell_all {
            exchange.telling.again(from);
        }
        exchange.telling.profiles(from, std::mem::take(&mut taken.profiles_wanted));
        taken
    };
    let Taken { changed, doubts, seen, trials, refused, .. } = taken;
    shared.counters.gossip_refused.add(refused as u64);
    apply(shared, changed.into_iter().collect()).await;
    for seen in seen {
        shared.live().told(&seen, now);
    }
    for trial in trials {
        take_trial(shared, trial);
    }
    for doubt in doubts {
        look_after(shared, doubt);
    }
}

/// Brings matching in line with what is said of some nodes, and whether they said goodbye.
async fn apply(shared: &Arc<Shared>, nodes: Vec<(NodeId, bool)>) {
    let mut served = Vec::new();
    for slice in nodes.chunks(SLICE) {
        let (now, mut new) = (shared.now(), Vec::new());
        {
            let registry = shared.registry();
            let gossip = shared.gossip();
            let mut live = shared.live();
            for (node, left) in slice {
                // Who is its first home may have changed.
                live.touch(*node);
                let Some(mut word) = gossip.heard.word(*node) else {
                    live.lost(*node, *left, now);
                    continue;
                };
                if let Some(vetted) = &mut word.vetted {
                    Rules::of(&registry, *node).apply(vetted, now.unix_ms);
                    ledger::price(&registry, *node, &mut vetted.workers);
                }
                let models = word.vetted.iter().flat_map(|vetted| &vetted.workers).map(|worker| worker.live.model);
                let models: Vec<ModelDigest> = models.collect();
                let agreed = || registry.observations(*node).cloned().unwrap_or_default();
                let Some(is_new) = live.through(*node, word, agreed, now) else { continue };
                for model in models {
                    if !served.contains(&model) {
                        served.push(model);
                    }
                }
                if is_new {
                    new.push(*node);
                }
            }
        }
        for node in new {
            shared.grudges().second_chance(node);
            epochs::score_one(shared, node);
        }
        tokio::task::yield_now().await;
    }
    for model in served {
        matching::serve(shared, model);
    }
}

/// A node's first home has tried it. That it passed brings it back where it was ejected; that it failed is a suspicion.
fn take_trial(shared: &Arc<Shared>, trial: Trial) {
    let Trial { node, model, passed } = trial;
    let now = shared.now();
    if !passed {
        shared.live().suspect(node, true, now);
        return;
    }
    {
        let mut live = shared.live();
        live.suspect(node, false, now);
        if live.record_of(node, model).is_ejected() && !live.is_tried_enough(node, model, now) {
            live.tried(node, model, true, now);
        }
    }
    shared.grudges().second_chance(node);
    matching::serve(shared, model);
}

/// A peer complains of a node that is linked here.
fn look_after(shared: &Arc<Shared>, doubt: Doubt) {
    shared.counters.doubts.count();
    match doubt.model {
        None => probe(shared, doubt.node),
        Some(model) if shared.gossip().is_first_home(doubt.node) => {
            measuring::wish(shared, doubt.node, model, Wish::Try);
        }
        // It is another's to try by now, and the peer will ask that one.
        Some(_) => {}
    }
}

/// Probes a node, where it has a link here and is not being probed.
pub(crate) fn probe(shared: &Arc<Shared>, node: NodeId) {
    let probe = shared.live().probe(node, shared.now());
    let Some(probe) = probe else { return };
    shared.counters.probes.count();
    let owner = Arc::clone(shared);
    shared.spawn(async move {
        sleep(owner.timings.probe_max).await;
        let now = owner.now();
        if owner.live().probe_over(probe, now) {
            owner.counters.probes_failed.count();
        }
    });
}

/// Notes which homes have fallen silent, and who is no node of the pool any more.
async fn quiet(shared: &Arc<Shared>) {
    let now = shared.now();
    {
        let registry = shared.registry();
        let mut exchange = shared.gossip();
        for peer in exchange.heard.admitted(|node| is_lender(&registry, node)) {
            exchange.telling.want_all(peer);
        }
    }
    let changed = shared.gossip().heard.quiet(|home| shared.peers.is_peer(home), now);
    apply(shared, changed.into_iter().map(|node| (node, false)).collect()).await;
}

/// What others say of a node counts no more.
pub(crate) fn forget(shared: &Shared, node: NodeId) {
    shared.gossip().heard.forget(node);
}

/// Forgets nodes that others speak for and that the pool has removed.
pub(crate) fn sweep(shared: &Shared) {
    let remote = shared.live().remote();
    let removed: Vec<NodeId> = {
        let registry = shared.registry();
        remote.into_iter().filter(|node| !is_lender(&registry, *node)).collect()
    };
    for node in removed {
        shared.gossip().heard.forget(node);
        shared.live().forget(node);
    }
}

/// Notes what others are to be told of some nodes that have changed; false where there are none.
fn note_changes(shared: &Shared, now: Now) -> bool {
    let mut gossip = shared.gossip();
    let mut live = shared.live();
    let changed = live.take_changed();
    for node in &changed {
        let parts = live.untold(*node, gossip.heard.is_first(*node), now);
        gossip.telling.changed(*node, parts);
    }
    !changed.is_empty()
}

/// Tells each peer what it does not know yet.
async fn tell(shared: &Arc<Shared>) {
    let now = shared.now();
    let linked = shared.peers.linked();
    while note_changes(shared, now) {
        tokio::task::yield_now().await;
    }
    let listeners = {
        let mut gossip = shared.gossip();
        let Exchange { heard, telling } = &mut *gossip;
        telling.peers(&linked, || heard.direct(), now.steady_ms);
        for (home, node) in heard.asks(ASKS_AT_ONCE, now) {
            telling.want_profile(home, node);
        }
        telling.listeners()
    };
    let quiet_max_ms = millis(QUIET_MAX.min(shared.timings.silence_max * 2 / 5));
    for peer in listeners {
        for _ in 0..MESSAGES_AT_ONCE {
            let next = {
                let mut gossip = shared.gossip();
                let mut live = shared.live();
                let look = |node, parts, next: &mut Gossip| live.tell(node, parts, now, next);
                gossip.telling.next(peer, quiet_max_ms, now.steady_ms, look)
            };
            let Some(next) = next else { break };
            match codec::encode(&next, limits::GOSSIP_BYTES_MAX) {
                // What is lost on the way leaves a gap, and is asked for again.
                Ok(bytes) => drop(shared.peers.send(peer, LIVE, &bytes)),
                Err(error) => tracing::warn!(%error, "nodes that cannot be told of"),
            }
            tokio::task::yield_now().await;
        }
    }
}
