//! What every task of an orchestrator shares. Locks are held for a moment, never across an await.

use crate::{clients::Clients, clock::Clock, config::Timings, live::Live, metrics::Counters, writer::Writer};
use protocol::ids::PoolId;
use registry::Registry;
use scheduler::Now;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use trust::MachineKey;

pub(crate) struct Shared {
    pub(crate) key: MachineKey,
    pub(crate) pool: PoolId,
    pub(crate) timings: Timings,
    pub(crate) clock: Clock,
    pub(crate) writer: Writer,
    pub(crate) counters: Counters,
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: TaskTracker,
    pub(crate) registry: Arc<RwLock<Registry>>,
    pub(crate) live: Mutex<Live>,
    pub(crate) clients: Mutex<Clients>,
}

impl Shared {
    pub(crate) fn now(&self) -> Now {
        self.clock.now()
    }

    // Where two are needed: registry before live.
    pub(crate) fn registry(&self) -> RwLockReadGuard<'_, Registry> {
        read(&self.registry)
    }

    pub(crate) fn live(&self) -> MutexGuard<'_, Live> {
        lock(&self.live)
    }

    pub(crate) fn clients(&self) -> MutexGuard<'_, Clients> {
        lock(&self.clients)
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
