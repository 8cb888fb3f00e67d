//! What other orchestrators say of nodes, and which of them is believed. Pure: the time is an argument, and what follows
//! is returned.
//!
//! * Messages are taken in order; after a gap everything is asked for again, and what a whole round did not mention is
//!   forgotten. A home that says nothing for as long as a node may be silent speaks for nobody any more.
//! * Of a node with several homes, the one is believed that hears from it, whose evidence of it has been checked here,
//!   and which the node prefers, in this order. So a home that lies about evidence is passed over for one that does not.
//! * Only nodes that the pool has admitted as such are kept in mind, and only profiles that were asked for are looked at:
//!   as many a second as can be afforded.

use super::home::{Home, Order, state};
use crate::{
    live::Word,
    vetting::{Vetted, Vetter, shortened},
};
use protocol::{
    ids::NodeId,
    limits,
    peer::{
        live::{Doubt, Gossip, Load, Profile, Seen, Trial},
        preference,
    },
};
use scheduler::Now;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// A profile that did not come is asked for again after this time.
const ASKED_AGAIN_MS: u64 = 2_000;
/// Machines that are no nodes are remembered up to so many.
const STRANGERS_MAX: usize = 1 << 12;
/// What a home that is silent said is kept for so long: it may only have been restarted.
const KEPT_MS: u64 = 60_000;

pub(crate) struct Heard {
    own: NodeId,
    silence_max_ms: u64,
    homes: BTreeMap<NodeId, Home>,
    nodes: HashMap<NodeId, Known>,
    /// Nodes with a link here.
    direct: HashSet<NodeId>,
    /// Nodes whose profile is wanted, and when it was asked for.
    missing: BTreeMap<NodeId, Option<u64>>,
    /// Machines that are no nodes of the pool, as far as is known here, and who speaks for them.
    strangers: BTreeMap<NodeId, NodeId>,
}

/// What is said of one node.
struct Known {
    words: Vec<Said>,
    held: Option<Held>,
    vetter: Vetter,
}

/// What one home says of it.
struct Said {
    home: NodeId,
    preference: [u8; 32],
    load: Load,
    /// The round in which it was said the last time.
    turn: u64,
    profile: Standing,
}

/// What is known here of the profile that a home names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    /// None of its evidence holds.
    Refused,
    Unknown,
    Held,
}

/// The profile that is believed.
struct Held {
    mark: u64,
    vetted: Vetted,
}

/// What follows from a message.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    /// Nodes of which something may have changed, and whether they said goodbye.
    pub(crate) changed: BTreeMap<NodeId, bool>,
    /// Something was missed: everything is to be asked for again.
    pub(crate) want_all: bool,
    /// The peer wants to be told everything.
    pub(crate) tell_all: bool,
    /// Profiles that the peer wants.
    pub(crate) profiles_wanted: Vec<NodeId>,
    /// Nodes that it wants looked after.
    pub(crate) doubts: Vec<Doubt>,
    /// What first homes have found out.
    pub(crate) seen: Vec<Seen>,
    pub(crate) trials: Vec<Trial>,
    /// What it said of machines that are no nodes of the pool, or beyond what is kept in mind.
    pub(crate) refused: usize,
}

impl Heard {
    pub(crate) fn new(own: NodeId, silence_max_ms: u64) -> Self {
        Self {
            own,
            silence_max_ms,
            homes: BTreeMap::new(),
            nodes: HashMap::new(),
            direct: HashSet::new(),
            missing: BTreeMap::new(),
            strangers: BTreeMap::new(),
        }
    }

    /// A node has a link here, or not any more.
    pub(crate) fn set_direct(&mut self, node: NodeId, direct: bool) {
        if direct {
            self.direct.insert(node);
        } else {
            self.direct.remove(&node);
        }
        self.look_for(node);
    }

    /// Whether a node has a link here.
    pub(crate) fn is_direct(&self, node: NodeId) -> bool {
        self.direct.contains(&node)
    }

    /// Nodes with a link here.
    pub(crate) fn direct(&self) -> Vec<NodeId> {
        self.direct.iter().copied().collect()
    }

    /// Takes in a message of a peer. `is_lender`: whether a machine is a node of the pool.
    pub(crate) fn take(&mut self, from: NodeId, gossip: Gossip, is_lender: impl Fn(NodeId) -> bool, now: Now) -> Taken {
        let mut taken = Taken::default();
        let home = self.homes.entry(from).or_insert_with(|| Home::new(now.steady_ms));
        let order = home.order(&gossip, now.steady_ms);
        if order == Order::TooMany || order == Order::Late {
            return taken;
        }
        if home.is_back(now.steady_ms) {
            taken.changed.extend(self.spoken_for(from).into_iter().map(|node| (node, false)));
        }
        let home = self.homes.get_mut(&from).expect("entered above");
        taken.want_all = home.wants_all(now.steady_ms);
        taken.tell_all = gossip.all_wanted;
        taken.profiles_wanted = gossip.profiles_wanted;
        taken.profiles_wanted.truncate(limits::NODES_MAX);
        taken.doubts = gossip.doubts.into_iter().take_while(|_| home.may_doubt(now.steady_ms)).collect();
        if order == Order::OtherRound {
            return taken;
        }
        let (turn, is_whole) = (home.turn(), gossip.whole && home.is_complete());
        for load in gossip.loads {
            let node = load.node;
            let has_room = self.nodes.len() < limits::NODES_MAX || self.nodes.contains_key(&node);
            if has_room && is_lender(node) {
                self.said(from, turn, load);
                taken.changed.insert(node, false);
            } else {
                taken.refused += 1;
                if self.strangers.len() < STRANGERS_MAX {
                    self.strangers.insert(node, from);
                }
            }
        }
        for gone in gossip.gone {
            if self.unsaid(from, gone.node) {
                taken.changed.insert(gone.node, gone.left);
            }
        }
        if is_whole {
            let old = |known: &Known| known.words.iter().any(|said| said.home == from && said.turn != turn);
            let forgotten: Vec<NodeId> =
                self.nodes.iter().filter(|(_, known)| old(known)).map(|(node, _)| *node).collect();
            for node in forgotten {
                self.unsaid(from, node);
                taken.changed.insert(node, false);
            }
        }
        for profile in gossip.profiles {
            let node = profile.node;
            if self.profile(profile, now) {
                taken.changed.insert(node, false);
            }
        }
        // Only the first home's: one word is enough, and nobody speaks for nodes of others.
        let is_first = |node: &NodeId| self.first(*node) == Some(from);
        taken.seen = gossip.seen.into_iter().filter(|seen| is_first(&seen.node)).collect();
        taken.trials = gossip.trials.into_iter().filter(|trial| is_first(&trial.node)).collect();
        taken
    }

    /// Peers that spoke for machines which the pool has admitted since: what they said of those is asked for again. An
    /// orchestrator that catches up hears of nodes before it hears that they are any.
    pub(crate) fn admitted(&mut self, is_lender: impl Fn(NodeId) -> bool) -> BTreeSet<NodeId> {
        let mut peers = BTreeSet::new();
        self.strangers.retain(|node, peer| {
            let admitted = is_lender(*node);
            if admitted {
                peers.insert(*peer);
            }
            !admitted
        });
        peers
    }

    /// A home says how a node is.
    fn said(&mut self, from: NodeId, turn: u64, mut load: Load) {
        let node = load.node;
        load.hold = load.hold.map(shortened);
        load.workers.truncate(limits::MODELS_PER_NODE_MAX);
        load.workers.shrink_to_fit();
        let known = self.nodes.entry(node).or_insert_with(|| Known {
            words: Vec::new(),
            held: None,
            vetter: Vetter::new(node),
        });
        let is_held = known.held.as_ref().is_some_and(|held| held.mark == load.profile);
        match known.words.iter_mut().find(|said| said.home == from) {
            Some(said) => {
                if said.load.profile != load.profile {
                    said.profile = if is_held { Standing::Held } else { Standing::Unknown };
                }
                (said.load, said.turn) = (load, turn);
            }
            None => known.words.push(Said {
                home: from,
                preference: preference(node, from),
                profile: if is_held { Standing::Held } else { Standing::Unknown },
                load,
                turn,
            }),
        }
        self.look_for(node);
    }

    /// A home does not speak for a node any more. Whether it did.
    fn unsaid(&mut self, from: NodeId, node: NodeId) -> bool {
        let Some(known) = self.nodes.get_mut(&node) else { return false };
        let before = known.words.len();
        known.words.retain(|said| said.home != from);
        let did = known.words.len() < before;
        if known.words.is_empty() {
            self.nodes.remove(&node);
        }
        self.look_for(node);
        did
    }

    /// A profile has come. Whether it was asked for and holds.
    fn profile(&mut self, profile: Profile, now: Now) -> bool {
        let node = profile.node;
        let is_awaited = self.missing.get(&node).is_some_and(Option::is_some);
        let Some(known) = self.nodes.get_mut(&node).filter(|_| is_awaited) else { return false };
        let mark = profile.mark();
        let named = |said: &Said| said.load.profile == mark && said.profile == Standing::Unknown;
        if !known.words.iter().any(named) {
            return false;
        }
        let vetted = known.vetter.vet(state(profile), &[], now);
        let standing = if vetted.is_sound() { Standing::Held } else { Standing::Refused };
        for said in &mut known.words {
            if said.load.profile == mark {
                said.profile = standing;
            } else if standing == Standing::Held && said.profile == Standing::Held {
                // There is room for one.
                said.profile = Standing::Unknown;
            }
        }
        if standing == Standing::Held {
            known.held = Some(Held { mark, vetted });
        }
        self.look_for(node);
        standing == Standing::Held
    }

    /// Notes whether a node's profile is to be asked for: it is not where the node has a link here.
    fn look_for(&mut self, node: NodeId) {
        let best = self.best(node).filter(|_| !self.direct.contains(&node));
        if best.is_some_and(|said| said.profile == Standing::Unknown) {
            self.missing.entry(node).or_insert(None);
        } else {
            self.missing.remove(&node);
        }
    }

    /// Who would be believed, if its profile were known.
    fn best(&self, node: NodeId) -> Option<&Said> {
        let is_sound = |said: &Said| said.profile != Standing::Refused;
        self.words(node).max_by_key(|said| (said.load.responsive, is_sound(said), said.preference))
    }

    /// What is said of a node by homes that are not silent.
    fn words(&self, node: NodeId) -> impl Iterator<Item = &Said> {
        let words = self.nodes.get(&node).map(|known| known.words.as_slice()).unwrap_or_default();
        words.iter().filter(|said| self.homes.get(&said.home).is_some_and(|home| !home.is_silent()))
    }

    /// Profiles to be asked for now, and whom.
    pub(crate) fn asks(&mut self, most: usize, now: Now) -> Vec<(NodeId, NodeId)> {
        let is_due =
            |asked: &Option<u64>| asked.is_none_or(|asked| now.steady_ms.saturating_sub(asked) >= ASKED_AGAIN_MS);
        let due = self.missing.iter().filter(|(_, asked)| is_due(asked)).map(|(node, _)| *node);
        let due: Vec<NodeId> = due.take(most).collect();
        let mut asks = Vec::new();
        for node in due {
            if let Some(home) = self.best(node).map(|said| said.home) {
                self.missing.insert(node, Some(now.steady_ms));
                asks.push((home, node));
            }
        }
        asks
    }

    /// What is believed of a node; `None`: nobody speaks for it.
    pub(crate) fn word(&self, node: NodeId) -> Option<Word> {
        let said = self.words(node).max_by_key(|said| (said.load.responsive, said.profile, said.preference))?;
        let held = self.nodes.get(&node)?.held.as_ref().filter(|held| held.mark == said.load.profile);
        let vetted = held.map(|held| held.vetted.under(&said.load));
        Some(Word { home: said.home, responsive: said.load.responsive, vetted })
    }

    /// Who goes on speaking for a node that loses its link here: whoever hears from it.
    pub(crate) fn other_home(&self, node: NodeId) -> Option<NodeId> {
        self.word(node).filter(|word| word.responsive).map(|word| word.home)
    }

    /// Those that speak for a node.
    pub(crate) fn homes(&self, node: NodeId) -> Vec<NodeId> {
        self.words(node).map(|said| said.home).collect()
    }

    /// A node's first home: of those that hear from it, the one that it prefers.
    pub(crate) fn first(&self, node: NodeId) -> Option<NodeId> {
        let own = self.direct.contains(&node).then(|| (true, preference(node, self.own), self.own));
        let others = self.words(node).map(|said| (said.load.responsive, said.preference, said.home));
        others.chain(own).max().map(|(.., home)| home)
    }

    /// Whether this orchestrator is a node's first home.
    pub(crate) fn is_first(&self, node: NodeId) -> bool {
        self.direct.contains(&node) && self.first(node) == Some(self.own)
    }

    fn spoken_for(&self, home: NodeId) -> Vec<NodeId> {
        let by = |known: &Known| known.words.iter().any(|said| said.home == home);
        self.nodes.iter().filter(|(_, known)| by(known)).map(|(node, _)| *node).collect()
    }

    /// Notes who has fallen silent, and forgets who is no peer any more or has been silent for long. Returns the nodes
    /// of which that may change something.
    pub(crate) fn quiet(&mut self, is_peer: impl Fn(NodeId) -> bool, now: Now) -> BTreeSet<NodeId> {
        let mut changed = BTreeSet::new();
        let homes: Vec<NodeId> = self.homes.keys().copied().collect();
        for id in homes {
            let home = self.homes.get_mut(&id).expect("one of its keys");
            let fell_silent = home.falls_silent(self.silence_max_ms, now.steady_ms);
            let is_over = !is_peer(id) || home.silent_for_ms(now.steady_ms) >= self.silence_max_ms + KEPT_MS;
            if !fell_silent && !is_over {
                continue;
            }
            let nodes = self.spoken_for(id);
            if is_over {
                for node in &nodes {
                    self.unsaid(id, *node);
                }
                self.homes.remove(&id);
            }
            nodes.iter().for_each(|node| self.look_for(*node));
            changed.extend(nodes);
        }
        changed
    }

    /// Forgets a machine that is no node of the pool any more.
    pub(crate) fn forget(&mut self, node: NodeId) {
        self.nodes.remove(&node);
        self.missing.remove(&node);
    }
}

#[cfg(test)]
mod tests;
