//! Clients: one connection each, one stream for each task.

use crate::{
    paid::{Paid, Turn},
    state::Shared,
    worker::TaskEvent,
};
use protocol::{
    grant::Permit,
    hold::Hold,
    limits,
    market::Price,
    sealing::SealedTask,
    signed::Signed,
    stream::{Refused, Reply},
    time::unix_ms,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use transport::{Connection, NodeId, Receiver, SendError, Sender, Transport};
use trust::permit;

/// Connections at once; more are turned away before any work is done for them.
const CONNECTIONS_MAX: usize = 4096;
/// A client that opens a stream sends its permit and task within this time.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(10);
/// A client that reads nothing for this long is given up.
const REPLY_TIME_MAX: Duration = Duration::from_secs(10);

/// Takes connections until the transport closes.
pub(crate) async fn listen(shared: Arc<Shared>, transport: Transport, tasks: TaskTracker) {
    let connections = Arc::new(AtomicUsize::new(0));
    while let Some(incoming) = transport.accept().await {
        if connections.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS_MAX {
            connections.fetch_sub(1, Ordering::Relaxed);
            incoming.refuse();
            continue;
        }
        let (shared, connections) = (Arc::clone(&shared), Arc::clone(&connections));
        let streams = tasks.clone();
        tasks.spawn(async move {
            match incoming.handshake().await {
                Ok(connection) => serve_connection(shared, connection, streams).await,
                Err(error) => tracing::debug!(%error, "a connection came to nothing"),
            }
            connections.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

async fn serve_connection(shared: Arc<Shared>, connection: Connection, tasks: TaskTracker) {
    let client = connection.remote();
    // Who has nothing to ask has no business here.
    let Ok(mut stream) = timeout(REQUEST_TIME_MAX, connection.accept_stream()).await else {
        connection.close("no request in time");
        return;
    };
    while let Some((sender, receiver)) = stream {
        let shared = Arc::clone(&shared);
        tasks.spawn(async move {
            let mut sender = sender;
            match serve_task(&shared, client, &mut sender, receiver).await {
                Ok(()) => sender.finish(),
                Err(error) => tracing::debug!(%error, client = %client.short(), "a task's stream broke"),
            }
        });
        stream = connection.accept_stream().await;
    }
}

/// Serves one task to its end. An error means that nobody listens any more.
async fn serve_task(
    shared: &Arc<Shared>,
    client: NodeId,
    sender: &mut Sender,
    mut receiver: Receiver,
) -> Result<(), SendError> {
    let permit = match read_permit(shared, client, &mut receiver).await {
        Ok(permit) => permit,
        Err(refused) => return refuse(sender, refused).await,
    };
    // A place before the large message: what is read at once is bounded by the places that there are.
    let (worker, place) = match shared.begin_task() {
        Ok(begun) => begun,
        Err(hold) => return refuse(sender, refused_by(hold)).await,
    };
    let sealed: SealedTask = match read(&mut receiver, limits::STREAM_MESSAGE_BYTES_MAX).await {
        Ok(sealed) => sealed,
        Err(refused) => return refuse(sender, refused).await,
    };
    let price = permit.price.filter(|price| *price != Price::default());
    let mut paid = match price {
        None => None,
        Some(price) => {
            let evidence = shared.evidence_digest();
            match Paid::begin(shared, client, &permit, price, evidence, receiver).await {
                Ok(paid) => Some(paid),
                Err(refused) => return refuse(sender, refused).await,
            }
        }
    };
    let mut running = match worker.run(permit.task, sealed).await {
        Ok(running) => running,
        Err(rejection) => return refuse(sender, Refused::Worker(rejection)).await,
    };
    reply(sender, &Reply::Accepted).await?;
    // Resolves when the client stops listening: the task is cancelled by dropping it.
    let cancelled = sender.stopped();
    tokio::pin!(cancelled);
    loop {
        let message = tokio::select! {
            biased;
            () = &mut cancelled => return Err(SendError::Stopped),
            turn = next_turn(&mut paid) => match turn {
                Turn::GoesOn => continue,
                Turn::Last => {
                    // The task is cancelled, and its place free, before what is due is settled.
                    drop((running, place));
                    return match paid {
                        Some(paid) => paid.settle(sender).await,
                        None => Ok(()),
                    };
                }
                Turn::Stops(reply) => reply,
            },
            event = running.next() => match event {
                Some(TaskEvent::Frames(frames)) => Reply::Frames(frames),
                // Not from a clock of this process: a worker that is frozen must look silent to the client.
                Some(TaskEvent::Alive) => Reply::KeepAlive,
                Some(TaskEvent::Finished) => Reply::Finished,
                Some(TaskEvent::Rejected(rejection)) => Reply::Refused(Refused::Worker(rejection)),
                None if shared.lock().owner.hands_back() => Reply::HandedBack,
                None => Reply::WorkerLost,
            },
        };
        let message = match (&mut paid, message) {
            (Some(paid), Reply::Frames(frames)) => paid.sends(frames.len()).unwrap_or(Reply::Frames(frames)),
            (_, message) => message,
        };
        let last = !matches!(message, Reply::Frames(_) | Reply::KeepAlive);
        if last {
            // The place is free before the client knows, so that its next task finds it.
            drop((running, place));
            reply(sender, &message).await?;
            return match paid {
                Some(paid) => paid.conclude(sender).await,
                None => Ok(()),
            };
        }
        reply(sender, &message).await?;
    }
}

async fn next_turn(paid: &mut Option<Paid>) -> Turn {
    match paid {
        Some(paid) => paid.next().await,
        None => std::future::pending().await,
    }
}

async fn read_permit(shared: &Shared, client: NodeId, receiver: &mut Receiver) -> Result<Permit, Refused> {
    let permit: Signed<Permit> = read(receiver, limits::PERMIT_BYTES_MAX).await?;
    check_permit(shared, client, &permit)
}

async fn read<T: serde::de::DeserializeOwned>(receiver: &mut Receiver, limit: usize) -> Result<T, Refused> {
    match timeout(REQUEST_TIME_MAX, receiver.message(limit)).await {
        Ok(Ok(Some(message))) => Ok(message),
        _ => Err(Refused::Malformed),
    }
}

fn check_permit(shared: &Shared, client: NodeId, signed: &Signed<Permit>) -> Result<Permit, Refused> {
    let now_unix_ms = unix_ms(SystemTime::now());
    let expected = permit::Expected { pool: shared.config.ticket.pool, client, node: shared.id };
    let orchestrators = shared.lock().agreed.orchestrators().to_vec();
    let permit = permit::verify(signed, &orchestrators, &expected, now_unix_ms)
        .map_err(|error| Refused::Permit { why: error.to_string() })?;
    if permit.model != shared.config.model.digest {
        return Err(Refused::Permit { why: "it is for another model".to_owned() });
    }
    if !shared.lock().used_permits.take(permit.task, permit.expires_unix_ms, now_unix_ms) {
        return Err(Refused::Replayed);
    }
    Ok(permit)
}

fn refused_by(hold: Hold) -> Refused {
    match hold {
        Hold::Full { .. } => Refused::Full,
        Hold::Draining | Hold::Left => Refused::Draining,
        _ => Refused::NotReady,
    }
}

async fn refuse(sender: &mut Sender, refused: Refused) -> Result<(), SendError> {
    tracing::debug!(%refused, "task refused");
    reply(sender, &Reply::Refused(refused)).await
}

async fn reply(sender: &mut Sender, reply: &Reply) -> Result<(), SendError> {
    // A client that does not read gives its place to others.
    match timeout(REPLY_TIME_MAX, sender.message(reply, limits::STREAM_MESSAGE_BYTES_MAX)).await {
        Ok(sent) => sent,
        Err(_) => {
            sender.reset();
            Err(SendError::Stopped)
        }
    }
}
