//! Members of one process, without a network: for tests, and for the committee of one that has nobody to reach.

use crate::locks::locked;
use bytes::Bytes;
use consensus::Network;
use protocol::ids::NodeId;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};
use tokio::sync::mpsc;

/// Messages that one member may not have looked at yet. More are lost, as on a network.
const QUEUE: usize = 4096;

/// Where messages are handed on. Clones are the same network.
#[derive(Debug, Clone, Default)]
pub struct Loopback(Arc<Mutex<Inner>>);

/// A message, its sender and its channel.
type Received = (NodeId, u8, Bytes);
/// Changes a message, or takes it away: sender, receiver, channel, message.
type Tamper = Arc<dyn Fn(NodeId, NodeId, u8, Bytes) -> Option<Bytes> + Send + Sync>;

#[derive(Default)]
struct Inner {
    members: BTreeMap<NodeId, mpsc::Sender<Received>>,
    away: BTreeSet<NodeId>,
    tamper: Option<Tamper>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").field("members", &self.members.keys()).field("away", &self.away).finish_non_exhaustive()
    }
}

impl Loopback {
    /// A member's end. Whoever had it before hears nothing more.
    pub fn join(&self, me: NodeId) -> Network {
        let (sender, receive) = mpsc::channel(QUEUE);
        locked(&self.0).members.insert(me, sender);
        let network = self.clone();
        let send = move |to: NodeId, channel: u8, message: Bytes| network.send(me, to, channel, message);
        Network { send: Arc::new(send), receive }
    }

    /// From now on nobody hears this member, and it hears nobody.
    pub fn cut(&self, member: NodeId) {
        locked(&self.0).away.insert(member);
    }

    /// It is reached again.
    pub fn mend(&self, member: NodeId) {
        locked(&self.0).away.remove(&member);
    }

    /// Every message goes through this from now on: sender, receiver, channel, message. `None` loses it.
    pub fn tamper(&self, change: impl Fn(NodeId, NodeId, u8, Bytes) -> Option<Bytes> + Send + Sync + 'static) {
        locked(&self.0).tamper = Some(Arc::new(change));
    }

    fn send(&self, from: NodeId, to: NodeId, channel: u8, message: Bytes) -> bool {
        let (sender, tamper) = {
            let inner = locked(&self.0);
            if inner.away.contains(&from) || inner.away.contains(&to) {
                return false;
            }
            let Some(sender) = inner.members.get(&to).cloned() else { return false };
            (sender, inner.tamper.clone())
        };
        let message = match tamper {
            Some(tamper) => tamper(from, to, channel, message),
            None => Some(message),
        };
        message.is_some_and(|message| sender.try_send((from, channel, message)).is_ok())
    }
}
