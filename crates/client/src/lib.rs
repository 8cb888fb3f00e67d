//! The asker's side: match, verify, seal, stream.
//!
//! A [`Client`] runs in the asker's own process. It asks an orchestrator who may serve a task (metadata only), checks
//! each candidate's evidence itself against its own policy (promise P2), seals the task to the worker's key, and opens
//! the sealed frames of the answer. Plaintext leaves this process sealed, or not at all.
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
//! * nothing that an orchestrator says of a node is believed: [`verify`] proves it from what the pool has agreed on;
//! * nothing is sent to a worker whose evidence does not hold or does not satisfy the policy, whatever happened before;
//! * a reader sees one stream of frames, whatever nodes it takes: each token and each byte once (promise P3);
//! * an answer ends with its sealed final frame or with an error, never silently;
//! * second nodes, retries and audits stay within budgets, so that overload does not feed itself;
//! * dropping an [`Answer`] cancels the task at every worker that has it.
//!
//! | file | what it is about |
//! |---|---|
//! | `direct` | one task to one node |
//! | `ask` | what the asker may ask for: priority, patience, audits |
//! | `answer` | one stream from whichever nodes it takes: `failover`, `lane`, `pace`, `progress` |
//! | `attempt` | how one node did with a task, as orchestrators are told |
//! | `hedge_delay` | when a first token is late enough for a second node |
//! | `second_tries` | budgets for what is done twice |
//! | `audit` | having others read what a node answered: to this asker, or to a canary |
//! | `canary_prompts` | canaries: the tasks of nodes that serve nobody, and of orchestrators' trials |
//! | `link`, `orchestrator` | the connection to an orchestrator, and which of them it is |
//! | `verify`, `known`, `granting` | what of a grant is believed, and whom to turn to where it is not |
//! | `matching`, `notices` | what orchestrators are asked and told |
//! | `pool` | what the pool has agreed on, proven; having more agreed on |
//! | `pools` | several pools, in order |
//! | `purse` | orders, acknowledgements and receipts: what nodes are paid |
//! | `ledger`, `export` | what an account has and how that came about; what was paid, to be verified offline |
//! | `error` | why nothing is answered |

mod answer;
mod ask;
mod attempt;
mod audit;
pub mod canary_prompts;
pub mod direct;
mod error;
pub mod export;
mod granting;
mod hedge_delay;
mod known;
pub mod ledger;
mod link;
mod matching;
mod notices;
mod orchestrator;
mod pool;
mod pools;
mod purse;
mod second_tries;
pub mod verify;

pub use answer::Answer;
pub use ask::AskOptions;
pub use error::AskError;
pub use pool::SubmitError;
pub use pools::Pools;
pub use trust::MachineKey;

use direct::Caller;
use known::Known;
use link::Link;
use orchestrator::Orchestrators;
use protocol::{
    grant::{Locality, Policy},
    ids::{ModelDigest, NodeId, PoolId},
    limits,
    link::{ModelOffer, NodeRow, Question, Role},
    task::{Task, TaskError},
    ticket::Ticket,
};
use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use transport::{Boxed, Listen, Transport};
use verify::{Demands, OwnPolicy};

/// What the asker is told where the orchestrator gives no time.
const RETRY_AFTER_MS: u64 = 1_000;
/// How long an answer whose node was lost waits for another.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a client needs to start.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// The key of its connections.
    pub key: MachineKey,
    /// The pool.
    pub ticket: Ticket,
    /// Keys of the same home, which join with this one where the ticket has an invite; this one among them or not.
    pub household: Vec<(NodeId, Role)>,
    /// What it insists on.
    pub policy: Policy,
    /// What it insists on beside that, of which orchestrators are not told.
    pub own_policy: OwnPolicy,
    /// The folder in which it keeps what it knows of the pool's committee; `None`: it begins with the ticket each time.
    /// Without it a committee that was replaced long ago could tell it another history.
    pub keep: Option<PathBuf>,
    /// From where it dials.
    pub listen: Listen,
    /// How long an answer that has begun waits while no node goes on with it, before it is an error.
    pub patience: Duration,
    /// Whether others may read answers now and then ([`AskOptions::audit`]); `false`: none of this client's.
    pub audit: bool,
}

impl ClientConfig {
    /// A client with the default policy, audits and 30 s of patience, on the interfaces that the ticket's addresses need.
    pub fn new(key: MachineKey, ticket: Ticket) -> Self {
        let mut addresses = ticket.orchestrators.iter().flat_map(|orchestrator| &orchestrator.addresses);
        let listen = if addresses.all(|address| address.ip().is_loopback()) {
            Listen::Loopback { port: 0 }
        } else {
            Listen::Network { port: 0 }
        };
        Self {
            key,
            ticket,
            household: Vec::new(),
            policy: Policy::default(),
            own_policy: OwnPolicy::default(),
            keep: None,
            listen,
            patience: PATIENCE,
            audit: true,
        }
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
    pub(crate) link: Link,
    pub(crate) caller: Caller,
    pub(crate) demands: Demands,
    pub(crate) known: Known,
    pub(crate) patience: Duration,
    pub(crate) may_audit: bool,
    pub(crate) notices: notices::Notices,
    pub(crate) second_tries: second_tries::SecondTries,
    pub(crate) hedge_delay: hedge_delay::HedgeDelay,
    pub(crate) audits: audit::Audits,
    pub(crate) purse: purse::Purse,
    closed: AtomicBool,
}

impl Shared {
    /// Whether nothing can be asked any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }
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
        // Who matches must not serve: it would read what it matched.
        let strangers = config.ticket.orchestrators.iter().map(|orchestrator| orchestrator.id).collect();
        let (pool, client) = (config.ticket.pool, config.key.id());
        let demands = Demands { pool, client, policy: config.policy, own: config.own_policy };
        let known = Known::open(pool, config.keep.as_deref()).await;
        let link = Link::new(transport.clone(), Orchestrators::new(config.ticket, config.household));
        let purse = purse::Purse::start(config.key, pool, link.clone());
        let caller = Caller::except(transport, config.policy, strangers).paying(purse.clone());
        link.orchestrators().connection(link.transport()).await?;
        begin(&known, &link).await?;
        let shared = Shared {
            notices: notices::Notices::start(link.clone()),
            link,
            caller,
            demands,
            known,
            patience: config.patience,
            may_audit: config.audit,
            second_tries: second_tries::SecondTries::default(),
            hedge_delay: hedge_delay::HedgeDelay::default(),
            audits: audit::Audits::default(),
            purse,
            closed: AtomicBool::new(false),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Whether a link to an orchestrator is up.
    pub fn is_connected(&self) -> bool {
        self.shared.link.orchestrators().is_connected()
    }

    /// The pool.
    pub fn pool(&self) -> PoolId {
        self.shared.demands.pool
    }

    /// The models of the pool, the default first.
    pub async fn models(&self) -> Result<Vec<Model>, AskError> {
        match self.shared.link.ask(Question::Models).await? {
            protocol::link::Answer::Models(offers) => {
                Ok(offers.into_iter().enumerate().map(|(at, offer)| model(offer, at == 0)).collect())
            }
            _ => Err(matching::unexpected()),
        }
    }

    /// The nodes of the pool, with the reason of each that gets no work.
    pub async fn nodes(&self) -> Result<Vec<NodeRow>, AskError> {
        match self.shared.link.ask(Question::Nodes).await? {
            protocol::link::Answer::Nodes(rows) => Ok(rows),
            _ => Err(matching::unexpected()),
        }
    }

    /// Gives a task to a worker that serves `model`. Returns when a node has taken it.
    pub fn ask<'a>(&'a self, model: &'a str, task: Task) -> Boxed<'a, Result<Answer, AskError>> {
        self.ask_with(model, task, AskOptions::default())
    }

    /// As [`Client::ask`], with a priority and a bound on the wait for a place.
    pub fn ask_with<'a>(
        &'a self,
        model: &'a str,
        task: Task,
        options: AskOptions,
    ) -> Boxed<'a, Result<Answer, AskError>> {
        Box::pin(async move {
            task.check().map_err(AskError::Invalid)?;
            if model.chars().count() > limits::MODEL_NAME_CHARS_MAX {
                let model = model.chars().take(limits::MODEL_NAME_CHARS_MAX).collect();
                return Err(AskError::UnknownModel { model, known: Vec::new() });
            }
            if self.shared.demands.policy.locality != Locality::Pool {
                let message = "only the locality `pool` is served".to_owned();
                return Err(AskError::Invalid(TaskError::Unsupported { message }));
            }
            let question = answer::Question { model: model.to_owned(), task: ask::with_seed(task), options };
            Answer::begin(Arc::clone(&self.shared), question).await
        })
    }

    /// Ends every connection, audits included. What orchestrators have not been told yet gets a moment.
    pub async fn close(&self) {
        self.shared.closed.store(true, Ordering::Relaxed);
        self.shared.audits.stop();
        self.shared.purse.flush().await;
        self.shared.notices.flush().await;
        self.shared.known.keep(true).await;
        self.shared.link.transport().close().await;
    }
}

/// Learns who the committee is, from the first orchestrator that is believed.
async fn begin(known: &Known, link: &Link) -> Result<(), AskError> {
    let mut disbelieved = Vec::new();
    while !known.is_begun() {
        match known.learn(link).await {
            Err(AskError::NotBelieved { orchestrator, reason })
                if link.orchestrators().distrust(orchestrator, &reason) && !disbelieved.contains(&orchestrator) =>
            {
                disbelieved.push(orchestrator);
            }
            learned => learned?,
        }
    }
    Ok(())
}

fn model(offer: ModelOffer, default: bool) -> Model {
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
