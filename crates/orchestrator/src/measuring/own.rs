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
}

impl OwnError {
    /// Whether the node failed, as far as can be told from here. That it cannot be reached from here proves nothing:
    /// its askers may be nearer to it.
    pub(crate) fn is_fault(&self) -> bool {
        let end = match self {
            Self::Bind(_) | Self::Start(StartError::Unreachable(_)) => return false,
            Self::Start(error) => error.end(),
            Self::Source(error) => error.end(),
        };
        matches!(end, End::Died | End::Stalled | End::Corrupt)
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
            permit: permit(&self.shared, self.client, id, target.node, target.model, now),
            expected: Expected::default(),
        };
        let mut source = self.caller.start(&candidate, id, target.model, task).await?;
        let mut received = Received::new(clock::instant());
        let all = async {
            while let Some(frame) = source.next().await? {
                match &frame {
                    Frame::Started { prompt_tokens } => received.prompt_tokens = *prompt_tokens,
                    Frame::Scores { log_probs, .. } => received.log_probs.extend(log_probs),
                    Frame::Tokens { ids, log_probs, .. } => {
                        received.ids.extend(ids);
                        received.log_probs.extend(log_probs);
                        let tokens = u32::try_from(ids.len()).unwrap_or(u32::MAX);
                        let before = received.arrivals.last().map_or(0, |(_, before)| *before);
                        received.arrivals.push((clock::instant(), before.saturating_add(tokens)));
                    }
                    Frame::Failed { error } => return Err(SourceError::Failed(error.clone())),
                    _ => received.complete = frame.is_final(),
                }
            }
            Ok(())
        };
        match tokio::time::timeout_at(deadline.into(), all).await {
            Ok(Ok(())) | Err(_) => Ok(received),
            Ok(Err(error)) => Err(error.into()),
        }
    }

    pub(crate) async fn close(&self) {
        self.transport.close().await;
    }
}
