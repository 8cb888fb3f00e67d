//! The engine's channels over a [`Network`]. Queues are bounded, what does not fit is dropped, and nobody waits.
//!
//! The first three channels belong to the engine of one epoch. It takes a message of another epoch for an attack by its
//! sender, so on these the epoch stands in front of each message, and each engine hears only its own.

use crate::{
    CHANNELS,
    scheme::{node_id, public_key},
};
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use commonware_actor::{Feedback, Unreliable};
use commonware_cryptography::ed25519::PublicKey;
use commonware_p2p::{
    BlockedSubscription, Blocker, CheckedSender, LimitedSender, PeerSetSubscription, PeerSetUpdate, Provider, Receiver,
    Recipients, TrackedPeers,
};
use commonware_runtime::{IoBuf, IoBufs};
use commonware_utils::{
    NZUsize,
    channel::{mpsc, ring},
    ordered::Set,
};
use protocol::ids::NodeId;
use std::{
    collections::BTreeMap,
    fmt,
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicU64, atomic::Ordering},
    time::SystemTime,
};

/// Messages that wait in one channel. It also sizes the engine's mailboxes.
const QUEUE: NonZeroUsize = NZUsize!(1024);
/// Messages that wait in one channel of an epoch that has not begun here, and how long they may be: votes and certificates
/// of 16 members. Without them a member that enters later than others would miss the first vote, and the first round would
/// last until its timeout.
const EARLY: NonZeroUsize = NZUsize!(256);
const EARLY_BYTES_MAX: usize = 4 << 10;
/// Hints that wait.
const HINTS: usize = 64;
pub(crate) const BLOCKS: u8 = 3;
pub(crate) const BACKFILL: u8 = 4;
const OF_EPOCHS: u8 = 3;
const EPOCH_BYTES: usize = 8;

type Queue = mpsc::Sender<(PublicKey, IoBuf)>;
type Send = Arc<dyn Fn(NodeId, u8, Bytes) -> bool + std::marker::Send + Sync>;

/// A member speaks of an epoch that this one is not in yet.
pub(crate) struct Ahead {
    pub(crate) epoch: u64,
    pub(crate) member: PublicKey,
}

/// Where messages go and come from.
#[derive(Clone)]
pub(crate) struct Router(Arc<Inner>);

struct Inner {
    me: NodeId,
    send: Send,
    state: Mutex<State>,
    heard: Heard,
}

/// When the members were heard last, in milliseconds since 1970.
pub(crate) type Heard = Arc<Mutex<BTreeMap<NodeId, Arc<AtomicU64>>>>;

#[derive(Default)]
struct State {
    /// The members of the committees that matter now, and their keys.
    members: BTreeMap<NodeId, PublicKey>,
    index: u64,
    /// The epoch that this member is in.
    epoch: u64,
    subscribers: Vec<mpsc::UnboundedSender<PeerSetUpdate<PublicKey>>>,
    queues: BTreeMap<u8, Queue>,
    epochs: BTreeMap<u64, Queues>,
}

/// The channels of one epoch: both ends until its engine takes them, or the ways in.
struct Queues {
    to: [Queue; OF_EPOCHS as usize],
    waiting: Option<[ChannelReceiver; OF_EPOCHS as usize]>,
}

impl Queues {
    fn new(length: NonZeroUsize) -> Self {
        let (to, from): (Vec<_>, Vec<_>) = (0..OF_EPOCHS).map(|_| mpsc::channel(length.get())).unzip();
        let from: Vec<_> = from.into_iter().map(ChannelReceiver).collect();
        let whole = "as many as there are channels";
        Self { to: to.try_into().expect(whole), waiting: Some(from.try_into().expect(whole)) }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Router {
    pub(crate) fn new(me: NodeId, send: Send, heard: Heard) -> Self {
        Self(Arc::new(Inner { me, send, state: Mutex::default(), heard }))
    }

    /// Takes in what comes, until nothing more can.
    pub(crate) async fn receive(
        self,
        mut receive: tokio::sync::mpsc::Receiver<(NodeId, u8, Bytes)>,
        hints: tokio::sync::mpsc::Sender<Ahead>,
        now_unix_ms: impl Fn() -> u64,
    ) {
        while let Some((from, channel, message)) = receive.recv().await {
            self.route(from, channel, message, &hints, now_unix_ms());
        }
    }

    fn route(
        &self,
        from: NodeId,
        channel: u8,
        mut message: Bytes,
        hints: &tokio::sync::mpsc::Sender<Ahead>,
        now_unix_ms: u64,
    ) {
        let state = locked(&self.0.state);
        let known = state.members.get(&from).cloned();
        if known.is_some() {
            locked(&self.0.heard).entry(from).or_default().store(now_unix_ms, Ordering::Relaxed);
        }
        // Old blocks are for whoever the network lets in: a machine that is to become a member needs them before it is one.
        let key = if channel == BACKFILL { known.or_else(|| public_key(from)) } else { known };
        let Some(key) = key.filter(|_| from != self.0.me) else { return };
        if channel >= OF_EPOCHS {
            if let Some(queue) = state.queues.get(&channel) {
                let _ = queue.try_send((key, message.into()));
            }
            return;
        }
        if message.len() < EPOCH_BYTES {
            return;
        }
        let epoch = message.get_u64_le();
        if epoch > state.epoch {
            let _ = hints.try_send(Ahead { epoch, member: key.clone() });
        }
        if let Some(queues) = state.epochs.get(&epoch)
            && (queues.waiting.is_none() || message.len() <= EARLY_BYTES_MAX)
        {
            let _ = queues.to[usize::from(channel)].try_send((key, message.into()));
        }
    }

    /// Whom to talk to from now on.
    pub(crate) fn set_members(&self, members: impl IntoIterator<Item = NodeId>) {
        let keys = members.into_iter().filter_map(|member| Some((member, public_key(member)?)));
        let mut state = locked(&self.0.state);
        state.members = keys.collect();
        state.index += 1;
        let update = self.update(&state);
        state.subscribers.retain(|subscriber| subscriber.send(update.clone()).is_ok());
        locked(&self.0.heard).retain(|member, _| state.members.contains_key(member));
    }

    fn update(&self, state: &State) -> PeerSetUpdate<PublicKey> {
        let all = TrackedPeers::from(Set::from_iter_dedup(state.members.values().cloned()));
        PeerSetUpdate { index: state.index, latest: all.clone(), all }
    }

    /// The members but this one.
    pub(crate) fn others(&self) -> Vec<PublicKey> {
        let state = locked(&self.0.state);
        state.members.iter().filter(|(member, _)| **member != self.0.me).map(|(_, key)| key.clone()).collect()
    }

    /// A channel that all epochs share.
    pub(crate) fn shared(&self, channel: u8) -> (ChannelSender, ChannelReceiver) {
        debug_assert!((OF_EPOCHS..CHANNELS).contains(&channel));
        let (queue, receiver) = mpsc::channel(QUEUE.get());
        locked(&self.0.state).queues.insert(channel, queue);
        (self.sender(channel, None, None, false), ChannelReceiver(receiver))
    }

    /// The channels of one epoch's engine: votes, certificates, and what is missing of those. Whoever is mute sends neither of
    /// the first two: what it passes on would count as its activity, the others would not skip it, and each of its turns
    /// would cost them the whole time that they give a leader.
    pub(crate) fn epoch(
        &self,
        epoch: u64,
        members: Arc<[NodeId]>,
        is_mute: bool,
    ) -> [(ChannelSender, ChannelReceiver); OF_EPOCHS as usize] {
        let mut state = locked(&self.0.state);
        let queues = state.epochs.entry(epoch).or_insert_with(|| Queues::new(QUEUE));
        let receivers = queues.waiting.take().unwrap_or_else(|| {
            *queues = Queues::new(QUEUE);
            queues.waiting.take().expect("just made")
        });
        drop(state);
        let mut channel = 0;
        receivers.map(|receiver| {
            let sender = self.sender(channel, Some(epoch), Some(members.clone()), is_mute && channel < 2);
            channel += 1;
            (sender, receiver)
        })
    }

    /// This member is in that epoch: what others say of the next one is kept for it.
    pub(crate) fn expect(&self, epoch: u64) {
        let mut state = locked(&self.0.state);
        state.epoch = epoch;
        state.epochs.retain(|kept, _| *kept >= epoch);
        state.epochs.entry(epoch + 1).or_insert_with(|| Queues::new(EARLY));
    }

    /// No engine hears this epoch any more.
    pub(crate) fn close(&self, epoch: u64) {
        locked(&self.0.state).epochs.remove(&epoch);
    }

    fn sender(&self, channel: u8, epoch: Option<u64>, to: Option<Arc<[NodeId]>>, is_mute: bool) -> ChannelSender {
        ChannelSender { router: self.clone(), channel, epoch, to, is_mute }
    }
}

/// One channel outwards.
#[derive(Clone)]
pub(crate) struct ChannelSender {
    router: Router,
    channel: u8,
    epoch: Option<u64>,
    /// Whom "all" means; else all members of the time.
    to: Option<Arc<[NodeId]>>,
    is_mute: bool,
}

impl LimitedSender for ChannelSender {
    type PublicKey = PublicKey;
    type Checked<'a> = Checked<'a>;

    fn check(&mut self, recipients: Recipients<PublicKey>) -> Result<Checked<'_>, SystemTime> {
        let mut to: Vec<NodeId> = match (recipients, &self.to) {
            (Recipients::All, Some(to)) => to.to_vec(),
            (Recipients::All, None) => locked(&self.router.0.state).members.keys().copied().collect(),
            (Recipients::Some(keys), _) => keys.iter().map(node_id).collect(),
            (Recipients::One(key), _) => vec![node_id(&key)],
        };
        to.retain(|member| *member != self.router.0.me && !self.is_mute);
        Ok(Checked { from: self, to })
    }
}

pub(crate) struct Checked<'a> {
    from: &'a ChannelSender,
    to: Vec<NodeId>,
}

impl CheckedSender for Checked<'_> {
    type PublicKey = PublicKey;

    fn recipients(&self) -> Vec<PublicKey> {
        self.to.iter().filter_map(|member| public_key(*member)).collect()
    }

    fn send(self, message: impl Into<IoBufs> + std::marker::Send, _priority: bool) -> Unreliable<Feedback> {
        if self.to.is_empty() {
            return Unreliable::Outcome(Feedback::Ok);
        }
        // One copy, so that what is pooled goes back to its pool.
        let message = message.into().coalesce();
        let mut bytes = BytesMut::with_capacity(EPOCH_BYTES + message.as_ref().len());
        if let Some(epoch) = self.from.epoch {
            bytes.put_u64_le(epoch);
        }
        bytes.put_slice(message.as_ref());
        let bytes = bytes.freeze();
        for member in self.to {
            (self.from.router.0.send)(member, self.from.channel, bytes.clone());
        }
        Unreliable::Outcome(Feedback::Ok)
    }
}

/// One channel inwards.
#[derive(Debug)]
pub(crate) struct ChannelReceiver(mpsc::Receiver<(PublicKey, IoBuf)>);

#[derive(Debug, thiserror::Error)]
#[error("the channel is closed")]
pub(crate) struct Closed;

impl Receiver for ChannelReceiver {
    type Error = Closed;
    type PublicKey = PublicKey;

    async fn recv(&mut self) -> Result<(PublicKey, IoBuf), Closed> {
        self.0.recv().await.ok_or(Closed)
    }

    fn capacity(&self) -> NonZeroUsize {
        QUEUE
    }
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Router")
    }
}

impl Provider for Router {
    type PublicKey = PublicKey;

    async fn peer_set(&mut self, _: u64) -> Option<TrackedPeers<PublicKey>> {
        Some(self.update(&locked(&self.0.state)).all)
    }

    // The first update comes at once, and the subscription must not end: its end stops the engine.
    async fn subscribe(&mut self) -> PeerSetSubscription<PublicKey> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut state = locked(&self.0.state);
        let _ = sender.send(self.update(&state));
        state.subscribers.push(sender);
        receiver
    }
}

impl Blocker for Router {
    type PublicKey = PublicKey;

    // A member that sends what no engine of ours sends. That proves nothing to anybody else, so it is only said.
    fn block(&mut self, peer: PublicKey) -> Feedback {
        tracing::warn!(member = %node_id(&peer).short(), "a member of the committee sends what is wrong");
        Feedback::Ok
    }

    fn blocked(&mut self) -> BlockedSubscription<PublicKey> {
        ring::channel(NZUsize!(1)).1
    }
}

/// A bounded way for hints.
pub(crate) fn hints() -> (tokio::sync::mpsc::Sender<Ahead>, tokio::sync::mpsc::Receiver<Ahead>) {
    tokio::sync::mpsc::channel(HINTS)
}
