//! From the worker's one socket to the tasks' streams.

use protocol::{
    ids::TaskId,
    ipc::{Rejection, ToWorker},
    sealing::SealedTask,
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
};
use tokio::sync::mpsc;

/// Batches of frames that wait for a slow reader before its task is cancelled.
const FRAMES_WAITING_MAX: usize = 4096;

/// What happens to a task.
#[derive(Debug)]
pub(crate) enum TaskEvent {
    Frames(Vec<Vec<u8>>),
    /// The worker gave a sign of life.
    Alive,
    Finished,
    Rejected(Rejection),
}

/// Way to a running worker. When it dies, every task's events end without `Finished`.
#[derive(Clone)]
pub(crate) struct WorkerHandle {
    outbox: mpsc::Sender<ToWorker>,
    routes: Arc<Mutex<Routes>>,
}

#[derive(Default)]
struct Routes {
    tasks: HashMap<TaskId, mpsc::Sender<TaskEvent>>,
    /// The worker is gone: a task that comes now would wait for ever.
    closed: bool,
}

/// A task in the worker; dropping it cancels.
pub(crate) struct RunningTask {
    id: TaskId,
    handle: WorkerHandle,
    events: mpsc::Receiver<TaskEvent>,
    ended: bool,
}

impl WorkerHandle {
    pub(super) fn new(outbox: mpsc::Sender<ToWorker>) -> Self {
        Self { outbox, routes: Arc::default() }
    }

    fn routes(&self) -> MutexGuard<'_, Routes> {
        self.routes.lock().expect("no holder of this lock panics")
    }

    /// Sends without waiting; a worker that does not read is of no use and found out by its tasks' silence.
    pub(super) fn send(&self, message: ToWorker) {
        if self.outbox.try_send(message).is_err() {
            tracing::warn!("the worker does not read its messages");
        }
    }

    /// Passes a task to the worker.
    pub(crate) async fn run(&self, id: TaskId, sealed: SealedTask) -> Result<RunningTask, Rejection> {
        let (sender, events) = mpsc::channel(FRAMES_WAITING_MAX);
        {
            let mut routes = self.routes();
            if routes.closed {
                return Err(Rejection::ShuttingDown);
            }
            if routes.tasks.contains_key(&id) {
                return Err(Rejection::Duplicate);
            }
            routes.tasks.insert(id, sender);
        }
        let task = RunningTask { id, handle: self.clone(), events, ended: false };
        self.outbox.send(ToWorker::Run { task: id, sealed }).await.map_err(|_| Rejection::ShuttingDown)?;
        Ok(task)
    }

    pub(super) fn deliver(&self, task: TaskId, event: TaskEvent) {
        let last = matches!(event, TaskEvent::Finished | TaskEvent::Rejected(_));
        let mut routes = self.routes();
        let Some(route) = routes.tasks.get(&task) else { return };
        let overflow = route.try_send(event).is_err();
        if last || overflow {
            routes.tasks.remove(&task);
        }
        drop(routes);
        if overflow && !last {
            tracing::warn!(%task, "the reader of a task is too slow; cancelled");
            self.send(ToWorker::Cancel { task });
        }
    }

    /// The worker gave a sign of life. Where frames wait to be read, nobody needs one.
    pub(super) fn alive(&self) {
        for route in self.routes().tasks.values() {
            let _ = route.try_send(TaskEvent::Alive);
        }
    }

    /// The worker is gone.
    pub(super) fn lose_all(&self) {
        let mut routes = self.routes();
        routes.closed = true;
        routes.tasks.clear();
    }
}

impl RunningTask {
    /// What happens next; `None`: the worker is gone.
    pub(crate) async fn next(&mut self) -> Option<TaskEvent> {
        let event = self.events.recv().await;
        self.ended = !matches!(event, Some(TaskEvent::Frames(_) | TaskEvent::Alive));
        event
    }
}

impl Drop for RunningTask {
    fn drop(&mut self) {
        if !self.ended {
            self.handle.routes().tasks.remove(&self.id);
            self.handle.send(ToWorker::Cancel { task: self.id });
        }
    }
}
