//! What orchestrators tell each other of the nodes that are linked to them: channel [`super::LIVE`].
//!
//! An orchestrator that a node is linked to is its *home*, and speaks for it. A home says what it has to say in *rounds*:
//! the message with number 0 begins one, the last of what there was to tell then is marked [`Gossip::whole`], and from
//! then on only what changes is told. Messages may be lost, since nobody waits for a peer: who finds a gap in the numbers
//! asks for a new round. A message with nothing in it says that all that was said still stands; it comes at least every
//! second, so silence of a home is noticed.
//!
//! What seldom changes is apart from what changes with every task: a [`Load`] names its [`Profile`] by a hash, and who
//! does not have it asks for it. So two homes that say the same cost one profile, and a restart of a home none.
//!
//! **Cost.** A load takes about 48 bytes, and only a node's first home tells the changes that tasks make, at most ten
//! times a second; a profile takes about 2 kB, twice an hour. To each peer, 10,000 nodes cost about 60 bytes a second
//! plus 11 kB of renewed evidence when idle; 0.5 MB a second when each begins a task every two seconds; never more than
//! 5 MB a second. A new peer is told everything in 0.5 MB of loads and 20 MB of profiles.

use crate::{
    codec,
    grant::WorkerEvidence,
    hold::Hold,
    ids::{ModelDigest, NodeId},
    limits,
    link::RateRow,
    signed::Signed,
};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

const MARK: &str = "darkbloom 2026-11 node profile 1";

/// One message. Every list has elements of at least 32 bytes, so that decoding one takes little more memory than it is
/// long.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Gossip {
    /// Which round of its sender with this peer.
    pub round: u64,
    /// Its number in the round, from 0.
    pub number: u64,
    /// Everything has been told that there was to tell when the round began: what was not mentioned is no more.
    pub whole: bool,
    /// A new round is wanted: something was missed.
    pub all_wanted: bool,
    /// Nodes that are linked to the sender.
    pub loads: Vec<Load>,
    /// Nodes that are not any more.
    pub gone: Vec<Gone>,
    /// Profiles that were asked for.
    pub profiles: Vec<Profile>,
    /// Nodes whose profile is wanted.
    pub profiles_wanted: Vec<NodeId>,
    /// What the sender has found out about nodes.
    pub seen: Vec<Seen>,
    /// Nodes that the receiver, their home, is asked to look after.
    pub doubts: Vec<Doubt>,
    /// What became of doubts.
    pub trials: Vec<Trial>,
}

/// How a node is now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// Which.
    pub node: NodeId,
    /// [`Profile::mark`] of what else is to be known of it.
    pub profile: u64,
    /// Whether its home hears from it.
    pub responsive: bool,
    /// Why it takes no work now, if so.
    pub hold: Option<Hold>,
    /// Tasks that it runs now.
    pub active_tasks: u32,
    /// Tasks in each worker, in the order of the profile.
    pub workers: Vec<u32>,
}

/// What changes seldom of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// Which.
    pub node: NodeId,
    /// What people call the machine.
    pub label: String,
    /// Where it listens.
    pub addresses: Vec<SocketAddr>,
    /// Its workers whose evidence holds.
    pub workers: Vec<ProfileWorker>,
}

impl Profile {
    /// The profile by a hash of it.
    pub fn mark(&self) -> u64 {
        // What is too long for a message is told to nobody.
        let bytes = codec::encode(self, limits::GOSSIP_BYTES_MAX).unwrap_or_default();
        let hash = blake3::derive_key(MARK, &bytes);
        u64::from_le_bytes(*hash.first_chunk().expect("32 bytes are more than 8"))
    }
}

/// One worker of a profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProfileWorker {
    /// The model it has loaded.
    pub model: ModelDigest,
    /// The length of its file.
    pub bytes: u64,
    /// Tasks that it computes at once.
    pub slots: u32,
    /// Tasks that it takes before it is full.
    pub capacity: u32,
    /// The longest context that it gives.
    pub context_tokens: u32,
    /// Whether the model speaks in turns.
    pub chat: bool,
    /// Whether it generates text at all.
    pub writes: bool,
    /// Keys and measurement, signed by the node.
    pub evidence: Signed<WorkerEvidence>,
}

/// A node that has no link to the sender any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gone {
    /// Which.
    pub node: NodeId,
    /// Whether it said goodbye.
    pub left: bool,
}

/// What a node's first home has found out about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Which.
    pub node: NodeId,
    /// What was measured.
    pub rates: Vec<RateRow>,
    /// Models with which it is ejected there.
    pub ejected: Vec<ModelDigest>,
}

/// A node that somebody complained of to the sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doubt {
    /// Which.
    pub node: NodeId,
    /// Its worker that is to be tried; `None`: the node is to be probed.
    pub model: Option<ModelDigest>,
}

/// How a node's first home found it when it tried it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// Which.
    pub node: NodeId,
    /// With which model.
    pub model: ModelDigest,
    /// Whether it answered as it should.
    pub passed: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_is_as_short_as_it_is_said_to_be() {
        let load = Load {
            node: NodeId([255; 32]),
            profile: u64::MAX,
            responsive: true,
            hold: None,
            active_tasks: 100,
            workers: vec![100],
        };
        let one = codec::encode(&load, 64).unwrap();
        assert!((44..=52).contains(&one.len()), "{}", one.len());
        let quiet = codec::encode(&Gossip { round: u64::MAX, number: 1 << 40, ..Gossip::default() }, 64).unwrap();
        assert!(quiet.len() <= 32, "{}", quiet.len());
        let gossip = Gossip { loads: vec![load; 1_000], ..Gossip::default() };
        let bytes = codec::encode(&gossip, limits::GOSSIP_BYTES_MAX).unwrap();
        assert_eq!(codec::decode::<Gossip>(&bytes, limits::GOSSIP_BYTES_MAX).unwrap(), gossip);
    }

    #[test]
    fn profiles_are_told_apart() {
        let profile = |label: &str| Profile {
            node: NodeId([1; 32]),
            label: label.to_owned(),
            addresses: Vec::new(),
            workers: Vec::new(),
        };
        assert_eq!(profile("one").mark(), profile("one").mark());
        assert_ne!(profile("one").mark(), profile("other").mark());
    }
}
