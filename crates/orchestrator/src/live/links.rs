//! How nodes are known to be there: by a link of their own, or through another orchestrator that has one.

use super::{
    Known, Live, NoRoom,
    entry::{Direct, Entry, Link, Rated, Way},
};
use crate::vetting::Vetted;
use protocol::{hold::Hold, ids::NodeId, limits, link::ToNode};
use scheduler::{LiveNode, Now, Presence, Record};
use tokio::sync::mpsc;
use transport::Connection;
use trust::{observations::Observations, score::Attestation, survival::Hazard};

/// How long a node that failed a probe comes after the others.
const DOUBTED_MS: u64 = 30_000;
/// How long a node comes after the others that was reported here, while its home looks after it.
const REPORTED_MS: u64 = 1_000;
/// Who speaks for a node says when it falls silent, and the silence of who speaks is noticed elsewhere.
const NEVER_STEADY_MS: u64 = u64::MAX / 2;

/// A probe on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Probe {
    node: NodeId,
    number: u64,
}

/// What another orchestrator says of a node.
pub(crate) struct Word {
    pub(crate) home: NodeId,
    /// Whether it hears from it.
    pub(crate) responsive: bool,
    /// How the node is; `None`: not known yet.
    pub(crate) vetted: Option<Vetted>,
}

impl Live {
    /// A node has a link; one that it had before is replaced. Returns the link's number. `known`: what was observed of
    /// it before.
    pub(crate) fn link(
        &mut self,
        node: NodeId,
        connection: Connection,
        outgoing: mpsc::Sender<Box<ToNode>>,
        known: &Known,
        now: Now,
        silence_max_ms: u64,
    ) -> Result<u64, NoRoom> {
        let silent_from_steady_ms = now.steady_ms.saturating_add(silence_max_ms);
        let is_remote = self.remote.remove(&node);
        let number = self.number();
        let link = Link { number, way: Way::Direct(Direct { connection, outgoing, probe: None }) };
        if is_remote && let Some(entry) = self.nodes.get_mut(&node) {
            // What it said to its other home holds until it says more here.
            entry.link = Some(link);
            self.change(node, now, |live| live.silent_from_steady_ms = silent_from_steady_ms);
        } else {
            self.make_room(node, true)?;
            self.enter(node, link, known, now);
            self.change(node, now, |live| live.silent_from_steady_ms = silent_from_steady_ms);
        }
        self.news.notify_one();
        Ok(number)
    }

    /// Room for one more node: those that are gone make it, and for a node with a link of its own those without.
    fn make_room(&mut self, node: NodeId, direct: bool) -> Result<(), NoRoom> {
        if !self.nodes.contains_key(&node) && self.nodes.len() >= limits::NODES_MAX {
            let gone = self.gone.first().map(|(_, gone)| *gone);
            let remote = self.remote.first().copied().filter(|_| direct);
            let other = gone.or(remote).ok_or(NoRoom)?;
            self.remove(other);
        }
        Ok(())
    }

    /// A node comes, or comes anew.
    fn enter(&mut self, node: NodeId, link: Link, known: &Known, now: Now) {
        let seen = &known.seen;
        let entry = self.nodes.entry(node).or_insert_with(|| Entry {
            since_unix_ms: now.unix_ms,
            standing: Some(Hold::Starting.code()),
            ..Entry::default()
        });
        if let Some(Link { way: Way::Direct(old), .. }) = entry.link.replace(link) {
            old.connection.close("replaced by a newer link of this machine");
            // It restarted before anybody noticed that it had gone: what it had is lost all the same.
            entry.departed_steady_ms = Some(now.steady_ms);
        }
        if let Some(since) = entry.gone_unix_ms.take() {
            self.gone.remove(&(since, node));
        }
        entry.offers.clear();
        entry.told.mark = None;
        entry.end_own();
        for (model, rates) in &seen.rates {
            if entry.rated_mut(*model).is_none() {
                let (model, rates, at_steady_ms) = (*model, *rates, now.steady_ms);
                entry.rated.push(Rated { model, rates, program: None, at_steady_ms, contradictions: 0 });
            }
        }
        self.settle_all(node, now);
        // What became of its tasks outlives the link.
        let mut live = match self.fleet.get(node) {
            Some(known) => LiveNode { records: known.records.clone(), ..LiveNode::new(node, now) },
            None => fresh(node, seen, now),
        };
        live.attestation = Attestation::Vouched;
        live.session_since_steady_ms = known.session_since_steady_ms;
        live.hazard = Hazard::at(&seen.sessions, now.unix_ms);
        if seen.network.samples > 0 {
            live.rtt_us = seen.network.rtt_us;
        }
        self.fleet.insert(live, now);
    }

    /// Another orchestrator speaks for a node. `agreed`: what the pool has agreed on about the node, looked up where it
    /// has just come; whether it has is returned. `None`: it has a link of its own, or there is no room for it.
    pub(crate) fn through(
        &mut self,
        node: NodeId,
        word: Word,
        agreed: impl FnOnce() -> Observations,
        now: Now,
    ) -> Option<bool> {
        if self.is_direct(node) {
            return None;
        }
        let is_there = self.remote.contains(&node) && self.is_linked(node);
        if self.home(node) != Some(word.home) {
            tracing::debug!(node = %node.short(), home = %word.home.short(), "reached through this orchestrator");
        }
        let link = Link { number: self.number(), way: Way::Through { home: word.home } };
        if is_there {
            self.nodes.get_mut(&node)?.link = Some(link);
        } else {
            self.make_room(node, false).ok()?;
            let known = Known { seen: agreed(), session_since_steady_ms: now.steady_ms };
            self.enter(node, link, &known, now);
            self.remote.insert(node);
        }
        let silent_from_steady_ms = match self.fleet.get(node) {
            _ if word.responsive => NEVER_STEADY_MS,
            Some(live) => live.silent_from_steady_ms.min(now.steady_ms),
            None => now.steady_ms,
        };
        match word.vetted {
            Some(vetted) => self.said(node, vetted, silent_from_steady_ms, now),
            None => self.change(node, now, |live| live.silent_from_steady_ms = silent_from_steady_ms),
        }
        Some(!is_there)
    }

    /// Nobody speaks for a node any more; `left`: it said goodbye. Nothing where it has a link of its own.
    pub(crate) fn lost(&mut self, node: NodeId, left: bool, now: Now) {
        if self.remote.remove(&node) {
            let presence = if left { Presence::Left } else { Presence::Lost };
            self.gone(node, presence, now);
        }
    }

    /// Who speaks for a node without a link of its own.
    pub(crate) fn home(&self, node: NodeId) -> Option<NodeId> {
        match self.nodes.get(&node)?.link.as_ref()?.way {
            Way::Through { home } => Some(home),
            Way::Direct(_) => None,
        }
    }

    /// The entry of a link that still counts.
    pub(super) fn of_link(&mut self, node: NodeId, link: u64) -> Option<&mut Entry> {
        self.nodes.get_mut(&node).filter(|entry| entry.link.as_ref().is_some_and(|own| own.number == link))
    }

    /// A link is gone. Whether it was the one that counted, and the node had said goodbye. `other`: who still speaks for
    /// the node; then it goes on as before.
    pub(crate) fn unlink(&mut self, node: NodeId, link: u64, other: Option<NodeId>, now: Now) -> Option<bool> {
        self.of_link(node, link)?;
        let left = self.fleet.get(node).is_some_and(|live| live.presence == Presence::Left);
        let number = self.number();
        match other.filter(|_| !left) {
            Some(home) => {
                let entry = self.nodes.get_mut(&node)?;
                entry.link = Some(Link { number, way: Way::Through { home } });
                entry.end_own();
                self.remote.insert(node);
                self.change(node, now, |live| {
                    live.probing = false;
                    live.silent_from_steady_ms = NEVER_STEADY_MS;
                });
            }
            None => self.gone(node, if left { Presence::Left } else { Presence::Lost }, now),
        }
        self.changed.insert(node);
        self.news.notify_one();
        Some(left)
    }

    fn gone(&mut self, node: NodeId, presence: Presence, now: Now) {
        let Some(entry) = self.nodes.get_mut(&node) else { return };
        entry.link = None;
        entry.gone_unix_ms = Some(now.unix_ms);
        entry.end_own();
        self.gone.insert((now.unix_ms, node));
        self.settle_all(node, now);
        self.change(node, now, |live| (live.probing, live.presence) = (false, presence));
    }

    /// Removes a node for good.
    pub(crate) fn forget(&mut self, node: NodeId) {
        if let Some(Link { way: Way::Direct(direct), .. }) = self.remove(node).and_then(|entry| entry.link) {
            direct.connection.close("removed from the pool");
        }
    }

    pub(super) fn remove(&mut self, node: NodeId) -> Option<Entry> {
        let mut entry = self.nodes.remove(&node)?;
        entry.end_own();
        for arriving in entry.arrivals.all() {
            self.shares.settled(arriving.client, false, 0);
        }
        if let Some(since) = entry.gone_unix_ms {
            self.gone.remove(&(since, node));
        }
        self.remote.remove(&node);
        if entry.direct().is_some() {
            self.changed.insert(node);
            self.news.notify_one();
        }
        self.ready.change(&entry.parts, &[]);
        self.routable -= usize::from(entry.counted);
        self.fleet.remove(node);
        Some(entry)
    }

    /// Tells every node with a link of its own. Where the queue is full the node does not read; it asks with its next link.
    pub(crate) fn tell_all(&self, message: &ToNode) {
        for direct in self.nodes.values().filter_map(Entry::direct) {
            let _ = direct.outgoing.try_send(Box::new(message.clone()));
        }
    }

    /// A node answered a probe.
    pub(crate) fn alive(&mut self, node: NodeId, link: u64, number: u64, now: Now, silence_max_ms: u64) {
        let Some(own) = self.of_link(node, link).and_then(Entry::direct_mut) else { return };
        let answered = own.probe == Some(number);
        if answered {
            own.probe = None;
        }
        self.change(node, now, |live| {
            live.probing &= !answered;
            live.silent_from_steady_ms = now.steady_ms.saturating_add(silence_max_ms);
        });
    }

    /// A node goes.
    pub(crate) fn goodbye(&mut self, node: NodeId, link: u64, now: Now) {
        if let Some(entry) = self.of_link(node, link) {
            entry.end_own();
            self.change(node, now, |live| live.presence = Presence::Left);
            self.news.notify_one();
        }
    }

    /// Asks a node for a sign of life; `None` where it has been asked already, or has no link of its own.
    pub(crate) fn probe(&mut self, node: NodeId, now: Now) -> Option<Probe> {
        let number = self.number();
        self.fleet.get(node).filter(|live| live.presence == Presence::Linked)?;
        let link = self.nodes.get_mut(&node)?.direct_mut().filter(|link| link.probe.is_none())?;
        link.probe = Some(number);
        // Where the queue is full the node does not read, and fails the probe rightly.
        let _ = link.outgoing.try_send(Box::new(ToNode::Probe { probe: number }));
        self.change(node, now, |live| live.probing = true);
        Some(Probe { node, number })
    }

    /// The time for an answer is over. Whether the node failed.
    pub(crate) fn probe_over(&mut self, probe: Probe, now: Now) -> bool {
        let Some(link) = self.nodes.get_mut(&probe.node).and_then(Entry::direct_mut) else { return false };
        if link.probe != Some(probe.number) {
            return false;
        }
        link.probe = None;
        self.change(probe.node, now, |live| {
            live.probing = false;
            live.silent_from_steady_ms = now.steady_ms;
            live.doubted_until_steady_ms = now.steady_ms + DOUBTED_MS;
        });
        true
    }

    /// A node without a link of its own was reported: others first, until its home has looked after it.
    pub(crate) fn reported(&mut self, node: NodeId, now: Now) {
        self.change(node, now, |live| {
            live.doubted_until_steady_ms = live.doubted_until_steady_ms.max(now.steady_ms + REPORTED_MS);
        });
    }
}

/// A node that was never here, with what was agreed on about it before.
fn fresh(node: NodeId, seen: &Observations, now: Now) -> LiveNode {
    let mut live = LiveNode::new(node, now);
    for (model, _) in &seen.rates {
        live.records.set(*model, Record::from_results(&seen.results));
    }
    live
}
