//! How long a member of a committee of four takes that has lost its disk, in a pool of 100,000 members: `cargo bench -p
//! committee --bench catch_up`.
//!
//! **What is measured.** Four members with their files on the disk, in one process, over QUIC on loopback. Three have
//! agreed on 100,000 machines of the pool. The fourth starts with an empty folder: the time until it has the state of the
//! block at which the others stood when it started, by a snapshot whose certificate and whose every part it has verified.
//! Then it is on its disk too.
//!
//! Promise: at most 10 s. Prints one line of JSON for each of three rounds. All four share this machine's cores, and the
//! three go on making blocks meanwhile.
#![expect(clippy::unwrap_used, reason = "a benchmark may end with what went wrong")]

use bytes::Bytes;
use committee::{Member, MemberConfig, SnapshotPace};
use consensus::{Network, Pace};
use protocol::{genesis::Genesis, ids::NodeId, limits, link::Role};
use registry::{Fact, snapshot::PARTS};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::sync::mpsc;
use transport::{Listen, Transport};
use trust::MachineKey;

const MEMBERS: u64 = 100_000;
const COMMITTEE: usize = 4;
const ROUNDS: usize = 3;
/// Facts that are said at a time, and how often at once.
const TOGETHER: u64 = limits::BUNDLE_FACTS_MAX as u64;
const AT_ONCE: usize = 16;
const ALPN: &[u8] = b"darkbloom/bench/1";
/// Messages that wait for one member. More are lost.
const QUEUE: usize = 4096;

type Message = (NodeId, u8, Bytes);

/// The channel on which snapshots are taken, and the first byte of a message with a part.
const CATCH_UP: u8 = 6;
const PART: u8 = 5;

/// A member's end of the network: one connection to each of the others, with one stream.
struct Wire {
    transport: Transport,
    received: Arc<Received>,
}

#[derive(Default)]
struct Received {
    bytes: AtomicU64,
    parts: AtomicU64,
}

impl Wire {
    async fn bind(key: &MachineKey) -> Self {
        let transport = Transport::bind(key, Listen::Loopback { port: 0 }, &[ALPN]).await.unwrap();
        Self { transport, received: Arc::default() }
    }

    /// Hands messages on, from now until the network is dropped, to whoever listens there at that time.
    fn join(&self, others: &BTreeMap<NodeId, Vec<SocketAddr>>) -> Network {
        let (sender, receive) = mpsc::channel(QUEUE);
        let mut outboxes = BTreeMap::new();
        for (id, addresses) in others {
            let (outbox, inbox) = mpsc::channel(QUEUE);
            outboxes.insert(*id, outbox);
            tokio::spawn(send(self.transport.clone(), *id, addresses.clone(), inbox));
        }
        tokio::spawn(listen(self.transport.clone(), sender, Arc::clone(&self.received)));
        let send = move |to: NodeId, channel: u8, message: Bytes| {
            outboxes.get(&to).is_some_and(|outbox| outbox.try_send((channel, message)).is_ok())
        };
        Network { send: Arc::new(send), receive }
    }
}

async fn send(transport: Transport, to: NodeId, addresses: Vec<SocketAddr>, mut inbox: mpsc::Receiver<(u8, Bytes)>) {
    loop {
        let Ok(connection) = transport.connect(to, &addresses, ALPN).await else { continue };
        let Ok((mut sender, _receiver)) = connection.open_stream().await else { continue };
        loop {
            let Some((channel, message)) = inbox.recv().await else { return };
            let message = [&[channel][..], &message].concat();
            if sender.frame(&message, limits::PEER_BULK_BYTES_MAX + 1).await.is_err() {
                break;
            }
        }
    }
}

async fn listen(transport: Transport, to: mpsc::Sender<Message>, received: Arc<Received>) {
    loop {
        let incoming = tokio::select! {
            incoming = transport.accept() => incoming,
            () = to.closed() => return,
        };
        let Some(incoming) = incoming else { return };
        let (to, received) = (to.clone(), Arc::clone(&received));
        tokio::spawn(async move {
            let Ok(connection) = incoming.handshake().await else { return };
            let Some((_sender, mut receiver)) = connection.accept_stream().await else { return };
            while let Ok(Some(message)) = receiver.frame(limits::PEER_BULK_BYTES_MAX + 1).await {
                received.bytes.fetch_add(message.len() as u64, Relaxed);
                received.parts.fetch_add(u64::from(message.starts_with(&[CATCH_UP, PART])), Relaxed);
                let mut message = Bytes::from(message);
                let channel = message.split_to(1)[0];
                // What is not taken in time is lost, as everywhere; a member that stops hears nothing more.
                if to.is_closed() {
                    return;
                }
                let _ = to.try_send((connection.remote(), channel, message));
            }
        });
    }
}

fn node(number: u64) -> NodeId {
    NodeId(*blake3::hash(&number.to_le_bytes()).as_bytes())
}

struct Pool {
    keys: Vec<MachineKey>,
    wires: Vec<Wire>,
    addresses: BTreeMap<NodeId, Vec<SocketAddr>>,
    genesis: Genesis,
}

impl Pool {
    async fn found() -> Self {
        let keys: Vec<MachineKey> = (0..COMMITTEE).map(|_| MachineKey::generate()).collect();
        let (mut wires, mut addresses) = (Vec::new(), BTreeMap::new());
        for key in &keys {
            let wire = Wire::bind(key).await;
            addresses.insert(key.id(), wire.transport.addresses());
            wires.push(wire);
        }
        let genesis = Genesis::new(keys.iter().map(MachineKey::id).collect(), &[7; 32], 1_700_000_000_000);
        Self { keys, wires, addresses, genesis }
    }

    async fn start(&self, member: usize, folder: &Path) -> Member {
        let mut others = self.addresses.clone();
        others.remove(&self.keys[member].id());
        let mut config = MemberConfig::new(folder.to_owned(), self.keys[member].clone(), self.genesis.clone());
        // Blocks in between are for the test to be over soon, and snapshots as in any pool that grows.
        config.pace = Some(Pace { idle: Duration::from_millis(500), gather: Duration::from_millis(5) });
        config.snapshots = SnapshotPace { blocks: 64, behind: 32, ..SnapshotPace::default() };
        Member::start(config, self.wires[member].join(&others)).await.unwrap()
    }
}

#[tokio::main]
async fn main() {
    let folder = tempfile::tempdir().unwrap();
    let pool = Pool::found().await;
    let mut members = Vec::new();
    for number in 0..COMMITTEE - 1 {
        members.push(pool.start(number, &folder.path().join(number.to_string())).await);
    }
    let begun = Instant::now();
    let members = Arc::new(members);
    let next = Arc::new(AtomicU64::new(0));
    let saying = (0..AT_ONCE).map(|speaker| {
        let (members, next) = (Arc::clone(&members), Arc::clone(&next));
        tokio::spawn(async move {
            loop {
                let from = next.fetch_add(TOGETHER, Relaxed);
                if from >= MEMBERS {
                    return;
                }
                let admitted = |number| Fact::MemberAdmitted { node: node(number), role: Role::Node, at_unix_ms: 1 };
                let facts = (from..MEMBERS.min(from + TOGETHER)).map(admitted).collect();
                members[speaker % members.len()].say(facts).await.unwrap();
            }
        })
    });
    for speaker in saying.collect::<Vec<_>>() {
        speaker.await.unwrap();
    }
    eprintln!("{MEMBERS} members are agreed on after {:.1} s", begun.elapsed().as_secs_f64());
    for round in 0..ROUNDS {
        // A snapshot of all of it exists some blocks later.
        let full = members[0].latest().borrow().header.height + 64;
        for member in &*members {
            member.latest().wait_for(|latest| latest.header.height >= full).await.unwrap();
        }
        let target = members[0].latest().borrow().header.height;
        let own = folder.path().join(format!("late-{round}"));
        let wire = &pool.wires[COMMITTEE - 1];
        wire.received.bytes.store(0, Relaxed);
        wire.received.parts.store(0, Relaxed);
        let begun = Instant::now();
        let late = pool.start(COMMITTEE - 1, &own).await;
        late.latest().wait_for(|latest| latest.header.height >= target).await.unwrap();
        let seconds = begun.elapsed().as_secs_f64();
        let (bytes, parts) = (wire.received.bytes.load(Relaxed), wire.received.parts.load(Relaxed));
        assert!(parts >= PARTS as u64, "by a snapshot, and not by every block");
        let registry = late.registry();
        assert!((0..MEMBERS).all(|number| registry.read().unwrap().is_member(node(number))), "it has all");
        println!(
            "{{\"name\": \"catch_up\", \"members\": {MEMBERS}, \"height\": {target}, \"seconds\": {seconds:.3}, \
             \"received_mb\": {:.1}}}",
            bytes as f64 / 1e6
        );
        late.shutdown().await;
    }
}
