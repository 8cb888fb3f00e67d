//! The one thread that writes facts: SQLite blocks, so it stays off the asynchronous threads. Facts that wait together
//! are synced together.

use crate::{StoreError, shared::read, store::Store};
use protocol::codec::CodecError;
use registry::{Event, Fact, Registry, Rejection};
use std::{
    io,
    sync::{Arc, PoisonError, RwLock},
    thread::JoinHandle,
};
use tokio::sync::{mpsc, oneshot};

/// Facts that may wait; more senders than that wait themselves.
const WAITING_MAX: usize = 256;

/// Why a fact was not written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// It is none.
    #[error("{0}")]
    Rejected(#[from] Rejection),
    /// It is too long.
    #[error("{0}")]
    Codec(#[from] CodecError),
    /// The store failed; nothing has changed.
    #[error("the orchestrator cannot write its store: {0}")]
    Store(String),
    /// The orchestrator is shutting down.
    #[error("the orchestrator is shutting down")]
    ShuttingDown,
}

type Reply = oneshot::Sender<Result<Vec<Event>, WriteError>>;

enum Command {
    Append(Fact, Reply),
    Close,
}

/// Hands facts to the thread.
#[derive(Clone)]
pub(crate) struct Writer(mpsc::Sender<Command>);

impl Writer {
    /// Starts the thread. It owns the store, and is the only one who changes `registry`.
    pub(crate) fn start(store: Store, registry: Arc<RwLock<Registry>>) -> io::Result<(Self, JoinHandle<()>)> {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        let run = move || run(store, &registry, receiver);
        let thread = std::thread::Builder::new().name("registry".to_owned()).spawn(run)?;
        Ok((Self(sender), thread))
    }

    /// Writes a fact; it is on the disk and in the registry when this returns its events. No events: it was so already.
    pub(crate) async fn append(&self, fact: Fact) -> Result<Vec<Event>, WriteError> {
        let (reply, answer) = oneshot::channel();
        self.0.send(Command::Append(fact, reply)).await.map_err(|_| WriteError::ShuttingDown)?;
        answer.await.unwrap_or(Err(WriteError::ShuttingDown))
    }

    /// Ends the thread, after what was handed in before.
    pub(crate) async fn close(&self) {
        // Fails only where it has ended already.
        let _ = self.0.send(Command::Close).await;
    }
}

fn run(mut store: Store, registry: &RwLock<Registry>, mut commands: mpsc::Receiver<Command>) {
    // The state after what is being written: readers see facts only when they are on the disk.
    let mut next = read(registry).clone();
    let mut closing = false;
    while !closing && let Some(first) = commands.blocking_recv() {
        let mut batch = Batch::default();
        let waiting = std::iter::once(first).chain(std::iter::from_fn(|| commands.try_recv().ok()));
        for command in waiting.take(WAITING_MAX) {
            match command {
                Command::Append(fact, reply) => batch.add(&mut next, fact, reply),
                Command::Close => closing = true,
            }
        }
        match store.append(&batch.encoded) {
            Ok(()) => {
                publish(registry, std::mem::take(&mut batch.facts));
                batch.reply(Ok(()));
            }
            Err(error) => {
                tracing::error!(%error, "the registry cannot be written");
                next = read(registry).clone();
                batch.reply(Err(error));
            }
        }
    }
}

fn publish(registry: &RwLock<Registry>, facts: Vec<Fact>) {
    if facts.is_empty() {
        return;
    }
    let mut registry = registry.write().unwrap_or_else(PoisonError::into_inner);
    for fact in facts {
        registry.apply(fact).expect("it was applied to a registry of the same log before");
    }
}

/// Facts that are written together, and who waits for them.
#[derive(Default)]
struct Batch {
    facts: Vec<Fact>,
    encoded: Vec<Vec<u8>>,
    waiting: Vec<(Reply, Result<Vec<Event>, WriteError>)>,
}

impl Batch {
    fn add(&mut self, next: &mut Registry, fact: Fact, reply: Reply) {
        let applied = fact.encode().map_err(WriteError::from).and_then(|encoded| {
            let events = next.apply(fact.clone())?;
            if !events.is_empty() {
                self.facts.push(fact);
                self.encoded.push(encoded);
            }
            Ok(events)
        });
        self.waiting.push((reply, applied));
    }

    fn reply(self, written: Result<(), StoreError>) {
        let failed = written.err().map(|error| WriteError::Store(error.to_string()));
        for (reply, applied) in self.waiting {
            // "It was so already" may rest on a fact of this batch, so it fails with it.
            let outcome = match (&failed, applied) {
                (Some(error), Ok(_)) => Err(error.clone()),
                (_, applied) => applied,
            };
            // Who asked may be gone.
            let _ = reply.send(outcome);
        }
    }
}
