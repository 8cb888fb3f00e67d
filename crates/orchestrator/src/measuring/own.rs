//! Tasks of the orchestrator's own, as a client of its own: a fresh key each time, so that a node sees one more asker.

use super::timing::Received;
use crate::{clock, matching::permit, shared::Shared};
use client::direct::{Caller, SourceError, StartError};
use protocol::{
    grant::{Candidate, Expected, Locality, Policy, Tier},
    ids::{ModelDigest, NodeId, TaskId},
    link::End,
    task::{Frame, Task},
};
use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};
use transport::{BindError, Listen, Transport};
use trust::MachineKey;

/// Tokens of an answer whose task names no bound.
const TOKENS_MAX: u32 = 1024;

/// A worker to be timed or tried.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) node: NodeId,
    pub(crate) model: ModelDigest,
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) evidence: Arc<crate::vetting::Checked>,
    pub(crate) slots: u32,
    /// Whether its model speaks in turns.
    pub(crate) chat: bool,
    /// The way there and back.
    pub(crate) round_trip: Duration,
}

/// Why a task of our own came to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OwnError {
    #[error("{0}")]
    Bind(#[from] BindError),
    #[error("{0}")]
    Start(#[from] StartError),
    #[error("{0}")]
    Source(#[from] SourceError),
    #[error("it sent more than it was asked for")]
    TooMuch,
    #[error("no token came")]
    NoToken,
}

impl OwnError {
    /// Whether the node failed, as far as can be told from here. That it cannot be reached from here proves nothing:
    /// its askers may be nearer to it.
    pub(crate) fn is_fault(&self) -> bool {
        let end = match self {
            Self::Bind(_) | Self::Start(StartError::Unreachable(_)) => return false,
            Self::Start(error) => error.end(),
            Self::Source(error) => error.end(),
            Self::TooMuch | Self::NoToken => return true,
        };
        matches!(end, End::Died | End::Stalled | End::Corrupt)
    }
}

/// The most that an honest answer to a task can have: whatever a worker says beyond it is a fault, or is not believed.
struct Most {
    /// Tokens of its prompt: no vocabulary has more than one for each byte, apart from the few of a chat's template.
    prompt_tokens: u32,
    /// Tokens of its answer.
    tokens: usize,
    /// Scores of given tokens.
    scores: usize,
}

impl Most {
    fn of(task: &Task) -> Self {
        let (bytes, generation) = match task {
            Task::Chat { messages, generation } => {
                (messages.iter().map(|message| message.content.len()).sum(), Some(generation))
            }
            Task::Completion { prompt, generation } => (prompt.len(), Some(generation)),
            Task::Embedding { .. } | Task::Score { .. } => (0, None),
        };
        let tokens = generation.map_or(0, |generation| generation.max_tokens.unwrap_or(TOKENS_MAX));
        let scores = if let Task::Score { ids, .. } = task { ids.len() } else { 0 };
        Self { prompt_tokens: u32::try_from(bytes).unwrap_or(u32::MAX), tokens: tokens as usize, scores }
    }
}

/// A client of the orchestrator's own.
pub(crate) struct Own {
    shared: Arc<Shared>,
    client: NodeId,
    caller: Caller,
    transport: Transport,
}

impl Own {
    pub(crate) async fn bind(shared: &Arc<Shared>, target: &Target) -> Result<Self, BindError> {
        let loopback = target.addresses.iter().all(|address| address.ip().is_loopback());
        let listen = if loopback { Listen::Loopback { port: 0 } } else { Listen::Network { port: 0 } };
        let key = MachineKey::generate();
        let transport = Transport::bind(&key, listen, &[]).await?;
        let policy = Policy { locality: Locality::Network, tier_min: Tier::SelfSigned };
        let caller = Caller::new(transport.clone(), policy);
        Ok(Self { shared: Arc::clone(shared), client: key.id(), caller, transport })
    }

    /// Asks one task, and notes when tokens came. What came by the deadline counts.
    pub(crate) async fn ask(&self, target: &Target, task: &Task, deadline: Instant) -> Result<Received, OwnError> {
        let (id, now) = (TaskId::random(), self.shared.now());
        let candidate = Candidate {
            node: target.node,
            addresses: target.addresses.clone(),
            evidence: target.evidence.signed.clone(),
            permit: permit(&self.shared, self.client, id, target.node, target.model, None, now),
            expected: Expected::default(),
            shown: None,
        };
        let mut source = self.caller.start(&candidate, id, target.model, task).await?;
        let mut received = Received::new(clock::instant());
        let most = Most::of(task);
        let all = async {
            while let Some(frame) = source.next().await? {
                match &frame {
                    Frame::Started { prompt_tokens } => {
                        received.prompt_tokens = (*prompt_tokens).min(most.prompt_tokens)
                    }
                    Frame::Scores { log_probs, .. } => {
                        if received.log_probs.len() + log_probs.len() > most.scores {
                            return Err(OwnError::TooMuch);
                        }
                        received.log_probs.extend(log_probs);
                    }
                    Frame::Tokens { ids, log_probs, .. } => {
                        let ids_after = received.ids.len() + ids.len();
                        if ids_after.max(received.log_probs.len() + log_probs.len()) > most.tokens {
                            return Err(OwnError::TooMuch);
                        }
                        // The rest of a text is no token.
                        if ids.is_empty() {
                            continue;
                        }
                        received.ids.extend(ids);
                        received.log_probs.extend(log_probs);
                        let tokens = u32::try_from(ids.len()).unwrap_or(u32::MAX);
                        let before = received.arrivals.last().map_or(0, |(_, before)| *before);
                        received.arrivals.push((clock::instant(), before.saturating_add(tokens)));
                    }
                    Frame::Failed { error } => return Err(SourceError::Failed(error.clone()).into()),
                    _ => received.complete = frame.is_final(),
                }
            }
            Ok::<_, OwnError>(())
        };
        match tokio::time::timeout_at(deadline.into(), all).await {
            Ok(Ok(())) | Err(_) => Ok(received),
            Ok(Err(error)) => Err(error),
        }
    }

    pub(crate) async fn close(&self) {
        self.transport.close().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::task::{Generation, Prompt};

    #[test]
    fn no_more_is_believed_than_a_task_allows() {
        let generation = Generation { max_tokens: Some(7), ..Generation::default() };
        let most = Most::of(&Task::Completion { prompt: "twelve bytes".to_owned(), generation });
        assert_eq!((most.prompt_tokens, most.tokens, most.scores), (12, 7, 0));
        let most = Most::of(&Task::Score { prompt: Prompt::Text("text".to_owned()), ids: vec![1, 2, 3] });
        assert_eq!((most.tokens, most.scores), (0, 3));
        assert!(OwnError::TooMuch.is_fault() && OwnError::NoToken.is_fault());
    }
}
