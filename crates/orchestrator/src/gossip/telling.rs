//! What each peer is still to be told: which nodes, never what of them. That is looked up when a message is made, so
//! what changes twice before it is told once.

use protocol::{
    ids::NodeId,
    peer::live::{Doubt, Gossip, Trial},
};
use scheduler::Budget;
use std::collections::BTreeMap;

/// A message is full when it has about so many bytes.
const MESSAGE_BYTES: usize = 48 << 10;
/// Doubts and trials that wait for one peer.
const WAITING_MAX: usize = 256;
/// A peer that asks for everything is told everything at once a few times, and then every other second.
const ROUNDS_AT_ONCE: u64 = 3;
const ROUNDS_MILLI_PER_SECOND: u64 = 500;

/// What of a node is to be told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Parts {
    pub(crate) load: bool,
    pub(crate) seen: bool,
    pub(crate) profile: bool,
}

impl Parts {
    fn add(&mut self, more: Self) {
        self.load |= more.load;
        self.seen |= more.seen;
        self.profile |= more.profile;
    }
}

/// What the peers are still to be told.
#[derive(Debug, Default)]
pub(crate) struct Telling {
    peers: BTreeMap<NodeId, Listener>,
    last_round: u64,
}

#[derive(Debug)]
struct Listener {
    round: u64,
    number: u64,
    rounds: Budget,
    told_steady_ms: Option<u64>,
    pending: BTreeMap<NodeId, Parts>,
    /// Where the last message ended, so that nobody is always last.
    after: Option<NodeId>,
    whole_due: bool,
    again: bool,
    all_wanted: bool,
    profiles_wanted: Vec<NodeId>,
    doubts: Vec<Doubt>,
    trials: Vec<Trial>,
}

impl Telling {
    /// `salt` keeps the rounds of this process apart from those of the one before.
    pub(crate) fn new(salt: u64) -> Self {
        Self { peers: BTreeMap::new(), last_round: salt }
    }

    /// These peers have a link now. Who is new is told of all of `nodes`, and so is who asked for it some time ago.
    pub(crate) fn peers(&mut self, linked: &[NodeId], nodes: impl Fn() -> Vec<NodeId>, now_steady_ms: u64) {
        self.peers.retain(|peer, _| linked.contains(peer));
        for peer in linked {
            let before = self.peers.get_mut(peer);
            if before.is_some_and(|before| !before.again || !before.rounds.withdraw(now_steady_ms)) {
                continue;
            }
            self.last_round = self.last_round.wrapping_add(1);
            let pending = nodes().into_iter().map(|node| (node, Parts { load: true, seen: true, profile: false }));
            let waiting = self.peers.remove(peer);
            let (rounds, all_wanted, doubts, trials) = match waiting {
                Some(before) => (before.rounds, before.all_wanted, before.doubts, before.trials),
                None => (Budget::new(0, ROUNDS_MILLI_PER_SECOND, ROUNDS_AT_ONCE), false, Vec::new(), Vec::new()),
            };
            let listener = Listener {
                round: self.last_round,
                number: 0,
                rounds,
                told_steady_ms: None,
                pending: pending.collect(),
                after: None,
                whole_due: true,
                again: false,
                all_wanted,
                profiles_wanted: Vec::new(),
                doubts,
                trials,
            };
            self.peers.insert(*peer, listener);
        }
    }

    /// Everybody is to be told of a node.
    pub(crate) fn changed(&mut self, node: NodeId, parts: Parts) {
        if parts != Parts::default() {
            for listener in self.peers.values_mut() {
                listener.pending.entry(node).or_default().add(parts);
            }
        }
    }

    /// A peer asks for profiles. Of nodes that are none of ours it will get nothing.
    pub(crate) fn profiles(&mut self, peer: NodeId, nodes: impl IntoIterator<Item = NodeId>) {
        if let Some(listener) = self.peers.get_mut(&peer) {
            for node in nodes {
                listener.pending.entry(node).or_default().add(Parts { profile: true, ..Parts::default() });
            }
        }
    }

    /// A peer wants to be told everything again.
    pub(crate) fn again(&mut self, peer: NodeId) {
        if let Some(listener) = self.peers.get_mut(&peer) {
            listener.again = true;
        }
    }

    /// Asks a peer for a new round.
    pub(crate) fn want_all(&mut self, peer: NodeId) {
        if let Some(listener) = self.peers.get_mut(&peer) {
            listener.all_wanted = true;
        }
    }

    /// Asks a peer for a profile.
    pub(crate) fn want_profile(&mut self, peer: NodeId, node: NodeId) {
        if let Some(listener) = self.peers.get_mut(&peer) {
            listener.profiles_wanted.push(node);
        }
    }

    /// Asks a home to look after a node.
    pub(crate) fn doubt(&mut self, home: NodeId, doubt: Doubt) {
        if let Some(listener) = self.peers.get_mut(&home)
            && listener.doubts.len() < WAITING_MAX
            && !listener.doubts.contains(&doubt)
        {
            listener.doubts.push(doubt);
        }
    }

    /// Everybody hears how a node was found.
    pub(crate) fn trial(&mut self, trial: Trial) {
        for listener in self.peers.values_mut().filter(|listener| listener.trials.len() < WAITING_MAX) {
            listener.trials.push(trial);
        }
    }

    /// Those who listen.
    pub(crate) fn listeners(&self) -> Vec<NodeId> {
        self.peers.keys().copied().collect()
    }

    /// The next message to a peer, if there is anything to say, or nothing was said for `quiet_max_ms`. `look` adds
    /// what there is to tell of a node, and says about how many bytes that takes.
    pub(crate) fn next(
        &mut self,
        peer: NodeId,
        quiet_max_ms: u64,
        now_steady_ms: u64,
        mut look: impl FnMut(NodeId, Parts, &mut Gossip) -> usize,
    ) -> Option<Gossip> {
        let listener = self.peers.get_mut(&peer)?;
        let is_quiet = listener.told_steady_ms.is_none_or(|told| now_steady_ms.saturating_sub(told) >= quiet_max_ms);
        if !is_quiet && !listener.has_news() {
            return None;
        }
        let mut gossip = Gossip { round: listener.round, number: listener.number, ..Gossip::default() };
        gossip.all_wanted = std::mem::take(&mut listener.all_wanted);
        gossip.profiles_wanted = std::mem::take(&mut listener.profiles_wanted);
        gossip.doubts = std::mem::take(&mut listener.doubts);
        gossip.trials = std::mem::take(&mut listener.trials);
        let mut bytes = 0;
        while bytes < MESSAGE_BYTES
            && let Some((node, parts)) = listener.take()
        {
            bytes += look(node, parts, &mut gossip);
        }
        if listener.pending.is_empty() {
            gossip.whole = std::mem::take(&mut listener.whole_due);
        }
        listener.number += 1;
        listener.told_steady_ms = Some(now_steady_ms);
        Some(gossip)
    }
}

impl Listener {
    fn has_news(&self) -> bool {
        let requests = self.all_wanted || !self.profiles_wanted.is_empty();
        requests || !self.doubts.is_empty() || !self.trials.is_empty() || !self.pending.is_empty()
    }

    fn take(&mut self) -> Option<(NodeId, Parts)> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = self.after.map_or(Unbounded, Excluded);
        let next = self.pending.range((from, Unbounded)).next().or_else(|| self.pending.iter().next());
        let node = *next?.0;
        self.after = Some(node);
        Some((node, self.pending.remove(&node)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::peer::live::Gone;

    const PEER: NodeId = NodeId([1; 32]);
    const NODE: NodeId = NodeId([2; 32]);
    const LOAD: Parts = Parts { load: true, seen: false, profile: false };

    fn next(telling: &mut Telling, now: u64) -> Option<Gossip> {
        telling.next(PEER, 500, now, |node, _, gossip| {
            gossip.gone.push(Gone { node, left: false });
            40
        })
    }

    #[test]
    fn a_round_tells_all_and_then_what_changes() {
        let nodes: Vec<NodeId> = (0..3_000u32)
            .map(|number| {
                let mut id = [0; 32];
                id[..4].copy_from_slice(&number.to_be_bytes());
                NodeId(id)
            })
            .collect();
        let mut telling = Telling::new(7);
        telling.changed(NODE, LOAD);
        telling.peers(&[PEER], || nodes.clone(), 0);
        let round: Vec<Gossip> = std::iter::from_fn(|| next(&mut telling, 0)).collect();
        assert!(round.len() > 1 && round.iter().enumerate().all(|(at, gossip)| gossip.number == at as u64));
        assert_eq!(round.iter().filter(|gossip| gossip.whole).count(), 1);
        assert!(round.last().unwrap().whole);
        let told: Vec<NodeId> = round.iter().flat_map(|gossip| &gossip.gone).map(|gone| gone.node).collect();
        assert_eq!(told, nodes);
        telling.changed(NODE, LOAD);
        telling.changed(NODE, LOAD);
        let news = next(&mut telling, 1).unwrap();
        assert_eq!((news.gone.len(), news.number, news.whole), (1, round.len() as u64, false), "once");
        assert_eq!(next(&mut telling, 500), None);
        let quiet = next(&mut telling, 501).unwrap();
        assert_eq!((quiet.gone.len(), quiet.number), (0, round.len() as u64 + 1), "all of it stands");
    }

    #[test]
    fn who_asks_for_everything_all_the_time_gets_it_now_and_then() {
        let mut telling = Telling::new(7);
        let mut rounds = std::collections::BTreeSet::new();
        for now in (0..10_000).step_by(100) {
            telling.peers(&[PEER], || vec![NODE], now);
            rounds.extend(next(&mut telling, now).map(|gossip| gossip.round));
            telling.again(PEER);
        }
        assert_eq!(rounds.len(), 1 + 3 + 4, "the first, those at once, and one every other second");
        telling.peers(&[], Vec::new, 10_000);
        assert_eq!(next(&mut telling, 10_000), None, "no link, no words");
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut telling = Telling::new(7);
        telling.peers(&[PEER], Vec::new, 0);
        for byte in 0..=255u8 {
            for model in [None, Some(protocol::ids::ModelDigest([byte; 32]))] {
                (0..2).for_each(|_| telling.doubt(PEER, Doubt { node: NodeId([byte; 32]), model }));
            }
        }
        assert_eq!(next(&mut telling, 0).unwrap().doubts.len(), WAITING_MAX);
        assert_eq!(next(&mut telling, 1), None);
    }
}
