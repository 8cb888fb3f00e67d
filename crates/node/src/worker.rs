//! Supervision of the worker: start, watch, restart with back-off, end.

mod process;
mod routes;
mod vetting;

pub(crate) use routes::{TaskEvent, WorkerHandle};

use crate::{
    memory,
    state::{Shared, Worker},
};
use protocol::ipc::{FromWorker, ToWorker};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Back-off between restarts: doubles from the first to the last.
const RESTART_AFTER_MIN: Duration = Duration::from_millis(250);
const RESTART_AFTER_MAX: Duration = Duration::from_secs(30);
/// A worker that lived this long starts the back-off anew.
const STABLE_AFTER: Duration = Duration::from_secs(60);
/// A worker that is asked to end gets this long.
const END_TIME_MAX: Duration = Duration::from_secs(2);
/// How often evidence is looked at for renewal.
const EVIDENCE_CHECK_EVERY: Duration = Duration::from_secs(60);

/// Keeps one worker running until `stop`.
pub(crate) async fn supervise(shared: Arc<Shared>, stop: CancellationToken) {
    let mut restart_after = RESTART_AFTER_MIN;
    while !stop.is_cancelled() {
        let started = Instant::now();
        shared.update(|state| state.worker = Worker::Starting);
        // Nothing of the worker is left while the owner has the machine.
        tokio::select! {
            () = stop.cancelled() => break,
            () = shared.wait_until(|state| !state.owner.is_whole()) => {}
        }
        let end = run_once(&shared, &stop).await;
        if stop.is_cancelled() {
            break;
        }
        let why = match end {
            End::GivenBack => {
                tracing::info!("the machine is its owner's; the worker has ended");
                continue;
            }
            End::Failed(why) => why,
        };
        if started.elapsed() > STABLE_AFTER {
            restart_after = RESTART_AFTER_MIN;
        }
        tracing::error!(%why, restart_after_ms = restart_after.as_millis() as u64, "the worker ended");
        shared.update(|state| state.worker = Worker::Down { why });
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(restart_after) => {}
        }
        restart_after = (restart_after * 2).min(RESTART_AFTER_MAX);
    }
    shared.update(|state| {
        state.worker = Worker::Down { why: "the node has stopped".to_owned() };
        state.worker_ended = true;
    });
}

/// How a worker ended.
enum End {
    /// Its owner wants the machine.
    GivenBack,
    /// By itself, or because it is of no more use.
    Failed(String),
}

/// Runs one worker to its end and says how it ended.
async fn run_once(shared: &Arc<Shared>, stop: &CancellationToken) -> End {
    let (mut process, mut messages, outbox) = match process::start(&shared.config).await {
        Ok(parts) => parts,
        Err(why) => return End::Failed(why),
    };
    let given_back = shared.wait_until(|state| state.owner.is_whole());
    let exceeded = memory::exceeded(shared, process.id());
    tokio::pin!(given_back, exceeded);
    let handle = WorkerHandle::new(outbox);
    let mut evidence_check = tokio::time::interval(EVIDENCE_CHECK_EVERY);
    let end = loop {
        tokio::select! {
            // Before anything else: nothing that the worker says is worth a tenth of a second of the owner's.
            biased;
            () = &mut given_back => break End::GivenBack,
            () = stop.cancelled() => {
                handle.send(ToWorker::Shutdown);
                break End::Failed("stopped".to_owned());
            }
            _ = evidence_check.tick() => shared.renew_evidence(None),
            why = &mut exceeded => break End::Failed(why),
            message = messages.recv() => match message {
                Some(message) => {
                    if let Some(why) = handle_message(shared, &handle, process.id(), message) {
                        break End::Failed(why);
                    }
                }
                None => break End::Failed(process.exit_reason().await),
            },
        }
    };
    if stop.is_cancelled() && !matches!(end, End::GivenBack) {
        // Frames that the worker still sends, sealed errors among them, are passed on to their readers.
        let last_words = async {
            while let Some(message) = messages.recv().await {
                handle_message(shared, &handle, process.id(), message);
            }
        };
        if tokio::time::timeout(END_TIME_MAX, last_words).await.is_err() {
            tracing::warn!("the worker did not end in time and is killed");
        }
    }
    if matches!(end, End::GivenBack) {
        // Askers go on elsewhere while the process dies.
        handle.lose_all();
        shared.update(|state| state.worker = Worker::Starting);
    }
    process.end().await;
    handle.lose_all();
    end
}

/// Handles one message; a reason means that the worker is of no more use.
fn handle_message(shared: &Arc<Shared>, handle: &WorkerHandle, process_id: u32, message: FromWorker) -> Option<String> {
    let message = match vetting::vet(message) {
        Ok(message) => message,
        Err(why) => return Some(why.to_owned()),
    };
    match message {
        FromWorker::Ready { keys, model, sandbox_json } => {
            tracing::info!(architecture = %model.architecture, slots = model.slots, "worker ready");
            shared.set_ready(handle.clone(), keys, model, sandbox_json, process_id);
        }
        FromWorker::Keys { keys } => shared.renew_evidence(Some(keys)),
        FromWorker::Frames { task, frames } => handle.deliver(task, TaskEvent::Frames(frames)),
        FromWorker::Alive => handle.alive(),
        FromWorker::Finished { task, usage: _ } => handle.deliver(task, TaskEvent::Finished),
        FromWorker::Rejected { task, why } => handle.deliver(task, TaskEvent::Rejected(why)),
        FromWorker::Failed { why } => return Some(why),
    }
    None
}
