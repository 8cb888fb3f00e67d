//! Members on a simulated clock, disk and network: one seed, one course of events.
//!
//! The members are wired exactly as [`crate::start`] wires them; only what is below the engine differs. Everything runs in
//! one thread, and waiting costs nothing. Applications must not read a clock or chance of their own.
//!
//! What can go wrong here: messages ([`Weather`], [`World::cut`], [`World::cut_way`]), members ([`World::crash`]), all of
//! them at once ([`run_lives`]), the disk ([`World::set_disk`], [`World::corrupt`]), and what a member says
//! ([`World::set_hand`]). Clocks are one clock: a member whose clock is wrong is an application that adds to the times that
//! it is told.

mod disk;
mod wire;

pub use disk::{Disk, Torn};
pub use wire::{Hand, Message, Weather, Wire};

use crate::{
    Application, Block, CHANNELS, Config, Network, Standing, StartError,
    channels::Heard,
    judge::unix_ms,
    member::{self, Command, Parts},
    scheme::{node_id, public_key},
};
use commonware_cryptography::ed25519::PublicKey;
use commonware_p2p::{
    Recipients, Sender as _,
    simulated::{self, Link, Oracle},
};
use commonware_runtime::{
    Clock as _, Handle, Quota, Runner as _, Spawner as _, Supervisor as _,
    deterministic::{self, Context, Runner},
};
use commonware_utils::{NZU32, NZUsize, probability};
use futures_util::FutureExt as _;
use protocol::{header::Anchor, ids::NodeId};
use std::{
    collections::BTreeMap,
    num::NonZeroU32,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};
use tokio::sync::{mpsc, oneshot, watch};
use wire::Inbox;

type Sender = simulated::Sender<PublicKey, Context>;
/// Boxed, so that the engine is compiled here and not again by whoever awaits it. The world has one thread.
type Local<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// Messages of a second and channel. It sizes the simulated network's queues, which are allocated at once.
const QUOTA: NonZeroU32 = NZU32!(10_000);
const MESSAGE_BYTES_MAX: u32 = 4 << 20;
const QUEUE: usize = 4096;
/// When the world of [`run_lives`] begins: clocks can be behind it.
const BEGINNING: Duration = Duration::from_secs(1_790_000_000);

/// A world of members, from inside.
pub struct World {
    context: Context,
    oracle: Oracle<PublicKey, Context>,
    wire: Wire,
    weather: Arc<Mutex<Weather>>,
    places: BTreeMap<NodeId, Place>,
}

/// Where a member is, if it runs.
struct Place {
    key: PublicKey,
    senders: Arc<Mutex<Vec<Sender>>>,
    hand: Arc<Mutex<Option<Hand>>>,
    /// For each of its brains.
    inboxes: [Inbox; BRAINS],
    lives: u64,
    life: [Option<Life>; BRAINS],
}

/// A machine that lies may have two members under its key.
const BRAINS: usize = 2;

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

/// What comes after a script.
#[derive(Debug)]
pub enum Then<T> {
    /// Everything stops at once, and what was not synced is torn as [`World::set_disk`] says; then the script is called again,
    /// with the same time and disk.
    Crash,
    /// The end.
    Done(T),
}

/// Runs `script` once for each life of a world of these machines; the number of the life is counted from 0. None of the
/// machines is started at the beginning of a life, all are linked, and the disk works. A panic of a member ends that member.
/// Returns what the script is done with, and a fingerprint of everything that happened.
///
/// # Panics
/// If the simulated time exceeds `time_max`, or if a machine's id is no key.
pub fn run_lives<T, S>(seed: u64, time_max: Duration, machines: &[NodeId], wire: Wire, mut script: S) -> (T, String)
where
    S: AsyncFnMut(&mut World, u32) -> Then<T>,
{
    let config = deterministic::Config::new()
        .with_seed(seed)
        .with_timeout(Some(time_max))
        .with_start_time(SystemTime::UNIX_EPOCH + BEGINNING)
        .with_catch_panics(true);
    let mut runner = Runner::new(config);
    for life in 0.. {
        let keys: Vec<_> = machines.iter().map(|id| public_key(*id).expect("a machine's id is a key")).collect();
        let script = &mut script;
        let (then, checkpoint) = runner.start_and_recover(|context| async move {
            let mut world = World::new(context, keys, wire).await;
            world.set_disk(Disk::default());
            script(&mut world, life).await
        });
        match then {
            Then::Done(outcome) => return (outcome, checkpoint.auditor().state()),
            Then::Crash => runner = Runner::from(checkpoint),
        }
    }
    unreachable!("a world ends before so many lives")
}

impl World {
    fn new(context: Context, keys: Vec<PublicKey>, wire: Wire) -> Local<'static, Self> {
        Box::pin(Self::made(context, keys, wire))
    }

    async fn made(context: Context, keys: Vec<PublicKey>, wire: Wire) -> Self {
        let config = simulated::Config {
            max_size: MESSAGE_BYTES_MAX,
            max_peers_per_set: NZUsize!(64),
            disconnect_on_block: false,
            tracked_peer_sets: NZUsize!(4),
        };
        let network = context.child("network");
        let (network, oracle) = simulated::Network::new_with_peers(network, config, keys.clone()).await;
        network.start();
        let mut world = Self { context, oracle, wire, weather: Arc::default(), places: BTreeMap::new() };
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
        let (inboxes, mut senders): ([Inbox; BRAINS], _) = Default::default();
        for channel in 0..CHANNELS {
            let quota = Quota::per_second(QUOTA);
            let registered = self.oracle.control(key.clone()).register(channel.into(), quota).await;
            let (sender, receiver) = registered.expect("a machine registers each channel once");
            Vec::push(&mut senders, sender);
            let (inboxes, weather) = (inboxes.clone(), self.weather.clone());
            self.context.child("wire").spawn(move |context| wire::carry(context, channel, receiver, inboxes, weather));
        }
        let (senders, hand) = (Arc::new(Mutex::new(senders)), Arc::default());
        let place = Place { key, senders, hand, inboxes, lives: 0, life: Default::default() };
        self.places.insert(node_id(&place.key), place);
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
    pub fn sleep(&self, time: Duration) -> Local<'_, ()> {
        Box::pin(async move {
            self.context.sleep(time).await;
        })
    }

    /// Starts a member on the machine of its key. `Config::folder` names one of the machine's disks (letters, digits and
    /// hyphens): what one disk has is unknown to another.
    pub fn start(&mut self, config: Config, application: Arc<dyn Application>) -> Local<'_, Result<(), StartError>> {
        self.start_brain(0, config, application)
    }

    /// Starts a second member under the key of a machine, beside the first one, on another disk: what they say contradicts
    /// each other. Which of them says what to whom is for [`World::set_hand`].
    pub fn start_twin(
        &mut self,
        config: Config,
        application: Arc<dyn Application>,
    ) -> Local<'_, Result<(), StartError>> {
        self.start_brain(1, config, application)
    }

    fn start_brain(
        &mut self,
        brain: usize,
        config: Config,
        application: Arc<dyn Application>,
    ) -> Local<'_, Result<(), StartError>> {
        Box::pin(async move {
            let id = config.key.id();
            let place = self.places.get_mut(&id).ok_or(StartError::Committee(0))?;
            place.lives += 1;
            let (inbox, receive) = mpsc::channel(QUEUE);
            *place.inboxes[brain].lock().unwrap_or_else(PoisonError::into_inner) = Some(inbox);
            let (senders, hand) = (place.senders.clone(), place.hand.clone());
            let send = move |to, channel: u8, bytes| {
                let message = Message { brain, to, channel, bytes };
                let hand = hand.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let messages = hand.map_or_else(|| vec![message.clone()], |hand| hand(message.clone()));
                let mut senders = senders.lock().unwrap_or_else(PoisonError::into_inner);
                let mut is_sent = false;
                for Message { to, channel, bytes, .. } in messages {
                    if let (Some(key), Some(sender)) = (public_key(to), senders.get_mut(usize::from(channel))) {
                        is_sent |= !sender.send(Recipients::One(key), bytes, false).is_empty();
                    }
                }
                is_sent
            };
            let (commands, obeyed) = mpsc::unbounded_channel();
            let (standing, stands) = watch::channel(Standing::default());
            let parts = Parts {
                prefix: disk::prefix(id, &config.folder),
                config,
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
            place.life[brain] = Some(Life { handle, commands, standing: stands });
            has_started.await.unwrap_or_else(|_| Err(StartError::Engine("it ended while it was started".to_owned())))
        })
    }

    fn life(&self, id: NodeId) -> Option<&Life> {
        self.places.get(&id)?.life[0].as_ref()
    }

    /// How a member stands that was started and neither stopped nor crashed.
    pub fn standing(&self, id: NodeId) -> Option<Standing> {
        Some(self.life(id)?.standing.borrow().clone())
    }

    /// Ends a member between two steps, without asking it. What it has not written down is lost to it.
    pub fn crash(&mut self, id: NodeId) -> Local<'_, ()> {
        Box::pin(async move {
            self.end(id).await;
        })
    }

    /// Why a member has ended by itself, if it has.
    pub fn ended(&mut self, id: NodeId) -> Local<'_, Option<String>> {
        Box::pin(async move {
            let life = self.places.get_mut(&id)?.life[0].as_mut()?;
            let outcome = (&mut life.handle).now_or_never()?;
            self.places.get_mut(&id)?.life[0] = None;
            self.end(id).await;
            Some(match outcome {
                Ok(Ok(())) => "it was stopped".to_owned(),
                Ok(Err(why)) => why,
                Err(error) => error.to_string(),
            })
        })
    }

    /// A final block that a member has on its disk.
    pub fn block(&self, id: NodeId, height: u64) -> Local<'_, Option<Block>> {
        Box::pin(async move {
            let (answer, answered) = oneshot::channel();
            self.life(id)?.commands.send(Command::Block(height, answer)).ok()?;
            answered.await.ok()?
        })
    }

    /// A final block's header with its certificate, if the member has one.
    pub fn anchor(&self, id: NodeId, height: u64) -> Local<'_, Option<Anchor>> {
        Box::pin(async move {
            let (answer, answered) = oneshot::channel();
            self.life(id)?.commands.send(Command::Anchor(height, answer)).ok()?;
            answered.await.ok()?
        })
    }

    /// A member needs no blocks below this height: see [`crate::Consensus::prune`].
    pub fn prune(&self, id: NodeId, below: u64) {
        if let Some(life) = self.life(id) {
            let _ = life.commands.send(Command::Prune(below));
        }
    }

    /// Ends a member as its owner would.
    pub fn stop(&mut self, id: NodeId) -> Local<'_, ()> {
        Box::pin(async move {
            for life in self.places.get_mut(&id).into_iter().flat_map(|place| place.life.iter_mut().flatten()) {
                let _ = life.commands.send(Command::Stop);
                let _ = (&mut life.handle).await;
            }
            self.end(id).await;
        })
    }

    fn end(&mut self, id: NodeId) -> Local<'_, ()> {
        Box::pin(async move {
            let Some(place) = self.places.get_mut(&id) else { return };
            for inbox in &place.inboxes {
                *inbox.lock().unwrap_or_else(PoisonError::into_inner) = None;
            }
            // All at once: one that is still there while another is waited for would live on.
            let lives: Vec<Life> = place.life.iter_mut().filter_map(Option::take).collect();
            lives.iter().for_each(|life| life.handle.abort());
            for life in lives {
                let _ = life.handle.await;
            }
        })
    }

    /// Everything that a machine says from now on goes through this hand.
    pub fn set_hand(&self, id: NodeId, hand: Option<Hand>) {
        if let Some(place) = self.places.get(&id) {
            *place.hand.lock().unwrap_or_else(PoisonError::into_inner) = hand;
        }
    }

    /// What happens to messages from now on.
    pub fn set_weather(&self, weather: Weather) {
        *self.weather.lock().unwrap_or_else(PoisonError::into_inner) = weather;
    }

    /// Lets no message of one machine reach another, until [`World::heal`].
    pub fn cut_way(&self, from: NodeId, to: NodeId) -> Local<'_, ()> {
        Box::pin(async move {
            if let (Some(from), Some(to)) = (self.places.get(&from), self.places.get(&to)) {
                // What is cut already stays so.
                let _ = self.oracle.remove_link(from.key.clone(), to.key.clone()).await;
            }
        })
    }

    /// Lets no message pass between two machines, in either direction, until [`World::heal`].
    pub fn cut(&self, one: NodeId, other: NodeId) -> Local<'_, ()> {
        Box::pin(async move {
            self.cut_way(one, other).await;
            self.cut_way(other, one).await;
        })
    }

    /// Links two machines again.
    pub fn heal(&self, one: NodeId, other: NodeId) -> Local<'_, ()> {
        Box::pin(async move {
            if let (Some(one), Some(other)) = (self.places.get(&one), self.places.get(&other)) {
                self.link(&one.key, &other.key).await;
                self.link(&other.key, &one.key).await;
            }
        })
    }
}
