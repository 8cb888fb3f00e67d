//! The other members: what was heard of them, and how they are reached.

use crate::{
    locks::locked,
    message::{CATCH_UP, Here, Message},
    standing::HEARD_MS,
};
use bytes::Bytes;
use protocol::ids::NodeId;
use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex},
};

/// Epochs that the others hurry through for one who may not vote yet.
const WAIT_EPOCHS_MAX: u64 = 3;
/// More are not members.
const KNOWN_MAX: usize = 64;

type Send = Arc<dyn Fn(NodeId, u8, Bytes) -> bool + std::marker::Send + Sync>;

pub(crate) struct Peers {
    pub(crate) me: NodeId,
    pub(crate) send: Send,
    known: Mutex<BTreeMap<NodeId, Known>>,
    /// Who has sent what is not true, and what it was.
    liars: Mutex<BTreeMap<NodeId, String>>,
}

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Known {
    pub(crate) heard_unix_ms: u64,
    pub(crate) here: Option<Here>,
    /// In which epoch it said first that it may not vote yet.
    waits_since: Option<u64>,
}

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peers").field("me", &self.me).field("known", &self.known).finish_non_exhaustive()
    }
}

impl Peers {
    pub(crate) fn new(me: NodeId, send: Send) -> Self {
        Self { me, send, known: Mutex::default(), liars: Mutex::default() }
    }

    /// Something has come from a member.
    pub(crate) fn heard(&self, from: NodeId, unix_ms: u64) {
        self.update(from, |known| known.heard_unix_ms = unix_ms);
    }

    /// A member says where it is. `epoch` is where this one is.
    pub(crate) fn here(&self, from: NodeId, here: Here, epoch: u64) {
        self.update(from, |known| {
            known.here = Some(here);
            if here.waits {
                known.waits_since.get_or_insert(epoch);
            }
        });
    }

    /// Whether a member that is there waits for an epoch to end. Nobody waits for more than a few, whatever it says.
    pub(crate) fn somebody_waits(&self, now_unix_ms: u64, epoch: u64) -> bool {
        locked(&self.known).values().any(|known| {
            known.here.is_some_and(|here| here.waits && here.height > 0)
                && known.waits_since.is_some_and(|since| epoch <= since + WAIT_EPOCHS_MAX)
                && now_unix_ms.saturating_sub(known.heard_unix_ms) <= HEARD_MS
        })
    }

    fn update(&self, from: NodeId, change: impl FnOnce(&mut Known)) {
        let mut known = locked(&self.known);
        if from != self.me && (known.len() < KNOWN_MAX || known.contains_key(&from)) {
            change(known.entry(from).or_default());
        }
    }

    pub(crate) fn known(&self) -> BTreeMap<NodeId, Known> {
        locked(&self.known).clone()
    }

    /// Where others say that they are.
    pub(crate) fn places(&self) -> Vec<(NodeId, Here)> {
        locked(&self.known).iter().filter_map(|(peer, known)| Some((*peer, known.here?))).collect()
    }

    pub(crate) fn accuse(&self, peer: NodeId, why: String) {
        tracing::warn!(%peer, %why, "a member of the committee sends what is not true");
        let mut liars = locked(&self.liars);
        if liars.len() < KNOWN_MAX || liars.contains_key(&peer) {
            liars.insert(peer, why);
        }
    }

    pub(crate) fn liars(&self) -> Vec<(NodeId, String)> {
        locked(&self.liars).iter().map(|(peer, why)| (*peer, why.clone())).collect()
    }

    pub(crate) fn tell(&self, to: NodeId, message: &Message) -> bool {
        match message.encode() {
            Ok(bytes) => (self.send)(to, CATCH_UP, bytes.into()),
            Err(error) => {
                tracing::warn!(%error, "a message to a member of the committee is not sent");
                false
            }
        }
    }

    /// Says the same to several.
    pub(crate) fn tell_all(&self, to: &[NodeId], channel: u8, bytes: Vec<u8>) {
        let bytes = Bytes::from(bytes);
        for member in to.iter().filter(|member| **member != self.me) {
            (self.send)(*member, channel, bytes.clone());
        }
    }

    pub(crate) fn ask_all(&self, to: &[NodeId], message: &Message) {
        if let Ok(bytes) = message.encode() {
            self.tell_all(to, CATCH_UP, bytes);
        }
    }
}
