//! The node daemon: lends a machine to a pool.
//!
//! It starts the sandboxed worker and keeps it alive (`worker`), tells the orchestrators what it can do (`link`),
//! and carries sealed tasks from clients to the worker and sealed frames back (`serve`). It holds ciphertext and counts;
//! there is no key in this process that opens either (promise P1).
//!
//! ```no_run
//! # async fn example(config: node::NodeConfig) -> Result<(), node::StartError> {
//! let node = node::Node::start(config).await?;
//! node.ready().await;
//! println!("{:?}", node.status());
//! node.shutdown(std::time::Duration::from_secs(30)).await;
//! # Ok(()) }
//! ```
//!
//! Invariants:
//! * whose permits hold it finds out itself, from what the pool's committees have signed (`agreed`);
//! * a task is passed on only with a permit that an orchestrator of the pool signed for this client, this node and this
//!   task, and each permit once;
//! * what an asker has signed for is handed in until it is agreed on, over any crash (`books`, `paid`);
//! * the node, not the orchestrator, has the last word on its capacity;
//! * what happens to one task, one client or one orchestrator never holds up another;
//! * whenever the node takes no work, [`NodeStatus::hold`] says why;
//! * when the owner takes the machine back ([`Node::hold_back`], [`Node::pause`]), the worker is killed and every task is
//!   handed back to its asker (promise P9).

mod agreed;
mod books;
mod homes;
mod link;
mod memory;
mod owner_hold;
mod paid;
mod permits;
mod serve;
mod state;
mod status;
mod worker;

pub use status::{LinkStatus, NodeStatus, WorkerStatus};

use homes::HOMES;
use protocol::{
    hold::Hold,
    ids::NodeId,
    link::{ModelEntry, Role},
    ticket::Ticket,
};
use state::Shared;
use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use transport::{Boxed, Listen, Transport};
use trust::MachineKey;

/// The end of a node does not depend on the end of its worker, which is killed with it in any case.
const WORKER_END_MAX: Duration = Duration::from_secs(5);
/// Nor on orchestrators that do not take its goodbye.
const LINKS_END_MAX: Duration = Duration::from_secs(2);

/// Nor on what is owed, which is kept.
const SETTLE_TIME_MAX: Duration = Duration::from_secs(2);

/// What a node needs to start.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// The machine's key.
    pub key: MachineKey,
    /// Where it takes connections from clients.
    pub listen: Listen,
    /// The pool that it lends itself to.
    pub ticket: Ticket,
    /// Keys of the same home, which join with this one where the ticket has an invite; this one among them or not.
    pub household: Vec<(NodeId, Role)>,
    /// What people call the machine.
    pub label: String,
    /// The worker's program.
    pub worker_program: PathBuf,
    /// The model that it serves.
    pub model: ModelEntry,
    /// The model's file: the descriptor that was verified, so that nobody can put another file in its place.
    pub model_file: Arc<std::fs::File>,
    /// How the worker runs it.
    pub worker: WorkerSettings,
    /// What holds it back from the start on: a pause, a broken rule.
    pub holds: Vec<Hold>,
    /// The folder in which it keeps what it is owed; `None`: what is owed when it dies is lost.
    pub owed: Option<PathBuf>,
    /// Orders of up to so many micro-credits are served before they are known to be held: what it risks for a quick start.
    pub credit_micro_max: u64,
}

/// How a worker runs its model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkerSettings {
    /// Tokens of context for one task; `None`: the model's own, within the worker's default bound.
    pub context_tokens: Option<u32>,
    /// Tasks at once.
    pub slots: u32,
    /// Threads; `None`: one for each core.
    pub threads: Option<u32>,
    /// Share of the time, in percent, that it may compute.
    pub duty_percent: u8,
    /// Most memory; `None`: as much as it takes.
    pub memory_bytes_max: Option<u64>,
}

impl Default for WorkerSettings {
    fn default() -> Self {
        Self { context_tokens: None, slots: 4, threads: None, duty_percent: 100, memory_bytes_max: None }
    }
}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// No place to listen.
    #[error(transparent)]
    Bind(#[from] transport::BindError),
    /// The worker's program cannot be read.
    #[error("cannot read the worker's program {}: {why}", .path.display())]
    WorkerProgram {
        /// Where it was looked for.
        path: PathBuf,
        /// What the system said.
        why: std::io::Error,
    },
    /// The model takes more memory than the owner allows.
    #[error("{0}")]
    Memory(String),
    /// The pool does not admit this machine.
    #[error("the pool does not admit this machine: {0}")]
    Denied(protocol::link::Denied),
}

/// A running node.
pub struct Node {
    shared: Arc<Shared>,
    transport: Transport,
    tasks: TaskTracker,
    links: TaskTracker,
    stop: CancellationToken,
}

impl Node {
    /// Starts the worker, the links and the listener. Returns when an orchestrator has admitted the machine, or at once
    /// where none answers yet: links are tried until [`Node::shutdown`].
    pub fn start(config: NodeConfig) -> Boxed<'static, Result<Self, StartError>> {
        Box::pin(Self::start_parts(config))
    }

    async fn start_parts(config: NodeConfig) -> Result<Self, StartError> {
        if let Some(why) = memory::misfit(config.model.bytes, config.worker.memory_bytes_max) {
            return Err(StartError::Memory(why));
        }
        let measurement = measure(&config.worker_program).await?;
        let transport = Transport::bind(&config.key, config.listen, &[protocol::stream::ALPN]).await?;
        let shared = Arc::new(Shared::new(config, measurement, transport.addresses()));
        for hold in shared.config.holds.clone() {
            match hold {
                Hold::Paused { until_unix_ms } => shared.pause(until_unix_ms),
                hold => shared.set_rule(Some(hold)),
            }
        }
        let (tasks, links) = (TaskTracker::new(), TaskTracker::new());
        let node = Self { shared, transport, tasks, links, stop: CancellationToken::new() };

        node.tasks.spawn(worker::supervise(Arc::clone(&node.shared), node.stop.clone()));
        node.tasks.spawn(books::run(Arc::clone(&node.shared), node.stop.clone()));
        node.tasks.spawn(serve::listen(Arc::clone(&node.shared), node.transport.clone(), node.tasks.clone()));
        let mut first = Vec::new();
        for _ in 0..HOMES {
            let (admitted, admission) = tokio::sync::oneshot::channel();
            let shared = Arc::clone(&node.shared);
            node.links.spawn(link::keep(shared, node.transport.clone(), admitted, node.stop.clone()));
            first.push(admission);
        }
        for admission in first {
            if let Ok(link::Admission::Denied(denied)) = admission.await {
                node.shutdown(Duration::ZERO).await;
                return Err(StartError::Denied(denied));
            }
        }
        Ok(node)
    }

    /// This machine.
    pub fn id(&self) -> NodeId {
        self.transport.id()
    }

    /// Where clients reach it.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.transport.addresses()
    }

    /// The port it listens on, to be asked for again after a restart.
    pub fn port(&self) -> u16 {
        self.transport.port()
    }

    /// Waits until the worker has loaded its model and an orchestrator matches tasks to it.
    pub async fn ready(&self) {
        self.shared.wait_until(|state| state.hold().is_none() && state.is_routed()).await;
    }

    /// The node as it is now.
    pub fn status(&self) -> NodeStatus {
        status::of(&self.shared, self.addresses())
    }

    /// What a rule of the owner's says: with a hold the machine is given back at once, without one it is lent.
    pub fn hold_back(&self, hold: Option<Hold>) {
        self.shared.set_rule(hold);
    }

    /// Gives the machine back at once, until a time (in milliseconds since 1970) or until [`Node::resume`]. To be called
    /// in a runtime of tokio.
    pub fn pause(&self, until_unix_ms: Option<u64>) {
        self.shared.pause(until_unix_ms);
    }

    /// Ends a pause or a drain. Rules of the owner's hold on.
    pub fn resume(&self) {
        self.shared.resume();
    }

    /// Takes no more tasks and finishes those that run; the worker stays, until [`Node::resume`] or the end.
    pub fn drain(&self) {
        self.shared.drain();
    }

    /// Takes no more tasks, says goodbye, finishes those that run for at most `drain`, then ends the worker.
    pub fn shutdown(&self, drain: Duration) -> Boxed<'_, ()> {
        Box::pin(self.end(drain))
    }

    async fn end(&self, drain: Duration) {
        self.shared.update(|state| state.owner.end());
        let idle = self.shared.wait_until(|state| state.active_tasks() == 0);
        if tokio::time::timeout(drain, idle).await.is_err() {
            tracing::warn!("tasks were still running at the end of the drain time");
        }
        // What is owed is handed in; the rest is kept for the next start.
        let _ = tokio::time::timeout(SETTLE_TIME_MAX, self.shared.books.settled()).await;
        self.stop.cancel();
        self.tasks.close();
        self.links.close();
        if tokio::time::timeout(WORKER_END_MAX, self.shared.stopped()).await.is_err() {
            tracing::error!("the worker's supervisor did not end");
        }
        // Goodbyes are on their way for as long as links are.
        if tokio::time::timeout(LINKS_END_MAX, self.links.wait()).await.is_err() {
            tracing::warn!("an orchestrator did not take the goodbye");
        }
        self.transport.close().await;
        self.tasks.wait().await;
    }
}

/// BLAKE3 of the worker's program: what the evidence says is running.
async fn measure(path: &std::path::Path) -> Result<[u8; 32], StartError> {
    let fail = |why| StartError::WorkerProgram { path: path.to_owned(), why };
    let program = tokio::fs::read(path).await.map_err(fail)?;
    let hash = tokio::task::spawn_blocking(move || *blake3::hash(&program).as_bytes()).await;
    hash.map_err(|_| fail(std::io::Error::other("hashing was interrupted")))
}
