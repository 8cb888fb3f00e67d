//! Very many nodes in one process: ten thousand links to an orchestrator, over a few sockets.
//!
//! Each node has a key, a handshake and a connection of its own, says what `darkbloom join` says, as often, answers
//! probes, and comes back as a node does ([`Backoff`]). What it does not have is a worker, or a port on which it would
//! be reached: it lends a model that makes embeddings, because an orchestrator asks whatever writes text for samples of
//! its speed. And it believes what it is told of the committee.
//!
//! `iroh` gives each key sockets and some twenty tasks of its own, which is right for a machine and too much for ten
//! thousand of them in one. So this speaks QUIC with the implementation under `iroh`, with the same settings and the same
//! keys in the handshake (`identity`).

mod identity;
mod link;

use crate::DeterministicModel;
use identity::Identity;
use nix::sys::socket::{
    setsockopt,
    sockopt::{RcvBuf, SndBuf},
};
use protocol::{
    codec,
    grant::{Tier, WorkerEvidence},
    ids::ModelDigest,
    ipc::ModelFacts,
    limits::{self, LINK_MESSAGE_BYTES_MAX},
    link::{FromNode, Hello, ModelEntry, NodeState, Role, WorkerState},
    sealing::{SealingKey, Suite, WorkerKey},
    ticket::{OrchestratorAddress, Ticket},
    time::unix_ms,
};
use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::SystemTime,
};
use tokio::{sync::Semaphore, task::JoinSet};
use transport::Backoff;
use trust::MachineKey;

/// Connections share a socket, and its buffer, of which a node alone has what the system gives without being asked.
const NODES_PER_SOCKET: usize = 250;
const SOCKET_BUFFER_BYTES: usize = 4 << 20;
/// Nodes that join at a time. Afterwards each comes back by itself, all at once if all have lost the same orchestrator.
const JOINING_MAX: usize = 64;
/// The model's name in the pool.
pub const MODEL: &str = "deterministic";

/// Nodes that are there until this is dropped.
pub struct Crowd {
    counts: Arc<Counts>,
    _tasks: JoinSet<()>,
}

#[derive(Default)]
struct Counts {
    linked: AtomicUsize,
    routed: AtomicUsize,
    /// Why links were lost or did not come about, and how often.
    failures: Mutex<BTreeMap<String, usize>>,
}

/// One of many machines.
struct Member {
    identity: Identity,
    endpoint: noq::Endpoint,
    orchestrator: OrchestratorAddress,
    hello: Vec<u8>,
    /// What it says every two seconds, encoded.
    state: Vec<u8>,
    counts: Arc<Counts>,
}

impl Crowd {
    /// Has so many nodes join the first orchestrator of a ticket, and come back whenever they lose it.
    pub fn join(ticket: &Ticket, nodes: usize) -> io::Result<Self> {
        let orchestrator = ticket.orchestrators.first().cloned().ok_or(io::ErrorKind::InvalidInput)?;
        let counts = Arc::new(Counts::default());
        let (joining, mut tasks) = (Arc::new(Semaphore::new(JOINING_MAX)), JoinSet::new());
        // Keys for sealing are as long for all, and making them takes longer than anything else here.
        let keys = Suite::PREFERENCE.map(|suite| WorkerKey::generate(suite).public().clone());
        let mut endpoint = None;
        for number in 0..nodes {
            if number % NODES_PER_SOCKET == 0 {
                endpoint = Some(socket()?);
            }
            let endpoint = endpoint.clone().expect("the first node has made one");
            let key = machine_key(number);
            let hello =
                Hello { pool: ticket.pool, secret: ticket.secret, redemption: None, role: Role::Node, known_epoch: 0 };
            let state = FromNode::State(state(&key, number, &keys, endpoint.local_addr()?));
            let encoded = "a hello and a state are bounded";
            let member = Member {
                identity: Identity::new(&key),
                endpoint,
                orchestrator: orchestrator.clone(),
                hello: codec::encode_prefixed(&hello, LINK_MESSAGE_BYTES_MAX).expect(encoded),
                state: codec::encode_prefixed(&state, LINK_MESSAGE_BYTES_MAX).expect(encoded),
                counts: Arc::clone(&counts),
            };
            tasks.spawn(stay(member, Arc::clone(&joining)));
        }
        Ok(Self { counts, _tasks: tasks })
    }

    /// How many have a link, and how many of these were told that they get work.
    pub fn counts(&self) -> (usize, usize) {
        (self.counts.linked.load(Relaxed), self.counts.routed.load(Relaxed))
    }

    /// Why links were lost or did not come about since this was asked the last time, and how often.
    pub fn take_failures(&self) -> BTreeMap<String, usize> {
        std::mem::take(&mut *self.counts.failures.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn socket() -> io::Result<noq::Endpoint> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    setsockopt(&socket, RcvBuf, &SOCKET_BUFFER_BYTES)?;
    setsockopt(&socket, SndBuf, &SOCKET_BUFFER_BYTES)?;
    noq::Endpoint::new(noq::EndpointConfig::default(), None, socket, Arc::new(noq::TokioRuntime))
}

/// The key of the machine of this number: the same each time, so that a crowd that comes again is the same one.
pub fn machine_key(number: usize) -> MachineKey {
    let mut seed = *b"one machine of a crowd, for tests";
    seed[..8].copy_from_slice(&(number as u64).to_le_bytes());
    MachineKey::from_seed(seed.first_chunk().expect("it is longer"))
}

/// One node, again and again.
async fn stay(member: Member, joining: Arc<Semaphore>) {
    let mut backoff = Backoff::default();
    let mut turn = joining.acquire_owned().await.ok();
    loop {
        let error = match link::establish(&member).await {
            Ok(link) => {
                turn.take();
                backoff.reset();
                link::run(&member, link).await
            }
            Err(error) => error,
        };
        *member.counts.failures.lock().unwrap_or_else(PoisonError::into_inner).entry(error.to_string()).or_default() +=
            1;
        tokio::time::sleep(backoff.pause()).await;
    }
}

/// What a node says of itself that is ready and has nothing to do.
fn state(key: &MachineKey, number: usize, keys: &[SealingKey], address: SocketAddr) -> NodeState {
    let file = DeterministicModel::default().file();
    let model = ModelEntry {
        name: MODEL.to_owned(),
        aliases: Vec::new(),
        digest: ModelDigest(*blake3::hash(&file).as_bytes()),
        bytes: 1 << 30,
        licence: "Apache-2.0".to_owned(),
        created_unix_s: 0,
    };
    let issued_unix_ms = unix_ms(SystemTime::now());
    let evidence = WorkerEvidence {
        node: key.id(),
        model: model.digest,
        measurement: [7; 32],
        keys: keys.to_vec(),
        tier: Tier::SelfSigned,
        issued_unix_ms,
        expires_unix_ms: issued_unix_ms + limits::EVIDENCE_LIFETIME_MS,
    };
    let facts = ModelFacts {
        architecture: "bert".to_owned(),
        context_tokens: 1024,
        slots: 4,
        embedding_length: 384,
        chat: false,
    };
    let worker = WorkerState { model, facts, evidence: key.sign(&evidence), active_tasks: 0, capacity: 16 };
    NodeState {
        label: format!("machine-{number}"),
        addresses: vec![address],
        workers: vec![worker],
        active_tasks: 0,
        hold: None,
    }
}
