//! Start, stop, and what can be asked in between.

use crate::{
    OrchestratorConfig, StartError, WriteError,
    anchor::Anchors,
    clients::Clients,
    clock::{self, Clock},
    epochs, link,
    live::Live,
    matching, measuring,
    metrics::{Counters, Metrics},
    secret::{self, SecretError},
    shared::{Shared, States},
    store::Store,
    writer::Writer,
};
use protocol::{
    ids::NodeId,
    link::{ALPN, ModelOffer, NodeRow},
    ticket::{OrchestratorAddress, Ticket},
};
use registry::{Fact, Genesis, Registry};
use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    path::Path,
    sync::{Arc, Mutex, RwLock},
    thread::JoinHandle,
    time::Duration,
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};
use transport::{BindError, Boxed, Listen, Transport};
use zeroize::Zeroizing;

/// How often it is noted who fell silent. Matching itself never waits for it.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// A predecessor's port is free a moment after its end: asked for so often, and so long apart.
const PORT_TRIES: u32 = 20;
const PORT_TRY_EVERY: Duration = Duration::from_millis(50);
/// At the end, those who wait for a place are told within this time.
const ANSWERS_TIME_MAX: Duration = Duration::from_secs(1);

/// A running orchestrator. Dropping it stops it too, without waiting for the end.
pub struct Orchestrator {
    shared: Arc<Shared>,
    transport: Transport,
    secret: Zeroizing<[u8; 32]>,
    writer: Mutex<Option<JoinHandle<()>>>,
    _stop: DropGuard,
}

impl Orchestrator {
    /// Opens the store, or founds a pool in a new one, and lets machines in.
    pub fn start(config: OrchestratorConfig) -> Boxed<'static, Result<Self, StartError>> {
        Box::pin(Self::start_parts(config))
    }

    async fn start_parts(config: OrchestratorConfig) -> Result<Self, StartError> {
        let OrchestratorConfig { store: path, listen, key, timings } = config;
        let id = key.id();
        let (mut opened, port) = blocking(move || {
            let opened = open(&path, id)?;
            let port = opened.store.port()?;
            Ok::<_, StartError>((opened, port))
        })
        .await?;
        let transport = bind(&key, listen, port).await?;
        let new_port = transport.port();
        if port != Some(new_port) {
            opened = blocking(move || opened.store.set_port(new_port).map(|()| opened)).await?;
        }
        let Opened { store, registry, secret } = opened;
        let pool = registry.pool().expect("an opened store has a genesis");
        let registry = Arc::new(RwLock::new(registry));
        let (writer, thread) = Writer::start(store, Arc::clone(&registry)).map_err(StartError::Thread)?;
        let stop = CancellationToken::new();
        let shared = Arc::new(Shared {
            key,
            pool,
            timings,
            clock: Clock::start(),
            writer,
            counters: Counters::default(),
            anchors: Anchors::default(),
            stop: stop.clone(),
            tasks: TaskTracker::new(),
            registry,
            live: Mutex::new(Live::default()),
            clients: Mutex::new(Clients::default()),
            states: States::new(matching::audits_budget()),
            answers: TaskTracker::new(),
        });
        shared.spawn(link::accept(Arc::clone(&shared), transport.clone()));
        shared.spawn(sweep(Arc::clone(&shared)));
        shared.spawn(matching::attend(Arc::clone(&shared)));
        shared.spawn(measuring::run(Arc::clone(&shared)));
        shared.spawn(epochs::run(Arc::clone(&shared)));
        Ok(Self { shared, transport, secret, writer: Mutex::new(Some(thread)), _stop: stop.drop_guard() })
    }

    /// The line that leads into the pool. Whoever has it can join: treat it as a password.
    pub fn ticket(&self) -> Ticket {
        let own = OrchestratorAddress { id: self.id(), addresses: self.addresses() };
        Ticket { pool: self.shared.pool, orchestrators: vec![own], secret: Some(*self.secret) }
    }

    /// This orchestrator.
    pub fn id(&self) -> NodeId {
        self.transport.id()
    }

    /// Where it listens, in a stable order.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let mut addresses = self.transport.addresses();
        addresses.sort_unstable();
        if addresses.is_empty() {
            // No network at all: at least this machine can join.
            addresses.push((Ipv4Addr::LOCALHOST, self.transport.port()).into());
        }
        addresses
    }

    /// Every node that is or lately was linked, with the reason why it gets no work, if so.
    pub fn nodes(&self) -> Vec<NodeRow> {
        let mut rows: Vec<NodeRow> = Vec::new();
        loop {
            let slice = self.shared.rows_after(rows.last().map(|row| row.node));
            if slice.is_empty() {
                return rows;
            }
            rows.extend(slice);
        }
    }

    /// The models of the pool and how many nodes serve each; the first is the default.
    pub fn models(&self) -> Vec<ModelOffer> {
        let registry = self.shared.registry();
        self.shared.live().offers(&registry)
    }

    /// What it has done since its start.
    pub fn metrics(&self) -> Metrics {
        let (linked, routable) = self.shared.live().counts();
        Metrics {
            nodes_linked: linked as u64,
            nodes_routable: routable as u64,
            clients_linked: self.shared.clients().count() as u64,
            waiting: self.shared.desk().waiting() as u64,
            ..self.shared.counters.read()
        }
    }

    /// Removes a machine from the pool for good, whatever ticket it shows later.
    pub async fn remove_member(&self, node: NodeId) -> Result<(), WriteError> {
        let fact = Fact::MemberRemoved { node, at_unix_ms: self.shared.now().unix_ms };
        self.shared.writer.append(fact).await?;
        self.shared.live().forget(node);
        self.shared.observed().forget(node);
        Ok(())
    }

    /// Tells every machine and ends, with everything on the disk. Dropping it then frees the port.
    pub fn shutdown(&self) -> Boxed<'_, ()> {
        Box::pin(async {
            // Who waits is answered first.
            self.shared.desk().close();
            self.shared.answers.close();
            let _ = tokio::time::timeout(ANSWERS_TIME_MAX, self.shared.answers.wait()).await;
            self.shared.stop.cancel();
            self.transport.close().await;
            self.shared.tasks.close();
            self.shared.tasks.wait().await;
            epochs::write(&self.shared, true).await;
            self.shared.writer.close().await;
            let thread = self.writer.lock().expect("no holder of this lock panics").take();
            let panicked = blocking(move || thread.is_some_and(|thread| thread.join().is_err())).await;
            if panicked {
                tracing::error!("the thread of the registry panicked");
            }
        })
    }
}

struct Opened {
    store: Store,
    registry: Registry,
    secret: Zeroizing<[u8; 32]>,
}

/// Opens the store of orchestrator `own` and its secret; founds the pool where there is none yet.
fn open(path: &Path, own: NodeId) -> Result<Opened, StartError> {
    let (mut store, mut registry) = Store::open(path)?;
    let secret_path = secret::path_beside(path);
    let kept = secret::read(&secret_path)?;
    if registry.pool().is_some() {
        if !registry.orchestrators().contains(&own) {
            let owner = registry.orchestrators()[0];
            return Err(StartError::OtherKey { store: path.to_owned(), owner });
        }
        let secret = kept.filter(|secret| registry.admits(secret));
        let secret = secret.ok_or(SecretError::NotThisPool { path: secret_path })?;
        return Ok(Opened { store, registry, secret });
    }
    // The secret first: a pool without it could not be joined. A crash between the two leaves a secret to use.
    let secret = match kept {
        Some(secret) => secret,
        None => secret::create(&secret_path)?,
    };
    let genesis = Fact::Genesis(Genesis::new(vec![own], &secret, clock::unix_ms()));
    store.append(&[genesis.encode().expect("one orchestrator fits a fact")])?;
    registry.apply(genesis).expect("a genesis of one orchestrator founds a pool");
    Ok(Opened { store, registry, secret })
}

/// Listens where it was asked to; with port 0, where it listened the last time, so that tickets stay good.
async fn bind(key: &trust::MachineKey, listen: Listen, last: Option<u16>) -> Result<Transport, BindError> {
    let (Listen::Loopback { port: asked } | Listen::Network { port: asked }) = listen;
    if asked != 0 {
        return Transport::bind(key, listen, &[ALPN]).await;
    }
    if let Some(port) = last {
        match bind_again(key, listen.with_port(port)).await {
            Ok(transport) => return Ok(transport),
            Err(error) => tracing::warn!(%error, "another port has to do: hand out the new ticket"),
        }
    } else if let Some(port) = free_port(listen) {
        // One port for both address families, so that asking for it again brings all addresses back.
        if let Ok(transport) = Transport::bind(key, listen.with_port(port), &[ALPN]).await {
            return Ok(transport);
        }
    }
    Transport::bind(key, listen, &[ALPN]).await
}

async fn bind_again(key: &trust::MachineKey, listen: Listen) -> Result<Transport, BindError> {
    for _ in 1..PORT_TRIES {
        if let Ok(transport) = Transport::bind(key, listen, &[ALPN]).await {
            return Ok(transport);
        }
        tokio::time::sleep(PORT_TRY_EVERY).await;
    }
    Transport::bind(key, listen, &[ALPN]).await
}

fn free_port(listen: Listen) -> Option<u16> {
    let ip = match listen {
        Listen::Loopback { .. } => return None,
        Listen::Network { .. } => Ipv4Addr::UNSPECIFIED,
    };
    Some(UdpSocket::bind((ip, 0)).ok()?.local_addr().ok()?.port())
}

async fn sweep(shared: Arc<Shared>) {
    let mut ticks = tokio::time::interval(SWEEP_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let mut after = None;
        loop {
            let now = shared.now();
            after = shared.live().sweep(after, now);
            if after.is_none() {
                break;
            }
            tokio::task::yield_now().await;
        }
        let now = shared.now();
        shared.live().sweep_gone(now);
        shared.issued().sweep(now.steady_ms);
        shared.grudges().sweep(now.steady_ms);
    }
}

/// Runs what blocks off the asynchronous threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("blocking work neither panics nor is cancelled")
}
