//! What every task of an orchestrator shares. Locks are held for a moment, never across an await.

use crate::{
    anchor::Anchors, clients::Clients, clock::Clock, config::Timings, gossip::Exchange, grudges::Grudges,
    history::History, issued::Issued, ledger::Pending, live::Live, matching::Desk, measuring::Agenda,
    metrics::Counters, observed::Observed, outcomes::Testimony, peers::Peers,
};
use committee::{Member, SayError};
use protocol::{
    ids::{NodeId, PoolId},
    link::NodeRow,
};
use registry::{Event, Fact, Registry};
use scheduler::{Budget, Now};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use trust::{MachineKey, score::PoolMedian};

pub(crate) struct Shared {
    pub(crate) key: MachineKey,
    pub(crate) pool: PoolId,
    pub(crate) timings: Timings,
    pub(crate) clock: Clock,
    pub(crate) member: Member,
    pub(crate) peers: Arc<Peers>,
    pub(crate) counters: Counters,
    pub(crate) anchors: Anchors,
    /// Counts up whenever somebody may take part no more: links look whether it is theirs.
    pub(crate) removals: watch::Sender<u64>,
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: TaskTracker,
    pub(crate) registry: Arc<RwLock<Registry>>,
    pub(crate) live: Mutex<Live>,
    pub(crate) clients: Mutex<Clients>,
    pub(crate) states: States,
    /// How credits moved, for those who may see it.
    pub(crate) history: Arc<History>,
    /// Questions that are being answered.
    pub(crate) answers: TaskTracker,
}

/// What has a lock of its own. Where two are needed: desk, audits, registry, gossip, live, and any of the rest last and
/// alone.
pub(crate) struct States {
    desk: Mutex<Desk>,
    audits: Mutex<Budget>,
    issued: Mutex<Issued>,
    grudges: Mutex<Grudges>,
    testimony: Mutex<Testimony>,
    observed: Mutex<Observed>,
    agenda: Mutex<Agenda>,
    median: Mutex<PoolMedian>,
    gossip: Mutex<Exchange>,
    pending: Mutex<Pending>,
}

impl States {
    pub(crate) fn new(audits: Budget, gossip: Exchange) -> Self {
        Self {
            desk: Mutex::default(),
            audits: Mutex::new(audits),
            issued: Mutex::default(),
            grudges: Mutex::default(),
            testimony: Mutex::default(),
            observed: Mutex::default(),
            agenda: Mutex::default(),
            median: Mutex::default(),
            gossip: Mutex::new(gossip),
            pending: Mutex::default(),
        }
    }
}

impl Shared {
    pub(crate) fn now(&self) -> Now {
        self.clock.now()
    }

    pub(crate) fn registry(&self) -> RwLockReadGuard<'_, Registry> {
        read(&self.registry)
    }

    pub(crate) fn live(&self) -> MutexGuard<'_, Live> {
        lock(&self.live)
    }

    pub(crate) fn clients(&self) -> MutexGuard<'_, Clients> {
        lock(&self.clients)
    }

    pub(crate) fn desk(&self) -> MutexGuard<'_, Desk> {
        lock(&self.states.desk)
    }

    pub(crate) fn audits(&self) -> MutexGuard<'_, Budget> {
        lock(&self.states.audits)
    }

    pub(crate) fn gossip(&self) -> MutexGuard<'_, Exchange> {
        lock(&self.states.gossip)
    }

    pub(crate) fn pending(&self) -> MutexGuard<'_, Pending> {
        lock(&self.states.pending)
    }

    pub(crate) fn issued(&self) -> MutexGuard<'_, Issued> {
        lock(&self.states.issued)
    }

    pub(crate) fn grudges(&self) -> MutexGuard<'_, Grudges> {
        lock(&self.states.grudges)
    }

    pub(crate) fn testimony(&self) -> MutexGuard<'_, Testimony> {
        lock(&self.states.testimony)
    }

    pub(crate) fn observed(&self) -> MutexGuard<'_, Observed> {
        lock(&self.states.observed)
    }

    pub(crate) fn agenda(&self) -> MutexGuard<'_, Agenda> {
        lock(&self.states.agenda)
    }

    pub(crate) fn median(&self) -> MutexGuard<'_, PoolMedian> {
        lock(&self.states.median)
    }

    /// Makes facts of the pool; they are agreed on when this returns their events. No events: it was so already.
    pub(crate) async fn say(&self, facts: Vec<Fact>) -> Result<Vec<Event>, SayError> {
        self.member.say(facts).await
    }

    /// The next rows of the nodes, by their ids; none: that was all.
    pub(crate) fn rows_after(&self, after: Option<NodeId>) -> Vec<NodeRow> {
        let registry = self.registry();
        self.live().rows(&registry, after, self.now())
    }

    /// Runs until it ends or the orchestrator does.
    pub(crate) fn spawn(self: &Arc<Self>, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            // Either way it is over.
            let _ = stop.run_until_cancelled_owned(task).await;
        });
    }
}

// A holder that panicked left whole entries behind: each change is one assignment or insertion.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn read<T>(shared: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    shared.read().unwrap_or_else(PoisonError::into_inner)
}
