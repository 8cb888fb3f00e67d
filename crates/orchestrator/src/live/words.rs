//! What other orchestrators are told of nodes with a link here, and what of theirs is believed beside it.

use super::{
    Live,
    entry::{Entry, Offer, Rated},
};
use crate::gossip::Parts;
use protocol::{
    hold::Hold,
    ids::{ModelDigest, NodeId},
    link::RateRow,
    peer::live::{Gone, Gossip, Load, Profile, ProfileWorker, Seen},
};
use scheduler::{LiveNode, Now, Presence};
use std::sync::Arc;
use tokio::sync::Notify;
use trust::observations::Rates;

/// How long a node comes after the others that its first home has ejected, if it is not back there before.
const SUSPECTED_MS: u64 = 5 * 60 * 1000;

impl Live {
    /// Whether a node has a link of its own.
    pub(crate) fn is_direct(&self, node: NodeId) -> bool {
        self.nodes.get(&node).is_some_and(|entry| entry.direct().is_some())
    }

    /// Nodes that others speak for.
    pub(crate) fn remote(&self) -> Vec<NodeId> {
        self.remote.iter().copied().collect()
    }

    /// Told of what should not wait to be told.
    pub(crate) fn news(&self) -> Arc<Notify> {
        Arc::clone(&self.news)
    }

    /// Something of a node may have to be told.
    pub(crate) fn touch(&mut self, node: NodeId) {
        if self.is_direct(node) {
            self.changed.insert(node);
        }
    }

    /// Some nodes of which others may have to be told; none: that was all.
    pub(crate) fn take_changed(&mut self) -> Vec<NodeId> {
        let mut taken = Vec::new();
        while taken.len() < super::SLICE
            && let Some(node) = self.changed.pop_first()
        {
            taken.push(node);
        }
        taken
    }

    /// What others have to be told of a node, if anything. What its tasks change is told by its first home only.
    pub(crate) fn untold(&mut self, node: NodeId, first: bool, now: Now) -> Parts {
        let (load, seen) = (self.load(node, now), if first { self.seen(node) } else { None });
        let Some(entry) = self.nodes.get_mut(&node) else { return Parts { load: true, ..Parts::default() } };
        let is_news = match (&entry.told.load, &load) {
            (None, None) => false,
            (Some(before), Some(after)) if first => before != after,
            (Some(before), Some(after)) => is_elsewise(before, after),
            _ => true,
        };
        if is_news {
            entry.told.load = load;
        }
        let is_seen = first && entry.told.seen != seen;
        if is_seen {
            entry.told.seen = seen.or_else(|| entry.told.seen.take().map(nothing));
        }
        Parts { load: is_news, seen: is_seen, profile: false }
    }

    /// Adds what others are to be told of a node. Returns about how many bytes that takes.
    pub(crate) fn tell(&mut self, node: NodeId, parts: Parts, now: Now, gossip: &mut Gossip) -> usize {
        let mut bytes = 0;
        if parts.load {
            match self.load(node, now) {
                Some(load) => {
                    bytes += 80
                        + 5 * load.workers.len()
                        + 4 * protocol::limits::WHY_CHARS_MAX * usize::from(load.hold.is_some());
                    gossip.loads.push(load);
                }
                None => {
                    let left = self.fleet.get(node).is_some_and(|live| live.presence == Presence::Left);
                    bytes += 40;
                    gossip.gone.push(Gone { node, left });
                }
            }
        }
        let Some(entry) = self.nodes.get(&node).filter(|entry| entry.direct().is_some()) else { return bytes };
        if parts.profile {
            let profile = entry.profile(node);
            bytes += 1024 + profile.workers.iter().map(|worker| 256 + worker.evidence.payload.len()).sum::<usize>();
            gossip.profiles.push(profile);
        }
        if let Some(seen) = entry.told.seen.as_ref().filter(|_| parts.seen) {
            bytes += 80 + 64 * seen.rates.len() + 32 * seen.ejected.len();
            gossip.seen.push(seen.clone());
        }
        bytes
    }

    /// How a node with a link here is.
    fn load(&mut self, node: NodeId, now: Now) -> Option<Load> {
        let entry = self.nodes.get_mut(&node).filter(|entry| entry.direct().is_some())?;
        let live = self.fleet.get(node).filter(|live| live.presence == Presence::Linked)?;
        let profile = match entry.told.mark {
            Some(mark) => mark,
            None => *entry.told.mark.insert(entry.profile(node).mark()),
        };
        let tasks = |offer: &Offer| live.worker(offer.model).map_or(0, |worker| worker.active_tasks);
        Some(Load {
            node,
            profile,
            responsive: live.is_responsive(now),
            hold: hold(entry, live),
            active_tasks: entry.active_tasks,
            workers: entry.sound().map(tasks).collect(),
        })
    }

    /// What was found out here about a node.
    fn seen(&self, node: NodeId) -> Option<Seen> {
        let (entry, live) = (self.nodes.get(&node)?, self.fleet.get(node)?);
        // What was agreed on before this start is known to all.
        let rated = entry.rated.iter().filter(|rated| rated.program.is_some());
        let rates: Vec<RateRow> = rated.map(|rated| row(rated.model, &rated.rates)).collect();
        let models = live.workers.iter().map(|worker| worker.model);
        let ejected: Vec<ModelDigest> = models.filter(|model| live.record(*model).is_ejected()).collect();
        (!rates.is_empty() || !ejected.is_empty()).then_some(Seen { node, rates, ejected })
    }

    /// A node's first home has found something out about it. Its measurements are believed, as they would be after they
    /// were agreed on. An ejection there is a suspicion here: others come first for some minutes, no more, since one
    /// orchestrator that lies must not eject a node for all.
    pub(crate) fn told(&mut self, seen: &Seen, now: Now) {
        let node = seen.node;
        for rate in seen.rates.iter().take(protocol::limits::MODELS_PER_NODE_MAX) {
            let rates = Rates { prefill_milli: rate.prefill_milli, decode_milli: rate.decode_milli };
            let Some(entry) = self.nodes.get_mut(&node) else { return };
            let is_known = entry.rated_mut(rate.model).is_some_and(|rated| rated.rates == rates);
            if entry.offer(rate.model).is_some() && !is_known {
                entry.set_rated(Rated {
                    model: rate.model,
                    rates,
                    program: None,
                    at_steady_ms: now.steady_ms,
                    contradictions: 0,
                });
                self.set_rates(node, rate.model, rates, now);
            }
        }
        self.suspect(node, !seen.ejected.is_empty(), now);
    }

    /// A node's first home says that it fails, or not any more.
    pub(crate) fn suspect(&mut self, node: NodeId, suspected: bool, now: Now) {
        let Some(entry) = self.nodes.get_mut(&node) else { return };
        let before = std::mem::replace(&mut entry.suspected, suspected);
        self.change(node, now, |live| match (before, suspected) {
            (_, true) => live.doubted_until_steady_ms = now.steady_ms + SUSPECTED_MS,
            (true, false) => live.doubted_until_steady_ms = live.doubted_until_steady_ms.min(now.steady_ms),
            (false, false) => {}
        });
    }

    /// A trial that is due is another's to make: it is asked, and the next is due later.
    pub(crate) fn handed_on(&mut self, node: NodeId, model: ModelDigest, now: Now) {
        self.fleet.canary_sent(node, model, now);
    }
}

/// Whether two loads differ in more than tasks.
fn is_elsewise(before: &Load, after: &Load) -> bool {
    let holds = |load: &Load| load.hold.clone().filter(|hold| !matches!(hold, Hold::Full { .. }));
    (before.profile, before.responsive, holds(before)) != (after.profile, after.responsive, holds(after))
}

fn nothing(seen: Seen) -> Seen {
    Seen { node: seen.node, rates: Vec::new(), ejected: Vec::new() }
}

fn row(model: ModelDigest, rates: &Rates) -> RateRow {
    RateRow { model, prefill_milli: rates.prefill_milli, decode_milli: rates.decode_milli }
}

/// Its own word on why it takes no work, or what was found about all that it has.
fn hold(entry: &Entry, live: &LiveNode) -> Option<Hold> {
    let refused =
        || live.workers.first().filter(|_| entry.sound().next().is_none()).and_then(|worker| worker.hold.clone());
    live.hold.clone().or_else(refused)
}

impl Entry {
    /// Workers whose evidence holds.
    fn sound(&self) -> impl Iterator<Item = &Offer> {
        self.offers.iter().filter(|offer| offer.evidence.is_some())
    }

    fn profile(&self, node: NodeId) -> Profile {
        let workers = self.sound().filter_map(|offer| {
            Some(ProfileWorker {
                model: offer.model,
                bytes: offer.bytes,
                slots: offer.slots,
                capacity: offer.capacity,
                context_tokens: offer.context_tokens,
                chat: offer.chat,
                writes: offer.writes,
                evidence: offer.evidence.as_ref()?.signed.clone(),
            })
        });
        let workers = workers.collect();
        Profile { node, label: self.label.clone(), addresses: self.addresses.clone(), workers }
    }
}
