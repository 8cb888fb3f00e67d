//! Members on a simulated clock, disk and network: one seed, one course of events.
//!
//! The members are wired exactly as [`crate::start`] wires them; only what is below the engine differs. Everything runs in
//! one thread, and waiting costs nothing. Applications must not read a clock or chance of their own.

use crate::{
    Application, CHANNELS, Config, Network, Standing, StartError,
    channels::Heard,
    judge::unix_ms,
    member::{self, Command, Parts},
    scheme::{node_id, public_key},
};
use bytes::Bytes;
use commonware_cryptography::ed25519::PublicKey;
use commonware_p2p::{
    Receiver as _, Recipients, Sender as _,
    simulated::{self, Link, Oracle},
};
use commonware_runtime::{
    Clock as _, Handle, Quota, Runner as _, Spawner as _, Supervisor as _,
    deterministic::{self, Context},
};
use commonware_utils::{NZU32, NZUsize, probability};
use protocol::ids::NodeId;
use std::{
    collections::BTreeMap,
    num::NonZeroU32,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::{mpsc, oneshot, watch};

type Sender = simulated::Sender<PublicKey, Context>;
type Inbox = Arc<Mutex<Option<mpsc::Sender<(NodeId, u8, Bytes)>>>>;

/// Messages of a second and channel. It sizes the simulated network's queues, which are allocated at once.
const QUOTA: NonZeroU32 = NZU32!(10_000);
const MESSAGE_BYTES_MAX: u32 = 4 << 20;
const QUEUE: usize = 4096;

/// How messages travel between two members.
#[derive(Debug, Clone, Copy)]
pub struct Wire {
    /// The mean time on the way.
    pub latency: Duration,
    /// Its standard deviation.
    pub jitter: Duration,
}

impl Default for Wire {
    fn default() -> Self {
        Self { latency: Duration::from_millis(10), jitter: Duration::from_millis(5) }
    }
}

/// A world of members, from inside.
pub struct World {
    context: Context,
    oracle: Oracle<PublicKey, Context>,
    wire: Wire,
    places: BTreeMap<NodeId, Place>,
}

/// Where a member is, if it runs.
struct Place {
    key: PublicKey,
    senders: Arc<Mutex<Vec<Sender>>>,
    inbox: Inbox,
    lives: u64,
    life: Option<Life>,
}

struct Life {
    handle: Handle<Result<(), String>>,
    commands: mpsc::UnboundedSender<Command>,
    standing: watch::Receiver<Standing>,
}

/// Runs `script` in a world of these machines, none of them started, all of them linked. Returns what the script returns, and
/// a fingerprint of everything that happened.
///
/// # Panics
/// If the simulated time exceeds `time_max`, if an application panics, or if a machine's id is no key.
pub fn run<T, S>(seed: u64, time_max: Duration, machines: &[NodeId], wire: Wire, script: S) -> (T, String)
where
    S: AsyncFnOnce(&mut World) -> T,
{
    let config = deterministic::Config::new().with_seed(seed).with_timeout(Some(time_max));
    let keys: Vec<_> = machines.iter().map(|id| public_key(*id).expect("a machine's id is a key")).collect();
    deterministic::Runner::new(config).start(|context| async move {
        let mut world = World::new(context, keys, wire).await;
        let outcome = script(&mut world).await;
        let fingerprint = world.context.auditor().state();
        (outcome, fingerprint)
    })
}

impl World {
    async fn new(context: Context, keys: Vec<PublicKey>, wire: Wire) -> Self {
        let config = simulated::Config {
            max_size: MESSAGE_BYTES_MAX,
            max_peers_per_set: NZUsize!(64),
            disconnect_on_block: false,
            tracked_peer_sets: NZUsize!(4),
        };
        let network = context.child("network");
        let (network, oracle) = simulated::Network::new_with_peers(network, config, keys.clone()).await;
        network.start();
        let mut world = Self { context, oracle, wire, places: BTreeMap::new() };
        for key in &keys {
            world.settle(key.clone()).await;
        }
        for from in &keys {
            for to in keys.iter().filter(|to| *to != from) {
                world.link(from, to).await;
            }
        }
        world
    }

    /// The network end of a machine outlives the lives of its member.
    async fn settle(&mut self, key: PublicKey) {
        let (inbox, mut senders) = (Inbox::default(), Vec::new());
        for channel in 0..CHANNELS {
            let quota = Quota::per_second(QUOTA);
            let registered = self.oracle.control(key.clone()).register(channel.into(), quota).await;
            let (sender, mut receiver) = registered.expect("a machine registers each channel once");
            senders.push(sender);
            let inbox = inbox.clone();
            self.context.child("wire").spawn(move |_| async move {
                while let Ok((from, message)) = receiver.recv().await {
                    let inbox = inbox.lock().unwrap_or_else(PoisonError::into_inner);
                    if let Some(inbox) = &*inbox {
                        let _ = inbox.try_send((node_id(&from), channel, Bytes::copy_from_slice(message.as_ref())));
                    }
                }
            });
        }
        let senders = Arc::new(Mutex::new(senders));
        self.places.insert(node_id(&key), Place { key, senders, inbox, lives: 0, life: None });
    }

    async fn link(&self, from: &PublicKey, to: &PublicKey) {
        let Wire { latency, jitter } = self.wire;
        let link = Link { latency, jitter, success_rate: probability!(1.0) };
        // There is one already where nothing was cut.
        let _ = self.oracle.add_link(from.clone(), to.clone(), link).await;
    }

    /// The simulated time, in milliseconds since 1970.
    pub fn unix_ms(&self) -> u64 {
        unix_ms(self.context.current())
    }

    /// Lets time pass.
    pub async fn sleep(&self, time: Duration) {
        self.context.sleep(time).await;
    }

    /// Starts a member on the machine of its key, with the disk that the machine has. `Config::folder` means nothing here.
    pub async fn start(&mut self, config: Config, application: Arc<dyn Application>) -> Result<(), StartError> {
        let id = config.key.id();
        let place = self.places.get_mut(&id).ok_or(StartError::Committee(0))?;
        place.lives += 1;
        let (inbox, receive) = mpsc::channel(QUEUE);
        *place.inbox.lock().unwrap_or_else(PoisonError::into_inner) = Some(inbox);
        let senders = place.senders.clone();
        let send = move |to, channel: u8, message: Bytes| {
            let Some(key) = public_key(to) else { return false };
            let mut senders = senders.lock().unwrap_or_else(PoisonError::into_inner);
            let sender = senders.get_mut(usize::from(channel));
            sender.is_some_and(|sender| !sender.send(Recipients::One(key), message, false).is_empty())
        };
        let (commands, obeyed) = mpsc::unbounded_channel();
        let (standing, stands) = watch::channel(Standing::default());
        let parts = Parts {
            config,
            prefix: prefix(id),
            application,
            network: Network { send: Arc::new(send), receive },
            standing,
            height: Arc::default(),
            heard: Heard::default(),
            commands: obeyed,
        };
        let (started, has_started) = oneshot::channel();
        let context =
            self.context.child("member").with_attribute("machine", id.short()).with_attribute("life", place.lives);
        let handle = context.spawn(move |context| member::run(context, parts, started));
        place.life = Some(Life { handle, commands, standing: stands });
        has_started.await.unwrap_or_else(|_| Err(StartError::Engine("it ended while it was started".to_owned())))
    }

    /// How a member stands that was started and neither stopped nor crashed.
    pub fn standing(&self, id: NodeId) -> Option<Standing> {
        Some(self.places.get(&id)?.life.as_ref()?.standing.borrow().clone())
    }

    /// Ends a member between two steps, without asking it. What it has not written down is lost to it.
    pub async fn crash(&mut self, id: NodeId) {
        self.end(id).await;
    }

    /// Ends a member as its owner would.
    pub async fn stop(&mut self, id: NodeId) {
        let life = self.places.get_mut(&id).and_then(|place| place.life.as_mut());
        if let Some(life) = life {
            let _ = life.commands.send(Command::Stop);
            let _ = (&mut life.handle).await;
        }
        self.end(id).await;
    }

    async fn end(&mut self, id: NodeId) {
        let Some(place) = self.places.get_mut(&id) else { return };
        *place.inbox.lock().unwrap_or_else(PoisonError::into_inner) = None;
        if let Some(life) = place.life.take() {
            life.handle.abort();
            let _ = life.handle.await;
        }
    }

    /// Lets no message pass between two machines, in either direction, until [`World::heal`].
    pub async fn cut(&self, one: NodeId, other: NodeId) {
        if let (Some(one), Some(other)) = (self.places.get(&one), self.places.get(&other)) {
            // What is cut already stays so.
            let _ = self.oracle.remove_link(one.key.clone(), other.key.clone()).await;
            let _ = self.oracle.remove_link(other.key.clone(), one.key.clone()).await;
        }
    }

    /// Links two machines again.
    pub async fn heal(&self, one: NodeId, other: NodeId) {
        if let (Some(one), Some(other)) = (self.places.get(&one), self.places.get(&other)) {
            self.link(&one.key, &other.key).await;
            self.link(&other.key, &one.key).await;
        }
    }
}

/// In front of the names of a machine's partitions: all share one simulated disk.
fn prefix(id: NodeId) -> String {
    format!("{id}-")
}
