//! One task to one candidate, without an orchestrator: verify, seal, send, and open the frames of the answer.
//!
//! [`Client`](crate::Client) stands on this. So can whoever holds candidates of its own: an orchestrator that measures its
//! nodes is a client like any other.
//!
//! ```no_run
//! # use protocol::{grant::{Candidate, Policy}, ids::{ModelDigest, TaskId}, task::{Frame, Task}};
//! # async fn example(
//! #     transport: transport::Transport, candidate: Candidate, task: TaskId, model: ModelDigest,
//! # ) -> Result<(), Box<dyn std::error::Error>> {
//! use client::direct::Caller;
//!
//! let caller = Caller::new(transport, Policy::default());
//! let mut source = caller.start(&candidate, task, model, &Task::chat("Why is the sky blue?")).await?;
//! while let Some(frame) = source.next().await? {
//!     if let Frame::Tokens { ids, .. } = &frame {
//!         println!("{} tokens", ids.len());
//!     }
//! }
//! # Ok(()) }
//! ```

mod connections;
mod source;

pub(crate) use source::Sign;
pub use source::{Source, SourceError};

use crate::purse::{Offer, Purse, Unstarted, Work};
use connections::Connections;
use protocol::{
    grant::{Candidate, Policy},
    ids::{ModelDigest, NodeId, TaskId},
    limits,
    link::End,
    market::{self, Order, Price},
    sealing::{self, SealError, SealedTask},
    signed::Signed,
    stream::{Payment, Refused, Reply, SILENCE_MS_MAX},
    task::Task,
    time::unix_ms,
};
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::time::timeout;
use transport::{Boxed, ReceiveError, Receiver, SendError, Sender, Transport};
use trust::evidence::{self, EvidenceError};

/// A direct handshake takes a few round trips; a machine that needs longer is asleep or gone.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(3);
/// A large task on a slow path may take its time, but not for ever.
const SEND_TIME_MAX: Duration = Duration::from_secs(60);
const SILENCE_TIME_MAX: Duration = Duration::from_millis(SILENCE_MS_MAX);

/// Gives tasks to nodes, over connections that it keeps. Cloning it is cheap; the clones share them.
#[derive(Clone)]
pub struct Caller {
    shared: Arc<Shared>,
}

struct Shared {
    transport: Transport,
    policy: Policy,
    strangers: Vec<NodeId>,
    connections: Connections,
    purse: Option<Purse>,
}

/// Why a node did not take a task. Nothing of it was run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Who matches must not serve: it would read what it matched.
    #[error("it is an orchestrator")]
    Orchestrator,
    /// Its evidence does not hold, or not for this policy. Nothing was sent.
    #[error("{0}")]
    Evidence(#[from] EvidenceError),
    /// The task could not be sealed. Nothing was sent.
    #[error("{0}")]
    Seal(#[from] SealError),
    /// It cannot be reached.
    #[error("{0}")]
    Unreachable(String),
    /// It was reached, and the connection or the stream broke.
    #[error("{0}")]
    Lost(String),
    /// It gave no answer in time.
    #[error("it did not answer in time")]
    Silent,
    /// Its owner has just taken the machine back.
    #[error("its owner takes the machine back")]
    HandedBack,
    /// It said no.
    #[error("{0}")]
    Refused(Refused),
    /// It said something that has no place there.
    #[error("it answered out of turn")]
    OutOfTurn,
}

impl StartError {
    /// How the attempt has ended, in the words of an outcome.
    pub fn end(&self) -> End {
        match self {
            Self::Orchestrator | Self::Evidence(_) | Self::Seal(_) | Self::Refused(_) => End::Refused,
            Self::Unreachable(_) | Self::Lost(_) => End::Died,
            Self::Silent => End::Stalled,
            Self::HandedBack => End::HandedBack,
            Self::OutOfTurn => End::Corrupt,
        }
    }

    /// Whether an orchestrator should look after the node: it may be gone without a word.
    pub(crate) fn is_suspect(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Lost(_) | Self::Silent | Self::OutOfTurn)
    }
}

impl From<SendError> for StartError {
    fn from(error: SendError) -> Self {
        Self::Lost(error.to_string())
    }
}

impl From<ReceiveError> for StartError {
    fn from(error: ReceiveError) -> Self {
        Self::Lost(error.to_string())
    }
}

impl Caller {
    /// Dials through `transport`; seals to workers that satisfy `policy`, and to no other.
    pub fn new(transport: Transport, policy: Policy) -> Self {
        Self::except(transport, policy, Vec::new())
    }

    /// As [`Caller::new`], but nothing is sealed to `strangers`, whatever their evidence says.
    pub fn except(transport: Transport, policy: Policy, strangers: Vec<NodeId>) -> Self {
        let connections = Connections::default();
        Self { shared: Arc::new(Shared { transport, policy, strangers, connections, purse: None }) }
    }

    /// The same, paying nodes that ask for it.
    pub(crate) fn paying(self, purse: Purse) -> Self {
        let Shared { transport, policy, strangers, .. } = &*self.shared;
        let (transport, strangers, connections) = (transport.clone(), strangers.clone(), Connections::default());
        Self { shared: Arc::new(Shared { transport, policy: *policy, strangers, connections, purse: Some(purse) }) }
    }

    /// Gives a task to a candidate, whose permit must be for `id`. Returns when its worker has it.
    ///
    /// The evidence is verified each time, against the policy and the model (promise P2): before anything is sent.
    pub fn start<'a>(
        &'a self,
        candidate: &'a Candidate,
        id: TaskId,
        model: ModelDigest,
        task: &'a Task,
    ) -> Boxed<'a, Result<Source, StartError>> {
        self.start_sized(candidate, id, model, task, (0, 0))
    }

    /// As [`Caller::start`], for a task of these sizes: bytes of the prompt and most tokens of the answer, which decide
    /// how much is held for the node where it asks a price.
    pub(crate) fn start_sized<'a>(
        &'a self,
        candidate: &'a Candidate,
        id: TaskId,
        model: ModelDigest,
        task: &'a Task,
        sizes: (u32, u32),
    ) -> Boxed<'a, Result<Source, StartError>> {
        Box::pin(async move {
            let shared = &self.shared;
            if shared.strangers.contains(&candidate.node) {
                return Err(StartError::Orchestrator);
            }
            let now = unix_ms(SystemTime::now());
            let key = evidence::verify(&candidate.evidence, candidate.node, model, &shared.policy, now)?;
            let (sealed, opener) = sealing::seal_task(&key, id, task)?;
            let mut unstarted = None;
            let ordering = |order: Option<&Signed<Order>>| shared.send(candidate, &sealed, order.cloned());
            let sent = match shared.offer(candidate, sizes)? {
                None => timeout(SEND_TIME_MAX, ordering(None)).await,
                Some((purse, offer)) => {
                    let evidence = evidence::digest(&candidate.evidence);
                    let work = Work { task: id, node: candidate.node, model, evidence, resumed_tokens: resumed(task) };
                    let (order, tab) = purse.order(work, offer);
                    unstarted = Some(Unstarted::new(purse, tab));
                    timeout(SEND_TIME_MAX, ordering(Some(&order))).await
                }
            };
            let sent = sent.unwrap_or(Err(StartError::Silent));
            if sent.as_ref().is_err_and(StartError::is_suspect) {
                self.forget(candidate.node);
            }
            let (sender, receiver) = sent?;
            Ok(match unstarted {
                Some(unstarted) => Source::paid(unstarted.begin(sender), receiver, opener),
                None => Source::new(sender, receiver, opener),
            })
        })
    }

    /// The next task to this node makes a new connection.
    pub(crate) fn forget(&self, node: NodeId) {
        self.shared.connections.forget(node);
    }
}

/// Tokens of the answer that a task begins with.
fn resumed(task: &Task) -> u32 {
    match task {
        Task::Chat { generation, .. } | Task::Completion { generation, .. } => {
            u32::try_from(generation.resume.ids.len()).unwrap_or(u32::MAX)
        }
        Task::Embedding { .. } | Task::Score { .. } => 0,
    }
}

impl Shared {
    /// What the node is offered, if it asks anything.
    fn offer(
        &self,
        candidate: &Candidate,
        (prompt_bytes, answer_tokens): (u32, u32),
    ) -> Result<Option<(Purse, Offer)>, StartError> {
        let price = candidate.permit.decode_unverified().ok().and_then(|permit| permit.price);
        let Some(price) = price.filter(|price| *price != Price::default()) else { return Ok(None) };
        let Some(purse) = &self.purse else {
            return Err(StartError::Refused(Refused::Unpaid {
                why: "it asks a price, and nobody here pays".to_owned(),
            }));
        };
        let amount_micro = market::amount_micro(price, prompt_bytes, answer_tokens);
        let tokens_max = market::tokens_max(prompt_bytes, answer_tokens);
        Ok(Some((purse.clone(), Offer { price, amount_micro, tokens_max })))
    }

    async fn send(
        &self,
        candidate: &Candidate,
        sealed: &SealedTask,
        order: Option<Signed<Order>>,
    ) -> Result<(Sender, Receiver), StartError> {
        let connecting = timeout(CONNECT_TIME_MAX, self.connections.to(&self.transport, candidate)).await;
        let unreachable = |why: String| StartError::Unreachable(why);
        let connection = connecting
            .map_err(|_| unreachable(format!("it does not answer within {} s", CONNECT_TIME_MAX.as_secs())))?
            .map_err(|error| unreachable(error.to_string()))?;
        let (mut sender, mut receiver) = connection.open_stream().await?;
        sender.message(&candidate.permit, limits::PERMIT_BYTES_MAX).await?;
        // A node that says no need not read the task; what it says counts, not that it stopped reading.
        let sent = async {
            sender.message(sealed, limits::STREAM_MESSAGE_BYTES_MAX).await?;
            match order {
                Some(order) => sender.message(&Payment::Order(order), limits::PAYMENT_BYTES_MAX).await,
                None => Ok(()),
            }
        };
        let sent = sent.await;
        let first = timeout(SILENCE_TIME_MAX, receiver.message(limits::STREAM_MESSAGE_BYTES_MAX)).await;
        let first = match sent {
            Ok(()) => first.map_err(|_| StartError::Silent)??,
            Err(error) => match first {
                Ok(Ok(first)) => first,
                _ => return Err(error.into()),
            },
        };
        match first {
            Some(Reply::Accepted) => Ok((sender, receiver)),
            Some(Reply::Refused(refused)) => Err(StartError::Refused(refused)),
            Some(Reply::HandedBack) => Err(StartError::HandedBack),
            Some(_) => Err(StartError::OutOfTurn),
            None => Err(StartError::Lost("it ended the stream".to_owned())),
        }
    }
}
