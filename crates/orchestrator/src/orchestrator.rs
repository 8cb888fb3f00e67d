//! Start, stop, and what can be asked in between.

use crate::{
    OrchestratorConfig, StartError,
    anchor::Anchors,
    clients::Clients,
    clock::{self, Clock},
    epochs,
    folder::{Folder, Own},
    gossip::{self, Exchange},
    history::{self, History},
    link,
    live::Live,
    matching, measuring,
    metrics::{Counters, Metrics},
    peers::Peers,
    rules,
    shared::{Shared, States},
};
use committee::{Member, MemberConfig, SayError};
use consensus::Network;
use protocol::{
    founding::{Founding, Seat},
    genesis::Genesis,
    header::Anchor,
    ids::NodeId,
    link::{self as wire, ModelOffer, NodeRow},
    peer,
    ticket::{OrchestratorAddress, Ticket},
};
use registry::{Fact, State};
use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::sync::watch;
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};
use transport::{BindError, Boxed, Listen, Transport};

/// How often it is noted who fell silent. Matching itself never waits for it.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// A predecessor's port is free a moment after its end: asked for so often, and so long apart.
const PORT_TRIES: u32 = 20;
const PORT_TRY_EVERY: Duration = Duration::from_millis(50);
/// At the end, those who wait for a place are told within this time.
const ANSWERS_TIME_MAX: Duration = Duration::from_secs(1);

/// At the end, what was observed last is agreed on within this time.
const LAST_FACTS_TIME_MAX: Duration = Duration::from_secs(3);
/// Protocols that it speaks.
const ALPNS: [&[u8]; 2] = [wire::ALPN, peer::ALPN];

/// A running orchestrator. Dropping it stops it too, without waiting for the end.
pub struct Orchestrator {
    shared: Arc<Shared>,
    transport: Transport,
    founding: Founding,
    _folder: Folder,
    _stop: DropGuard,
}

impl Orchestrator {
    /// Takes part in the committee of the pool in its folder, or founds a pool in a new one, and lets machines in.
    pub fn start(config: OrchestratorConfig) -> Boxed<'static, Result<Self, StartError>> {
        Box::pin(Self::start_parts(config))
    }

    /// Where an orchestrator with this configuration will listen, so that a pool can be founded of several: the port is
    /// chosen now, and kept.
    pub fn seat(config: OrchestratorConfig) -> Boxed<'static, Result<Seat, StartError>> {
        Box::pin(async move {
            let (folder, port) = blocking({
                let config = config.clone();
                move || take(&config)
            })
            .await?;
            let transport = bind(&config.key, config.listen, port).await?;
            let own = Own { id: config.key.id(), port: Some(transport.port()) };
            blocking(move || folder.set_own(own)).await?;
            let seat = Seat(OrchestratorAddress { id: transport.id(), addresses: addresses(&transport) });
            transport.close().await;
            Ok(seat)
        })
    }

    async fn start_parts(config: OrchestratorConfig) -> Result<Self, StartError> {
        let OrchestratorConfig { listen, key, timings, .. } = config.clone();
        let (folder, founding, port) = blocking(move || {
            let (folder, port) = take(&config)?;
            let founding = found(&folder, &config)?;
            Ok::<_, StartError>((folder, founding, port))
        })
        .await?;
        let transport = bind(&key, listen, port).await?;
        let own = Own { id: key.id(), port: Some(transport.port()) };
        let folder = blocking(move || folder.set_own(own).map(|()| folder)).await?;
        let stop = CancellationToken::new();
        let (peers, inbox) = Peers::new(transport.clone());
        peers.keep(&founding.orchestrators);
        let network = Network {
            send: {
                let peers = Arc::clone(&peers);
                Arc::new(move |to, channel, message| peers.send(to, channel, &message))
            },
            receive: inbox.agreement,
        };
        let (tasks, (opening, opened)) = (TaskTracker::new(), watch::channel(None));
        // Other orchestrators are let in from the first moment on: it may need them to catch up.
        let door = link::Door { peers: Arc::clone(&peers), shared: opened, tasks: tasks.clone(), stop: stop.clone() };
        tasks.spawn(link::accept(door, transport.clone()));
        let guard = stop.clone().drop_guard();
        let member = MemberConfig::new(folder.committee(), key.clone(), founding.genesis.clone());
        let member = Member::start(member, network).await?;
        let happened = member.events();
        let history = blocking({
            let path = folder.history();
            move || History::open(&path)
        })
        .await?;
        let shared = Arc::new(Shared {
            key,
            pool: founding.pool(),
            timings,
            clock: Clock::start(),
            counters: Counters::default(),
            anchors: Anchors::default(),
            removals: watch::Sender::new(0),
            stop: stop.clone(),
            tasks,
            registry: member.registry(),
            member,
            peers,
            live: Mutex::new(Live::default()),
            clients: Mutex::new(Clients::default()),
            states: States::new(matching::audits_budget(), Exchange::new(transport.id(), timings.silence_max)),
            history: Arc::new(history),
            answers: TaskTracker::new(),
        });
        opening.send_replace(Some(Arc::clone(&shared)));
        shared.spawn(follow(Arc::clone(&shared), founding.orchestrators.clone()));
        shared.spawn(sweep(Arc::clone(&shared)));
        shared.spawn(rules::follow(Arc::clone(&shared)));
        shared.spawn(gossip::run(Arc::clone(&shared), inbox.live));
        shared.spawn(matching::attend(Arc::clone(&shared)));
        shared.spawn(measuring::run(Arc::clone(&shared)));
        shared.spawn(epochs::run(Arc::clone(&shared)));
        shared.spawn(history::follow(Arc::clone(&shared), happened));
        Ok(Self { shared, transport, founding, _folder: folder, _stop: guard })
    }

    /// The line that leads into the pool. Whoever has it can join: treat it as a password.
    pub fn ticket(&self) -> Ticket {
        let own = OrchestratorAddress { id: self.id(), addresses: self.addresses() };
        let others = self.founding.orchestrators.iter().filter(|other| other.id != own.id).cloned();
        let orchestrators = std::iter::once(own.clone()).chain(others).collect();
        Ticket { orchestrators, ..self.founding.ticket() }
    }

    /// This orchestrator.
    pub fn id(&self) -> NodeId {
        self.transport.id()
    }

    /// Where it listens, in a stable order.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        addresses(&self.transport)
    }

    /// How agreement stands.
    pub fn standing(&self) -> committee::Standing {
        self.shared.member.standing()
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
        let (linked, remote, routable) = self.shared.live().counts();
        Metrics {
            nodes_linked: linked as u64,
            nodes_remote: remote as u64,
            nodes_routable: routable as u64,
            clients_linked: self.shared.clients().count() as u64,
            waiting: self.shared.desk().waiting() as u64,
            ..self.shared.counters.read()
        }
    }

    /// Removes a machine from the pool for good, whatever ticket it shows later.
    pub async fn remove_member(&self, node: NodeId) -> Result<(), SayError> {
        let fact = Fact::MemberRemoved { node, at_unix_ms: self.shared.now().unix_ms };
        self.shared.say(vec![fact]).await?;
        rules::put_out(&self.shared, node);
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
            self.shared.tasks.close();
            self.shared.tasks.wait().await;
            // Where the others are gone nothing is agreed on any more.
            if tokio::time::timeout(LAST_FACTS_TIME_MAX, epochs::write(&self.shared, true)).await.is_err() {
                tracing::warn!("the last observations were not agreed on in time");
            }
            self.shared.member.shutdown().await;
            self.shared.peers.shutdown().await;
            self.transport.close().await;
        })
    }
}

/// Takes the folder for the orchestrator of this configuration; its port, if it had one.
fn take(config: &OrchestratorConfig) -> Result<(Folder, Option<u16>), StartError> {
    let folder = Folder::take(&config.folder)?;
    match folder.own()? {
        Some(own) if own.id != config.key.id() => {
            Err(StartError::OtherKey { folder: config.folder.clone(), owner: own.id })
        }
        own => Ok((folder, own.and_then(|own| own.port))),
    }
}

/// The pool of the folder; where there is none yet, the one of the configuration, or a new one.
fn found(folder: &Folder, config: &OrchestratorConfig) -> Result<Founding, StartError> {
    match (folder.founding()?, &config.founding) {
        (Some(kept), Some(asked)) if kept.pool() != asked.pool() => {
            Err(StartError::OtherPool { folder: config.folder.clone(), kept: kept.pool(), asked: asked.pool() })
        }
        (Some(kept), None) => Ok(kept),
        // Addresses may have changed since.
        (_, Some(asked)) => Ok(folder.found(asked).map(|()| asked.clone())?),
        (None, None) => {
            let mut secret = [0; 32];
            getrandom::fill(&mut secret).expect("the operating system has a random source");
            let own = config.key.id();
            let owner = config.owner.unwrap_or(own.into());
            let genesis = Genesis { owner, ..Genesis::new(vec![own], &secret, clock::unix_ms()) };
            let founding = Founding { genesis, orchestrators: Vec::new(), secret };
            Ok(folder.found(&founding).map(|()| founding)?)
        }
    }
}

fn addresses(transport: &Transport) -> Vec<SocketAddr> {
    let mut addresses = transport.addresses();
    addresses.sort_unstable();
    if addresses.is_empty() {
        // No network at all: at least this machine can join.
        addresses.push((Ipv4Addr::LOCALHOST, transport.port()).into());
    }
    addresses
}

/// Listens where it was asked to; with port 0, where it listened the last time, so that tickets stay good.
async fn bind(key: &trust::MachineKey, listen: Listen, last: Option<u16>) -> Result<Transport, BindError> {
    let (Listen::Loopback { port: asked } | Listen::Network { port: asked }) = listen;
    if asked != 0 {
        return Transport::bind_for_many(key, listen, &ALPNS).await;
    }
    if let Some(port) = last {
        match bind_again(key, listen.with_port(port)).await {
            Ok(transport) => return Ok(transport),
            Err(error) => tracing::warn!(%error, "another port has to do: hand out the new ticket"),
        }
    } else if let Some(port) = free_port(listen) {
        // One port for both address families, so that asking for it again brings all addresses back.
        if let Ok(transport) = Transport::bind_for_many(key, listen.with_port(port), &ALPNS).await {
            return Ok(transport);
        }
    }
    Transport::bind_for_many(key, listen, &ALPNS).await
}

async fn bind_again(key: &trust::MachineKey, listen: Listen) -> Result<Transport, BindError> {
    for _ in 1..PORT_TRIES {
        if let Ok(transport) = Transport::bind_for_many(key, listen, &ALPNS).await {
            return Ok(transport);
        }
        tokio::time::sleep(PORT_TRY_EVERY).await;
    }
    Transport::bind_for_many(key, listen, &ALPNS).await
}

fn free_port(listen: Listen) -> Option<u16> {
    let ip = match listen {
        Listen::Loopback { .. } => return None,
        Listen::Network { .. } => Ipv4Addr::UNSPECIFIED,
    };
    Some(UdpSocket::bind((ip, 0)).ok()?.local_addr().ok()?.port())
}

/// Shows the newest final block, and links to the committee of this epoch and to that of the next.
async fn follow(shared: Arc<Shared>, known: Vec<OrchestratorAddress>) {
    let mut latest = shared.member.latest();
    let (mut linked, mut shown): (Vec<NodeId>, Option<Arc<(Anchor, State)>>) = (Vec::new(), None);
    loop {
        let newest = Arc::clone(&latest.borrow_and_update());
        if let Some(certified) = newest.anchor.as_ref().filter(|anchor| shown.as_ref() != Some(*anchor)) {
            let (anchor, state) = &**certified;
            shared.anchors.set(Arc::new(anchor.clone()), state.clone());
            shown = Some(Arc::clone(certified));
        }
        let wanted: Vec<NodeId> = {
            let state = &newest.state;
            let committees = state.committee().into_iter().chain(state.next_committee());
            let members: BTreeSet<NodeId> = committees.flat_map(|committee| committee.members().to_vec()).collect();
            members.into_iter().collect()
        };
        if wanted != linked {
            let address = |id: &NodeId| known.iter().find(|known| known.id == *id).map(|known| known.addresses.clone());
            let peers: Vec<OrchestratorAddress> = wanted
                .iter()
                .map(|id| OrchestratorAddress { id: *id, addresses: address(id).unwrap_or_default() })
                .collect();
            shared.peers.keep(&peers);
            linked = wanted;
        }
        if latest.changed().await.is_err() {
            return;
        }
    }
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
        gossip::sweep(&shared);
        shared.issued().sweep(now.steady_ms);
        shared.grudges().sweep(now.steady_ms);
    }
}

/// Runs what blocks off the asynchronous threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("blocking work neither panics nor is cancelled")
}
