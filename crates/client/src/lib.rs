//! The asker's side: match, verify, seal, stream.
//!
//! A [`Client`] runs in the asker's own process. It asks an orchestrator who may serve a task (metadata only), checks each
//! candidate's evidence itself against its own policy (promise P2), seals the task to the worker's key, and opens the
//! sealed frames of the answer. Plaintext leaves this process sealed, or not at all.
//!
//! ```no_run
//! use client::{Client, ClientConfig};
//! use protocol::{task::{Frame, Task}, ticket::Ticket};
//!
//! # async fn example(ticket: Ticket) -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::start(ClientConfig::new(trust::MachineKey::generate(), ticket)).await?;
//! let mut answer = client.ask("default", Task::chat("Why is the sky blue?")).await?;
//! while let Some(frame) = answer.next().await {
//!     if let Frame::Tokens { text, .. } = &frame? {
//!         print!("{text}");
//!     }
//! }
//! # Ok(()) }
//! ```
//!
//! Invariants:
//! * nothing is sent to a worker whose evidence does not hold or does not satisfy the policy;
//! * an answer ends with its sealed final frame or with an error, never silently;
//! * a task that a node took is never sent again; a refusal moves on to the next candidate;
//! * dropping an [`Answer`] cancels the task at its worker.

mod answer;
mod attempt;
mod clock;
mod error;
mod nodes;
mod orchestrator;

pub use answer::Answer;
pub use error::AskError;

use attempt::Outcome;
use orchestrator::Orchestrators;
use protocol::{
    grant::{Grant, Locality, MatchReply, MatchRequest, ModelRef, Policy, Refusal, RefusalKind},
    ids::{ModelDigest, NodeId, TaskId},
    limits,
    link::{self, NodeRow, Question},
    padding,
    task::{Task, TaskError},
    ticket::Ticket,
};
use std::sync::Arc;
use transport::{Boxed, Listen, Transport};
pub use trust::MachineKey;

/// Grants asked for before a task is given up: each names up to three nodes.
const GRANTS_MAX: usize = 3;
/// What the asker is told where the orchestrator gives no time.
const RETRY_AFTER_MS: u64 = 1_000;

/// What a client needs to start.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// The key of its connections.
    pub key: MachineKey,
    /// The pool.
    pub ticket: Ticket,
    /// What it insists on.
    pub policy: Policy,
    /// From where it dials.
    pub listen: Listen,
}

impl ClientConfig {
    /// A client with the default policy, on the interfaces that the ticket's addresses need.
    pub fn new(key: MachineKey, ticket: Ticket) -> Self {
        let mut addresses = ticket.orchestrators.iter().flat_map(|orchestrator| &orchestrator.addresses);
        let listen = if addresses.all(|address| address.ip().is_loopback()) {
            Listen::Loopback { port: 0 }
        } else {
            Listen::Network { port: 0 }
        };
        Self { key, ticket, policy: Policy::default(), listen }
    }
}

/// A model of the pool, as an asker sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    /// Its canonical name.
    pub name: String,
    /// Other names for it.
    pub aliases: Vec<String>,
    /// The hash of its weights.
    pub digest: ModelDigest,
    /// Tokens that its context holds; 0 where no node is ready.
    pub context_tokens: u32,
    /// Whether `default` means this one.
    pub default: bool,
    /// Nodes that could take a task for it now.
    pub ready_nodes: u32,
    /// Since when the pool has it, in seconds since 1970.
    pub created_unix_s: u64,
}

/// A member that asks.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) transport: Transport,
    pub(crate) orchestrators: Orchestrators,
    pub(crate) nodes: nodes::Connections,
    pub(crate) policy: Policy,
}

impl Client {
    /// Binds, and makes the first link to an orchestrator.
    pub fn start(config: ClientConfig) -> Boxed<'static, Result<Self, AskError>> {
        Box::pin(Self::connect(config))
    }

    async fn connect(config: ClientConfig) -> Result<Self, AskError> {
        let transport = Transport::bind(&config.key, config.listen, &[])
            .await
            .map_err(|error| AskError::Unreachable { reason: error.to_string() })?;
        let orchestrators = Orchestrators::new(config.ticket);
        let nodes = nodes::Connections::default();
        let shared = Shared { transport, orchestrators, nodes, policy: config.policy };
        let client = Self { shared: Arc::new(shared) };
        client.shared.orchestrators.connection(&client.shared.transport).await?;
        Ok(client)
    }

    /// Whether a link to an orchestrator is up.
    pub fn is_connected(&self) -> bool {
        self.shared.orchestrators.is_connected()
    }

    /// The models of the pool, the default first.
    pub async fn models(&self) -> Result<Vec<Model>, AskError> {
        match self.question(Question::Models).await? {
            link::Answer::Models(offers) => {
                Ok(offers.into_iter().enumerate().map(|(at, offer)| model(offer, at == 0)).collect())
            }
            _ => Err(unexpected()),
        }
    }

    /// The nodes of the pool, with the reason of each that gets no work.
    pub async fn nodes(&self) -> Result<Vec<NodeRow>, AskError> {
        match self.question(Question::Nodes).await? {
            link::Answer::Nodes(rows) => Ok(rows),
            _ => Err(unexpected()),
        }
    }

    /// Gives a task to a worker that serves `model`. Returns when a node has taken it.
    pub fn ask<'a>(&'a self, model: &'a str, task: Task) -> Boxed<'a, Result<Answer, AskError>> {
        Box::pin(self.match_and_send(model, task))
    }

    async fn match_and_send(&self, model: &str, task: Task) -> Result<Answer, AskError> {
        task.check().map_err(AskError::Invalid)?;
        if model.chars().count() > limits::MODEL_NAME_CHARS_MAX {
            let model = model.chars().take(limits::MODEL_NAME_CHARS_MAX).collect();
            return Err(AskError::UnknownModel { model, known: Vec::new() });
        }
        if self.shared.policy.locality != Locality::Pool {
            let message = "only the locality `pool` is served".to_owned();
            return Err(AskError::Invalid(TaskError::Unsupported { message }));
        }
        let (prompt_bytes, answer_tokens) = sizes(&task);
        let mut request = MatchRequest {
            task: TaskId::random(),
            model: ModelRef::Name(model.to_owned()),
            prompt_bucket_bytes: bucket(padding::bucket(prompt_bytes, padding::TASK_BUCKET_MIN)),
            answer_bucket_tokens: answer_tokens.map_or(0, u32::next_power_of_two),
            policy: self.shared.policy,
            exclude: Vec::new(),
        };
        let mut failures = Vec::new();
        for _ in 0..GRANTS_MAX {
            let grant = match self.question(Question::Match(request.clone())).await? {
                link::Answer::Match(MatchReply::Granted(grant)) => grant,
                link::Answer::Match(MatchReply::Refused(refusal)) => return Err(refused(model, refusal, failures)),
                _ => return Err(unexpected()),
            };
            if let Some(answer) = self.try_candidates(&mut request, &grant, &task, &mut failures).await? {
                return Ok(answer);
            }
            // A permit is for one task id, and a node takes each once: ask under a new one.
            request.task = TaskId::random();
        }
        Err(AskError::NoNode { reasons: failures, retry_after_ms: Some(RETRY_AFTER_MS) })
    }

    async fn try_candidates(
        &self,
        request: &mut MatchRequest,
        grant: &Grant,
        task: &Task,
        failures: &mut Vec<String>,
    ) -> Result<Option<Answer>, AskError> {
        for candidate in grant.candidates.iter().take(limits::CANDIDATES_MAX) {
            match attempt::run(&self.shared, request.task, grant, candidate, task).await {
                Outcome::Accepted(answer) => return Ok(Some(*answer)),
                Outcome::TryAnother { why, suspect } => {
                    tracing::debug!(node = %candidate.node.short(), %why, "candidate did not take the task");
                    failures.push(format!("{}: {why}", candidate.node.short()));
                    request.exclude.push(candidate.node);
                    if suspect {
                        self.shared.report(candidate.node);
                    }
                }
                Outcome::Impossible(error) => return Err(error),
            }
        }
        Ok(None)
    }

    fn question(&self, question: Question) -> Boxed<'_, Result<link::Answer, AskError>> {
        Box::pin(async move { self.shared.orchestrators.ask(&self.shared.transport, &question).await })
    }

    /// Ends every connection.
    pub async fn close(&self) {
        self.shared.transport.close().await;
    }
}

impl Shared {
    /// Tells an orchestrator that a node went silent; it finds out for itself.
    pub(crate) fn report(self: &Arc<Self>, node: NodeId) {
        self.nodes.forget(node);
        let shared = Arc::clone(self);
        tokio::spawn(async move {
            if let Err(error) = shared.orchestrators.ask(&shared.transport, &Question::Report { node }).await {
                tracing::debug!(%error, "a report did not arrive");
            }
        });
    }
}

fn model(offer: link::ModelOffer, default: bool) -> Model {
    Model {
        name: offer.entry.name,
        aliases: offer.entry.aliases,
        digest: offer.entry.digest,
        context_tokens: offer.context_tokens,
        default,
        ready_nodes: offer.ready_nodes,
        created_unix_s: offer.entry.created_unix_s,
    }
}

/// Length of the prompt in bytes, and the bound on the answer in tokens.
fn sizes(task: &Task) -> (usize, Option<u32>) {
    match task {
        Task::Chat { messages, generation } => {
            (messages.iter().map(|message| message.content.len()).sum(), generation.max_tokens)
        }
        Task::Completion { prompt, generation } => (prompt.len(), generation.max_tokens),
        Task::Embedding { inputs } => (inputs.iter().map(String::len).sum(), Some(1)),
    }
}

fn bucket(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

fn refused(model: &str, refusal: Refusal, mut failures: Vec<String>) -> AskError {
    let retry_after_ms = refusal.retry_after_ms.map(u64::from);
    match refusal.kind {
        RefusalKind::UnknownModel { known } => AskError::UnknownModel { model: model.to_owned(), known },
        RefusalKind::Overloaded => AskError::Overloaded { retry_after_ms: retry_after_ms.unwrap_or(RETRY_AFTER_MS) },
        RefusalKind::NoNode => {
            failures.extend(refusal.reasons.iter().map(|(node, hold)| format!("{}: {hold}", node.short())));
            AskError::NoNode { reasons: failures, retry_after_ms }
        }
    }
}

fn unexpected() -> AskError {
    AskError::Unreachable { reason: "the orchestrator answered another question".to_owned() }
}
