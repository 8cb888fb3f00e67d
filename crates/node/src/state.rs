//! What the parts of a node share: one small state behind one lock, and a signal when it changes.

use crate::{
    NodeConfig,
    agreed::Agreed,
    books::Books,
    homes::Homes,
    owner_hold::{self, OwnerHold},
    permits::UsedPermits,
    worker::WorkerHandle,
};
use protocol::{
    grant::{Tier, WorkerEvidence},
    hold::Hold,
    ids::NodeId,
    ipc::ModelFacts,
    limits,
    link::{FromNode, NodeState, WorkerState},
    sealing::SealingKey,
    signed::Signed,
    time::unix_ms,
};
use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Mutex, MutexGuard},
    time::SystemTime,
};
use tokio::sync::{mpsc, watch};

/// Waiting tasks for each running one before a node is full.
const QUEUE_PER_SLOT: u32 = 3;

pub(crate) struct Shared {
    pub(crate) config: NodeConfig,
    pub(crate) id: NodeId,
    measurement: [u8; 32],
    addresses: Vec<SocketAddr>,
    pub(crate) books: Books,
    state: Mutex<State>,
    changed: watch::Sender<u64>,
}

/// The mutable part.
pub(crate) struct State {
    pub(crate) worker: Worker,
    /// Whether the owner, or the end of the process, takes the machine back.
    pub(crate) owner: OwnerHold,
    pub(crate) links: HashMap<NodeId, Link>,
    /// Who the committee is: machines whose permits hold.
    pub(crate) agreed: Agreed,
    /// Those that it is linked to, and those that it could be.
    pub(crate) homes: Homes,
    pub(crate) used_permits: UsedPermits,
    /// Ways to orchestrators for what is said about money.
    pub(crate) outlets: HashMap<NodeId, mpsc::Sender<FromNode>>,
    pub(crate) worker_ended: bool,
    active_tasks: u32,
}

/// The link to one orchestrator.
#[derive(Debug, Clone, Default)]
pub(crate) struct Link {
    pub(crate) connected: bool,
    pub(crate) error: Option<String>,
    /// What the orchestrator said last: nothing yet, or why it matches no task to this node, if so.
    pub(crate) standing: Option<Option<Hold>>,
}

/// The worker's condition.
pub(crate) enum Worker {
    Starting,
    Ready(Box<ReadyWorker>),
    Down { why: String },
}

pub(crate) struct ReadyWorker {
    pub(crate) handle: WorkerHandle,
    pub(crate) facts: ModelFacts,
    pub(crate) sandbox_json: String,
    pub(crate) process_id: u32,
    keys: Vec<SealingKey>,
    evidence: Signed<WorkerEvidence>,
    evidence_expires_unix_ms: u64,
}

impl State {
    /// Why the node takes no work, if so.
    pub(crate) fn hold(&self) -> Option<Hold> {
        if let Some(hold) = self.owner.hold() {
            return Some(hold);
        }
        match &self.worker {
            Worker::Starting => Some(Hold::Starting),
            Worker::Down { why } => Some(Hold::WorkerDown { why: why.clone() }),
            Worker::Ready(worker) if self.active_tasks >= worker.capacity() => {
                Some(Hold::Full { slots: worker.facts.slots })
            }
            Worker::Ready(_) => None,
        }
    }

    /// Whether an orchestrator matches tasks to this node.
    pub(crate) fn is_routed(&self) -> bool {
        self.links.values().any(|link| link.connected && link.standing == Some(None))
    }

    pub(crate) fn active_tasks(&self) -> u32 {
        self.active_tasks
    }
}

impl ReadyWorker {
    pub(crate) fn capacity(&self) -> u32 {
        self.facts.slots.saturating_mul(1 + QUEUE_PER_SLOT)
    }
}

impl Shared {
    pub(crate) fn new(config: NodeConfig, measurement: [u8; 32], addresses: Vec<SocketAddr>) -> Self {
        let state = State {
            worker: Worker::Starting,
            owner: OwnerHold::default(),
            links: HashMap::new(),
            agreed: Agreed::new(config.ticket.pool),
            homes: Homes::new(config.key.id(), &config.ticket.orchestrators),
            used_permits: UsedPermits::default(),
            outlets: HashMap::new(),
            worker_ended: false,
            active_tasks: 0,
        };
        let (id, books) = (config.key.id(), Books::open(config.owed.clone()));
        Self { config, id, measurement, addresses, books, state: Mutex::new(state), changed: watch::Sender::new(0) }
    }

    /// Reads the state. Never held across an await.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }

    /// Changes the state and wakes who waits for a change.
    pub(crate) fn update<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.lock());
        self.wake();
        result
    }

    /// Wakes who waits for a change.
    pub(crate) fn wake(&self) {
        self.changed.send_modify(|version| *version += 1);
    }

    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    pub(crate) async fn wait_until(&self, condition: impl Fn(&State) -> bool) {
        let mut changes = self.watch();
        while !condition(&self.lock()) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Waits until the worker's process has ended.
    pub(crate) async fn stopped(&self) {
        self.wait_until(|state| state.worker_ended).await;
    }

    /// Takes a place for one task, or says why there is none. The place is given back when the guard is dropped.
    pub(crate) fn begin_task(self: &std::sync::Arc<Self>) -> Result<(WorkerHandle, Place), Hold> {
        self.update(|state| {
            if let Some(hold) = state.hold() {
                return Err(hold);
            }
            let Worker::Ready(worker) = &state.worker else { return Err(Hold::Starting) };
            let handle = worker.handle.clone();
            state.active_tasks += 1;
            Ok((handle, Place(std::sync::Arc::clone(self))))
        })
    }

    /// The worker is up, or has new keys.
    pub(crate) fn set_ready(
        &self,
        handle: WorkerHandle,
        keys: Vec<SealingKey>,
        facts: ModelFacts,
        sandbox_json: String,
        process_id: u32,
    ) {
        let (evidence, evidence_expires_unix_ms) = self.evidence(&keys);
        let ready = ReadyWorker { handle, facts, sandbox_json, process_id, keys, evidence, evidence_expires_unix_ms };
        self.update(|state| state.worker = Worker::Ready(Box::new(ready)));
    }

    /// Signs new evidence where keys have changed or the evidence is about to expire.
    pub(crate) fn renew_evidence(&self, new_keys: Option<Vec<SealingKey>>) {
        let mut state = self.lock();
        let Worker::Ready(worker) = &mut state.worker else { return };
        let due = worker.evidence_expires_unix_ms < unix_ms(SystemTime::now()) + limits::EVIDENCE_LIFETIME_MS / 2;
        if new_keys.is_none() && !due {
            return;
        }
        if let Some(keys) = new_keys {
            worker.keys = keys;
        }
        (worker.evidence, worker.evidence_expires_unix_ms) = self.evidence(&worker.keys);
        drop(state);
        self.wake();
    }

    fn evidence(&self, keys: &[SealingKey]) -> (Signed<WorkerEvidence>, u64) {
        let issued_unix_ms = unix_ms(SystemTime::now());
        let expires_unix_ms = issued_unix_ms + limits::EVIDENCE_LIFETIME_MS;
        let evidence = WorkerEvidence {
            node: self.id,
            model: self.config.model.digest,
            measurement: self.measurement,
            keys: keys.to_vec(),
            tier: Tier::SelfSigned,
            issued_unix_ms,
            expires_unix_ms,
        };
        (self.config.key.sign(&evidence), expires_unix_ms)
    }

    /// BLAKE3 of the evidence that tasks are sealed to now.
    pub(crate) fn evidence_digest(&self) -> [u8; 32] {
        match &self.lock().worker {
            Worker::Ready(worker) => trust::evidence::digest(&worker.evidence),
            Worker::Starting | Worker::Down { .. } => [0; 32],
        }
    }

    /// What the orchestrators are told.
    pub(crate) fn announcement(&self) -> NodeState {
        let state = self.lock();
        let workers = match &state.worker {
            Worker::Ready(worker) => vec![WorkerState {
                model: self.config.model.clone(),
                facts: worker.facts.clone(),
                evidence: worker.evidence.clone(),
                active_tasks: state.active_tasks,
                capacity: worker.capacity(),
            }],
            Worker::Starting | Worker::Down { .. } => Vec::new(),
        };
        NodeState {
            label: self.config.label.clone(),
            addresses: self.addresses.clone(),
            workers,
            active_tasks: state.active_tasks,
            hold: state.hold().map(owner_hold::public),
        }
    }
}

/// A place taken by a task.
pub(crate) struct Place(std::sync::Arc<Shared>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.update(|state| state.active_tasks -= 1);
    }
}
