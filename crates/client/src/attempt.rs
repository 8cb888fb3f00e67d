//! One task to one candidate: verify, seal, send, and wait until the node takes it.

use crate::{Answer, AskError, Shared, clock};
use protocol::{
    grant::{Candidate, Grant},
    ids::TaskId,
    limits,
    sealing::{self, FrameOpener, SealError, SealedTask},
    stream::{Reply, SILENCE_MS_MAX},
    task::{Task, TaskError},
};
use std::{sync::Arc, time::Duration};
use tokio::time::timeout;
use transport::{ReceiveError, Receiver, SendError, Sender};
use trust::evidence;

/// How an attempt ended.
pub(crate) enum Outcome {
    /// The node took the task.
    Accepted(Box<Answer>),
    /// This node did not; another may.
    TryAnother {
        why: String,
        /// Whether an orchestrator should look after the node.
        suspect: bool,
    },
    /// No node can.
    Impossible(AskError),
}

#[derive(Debug, thiserror::Error)]
enum AttemptError {
    #[error("{0}")]
    Connect(#[from] transport::ConnectError),
    #[error("{0}")]
    Send(#[from] SendError),
    #[error("{0}")]
    Receive(#[from] ReceiveError),
    #[error("it did not answer in time")]
    Silent,
    #[error("it ended the stream")]
    Ended,
}

pub(crate) async fn run(
    shared: &Arc<Shared>,
    id: TaskId,
    grant: &Grant,
    candidate: &Candidate,
    task: &Task,
) -> Outcome {
    if shared.orchestrators.include(candidate.node) {
        // Who matches must not serve: it would read what it matched.
        return Outcome::TryAnother { why: "it is an orchestrator".to_owned(), suspect: false };
    }
    let verified = evidence::verify(&candidate.evidence, candidate.node, grant.model, &shared.policy, clock::unix_ms());
    let key = match verified {
        Ok(key) => key,
        // An orchestrator that names such a node is wrong or lies; the node itself may be well.
        Err(error) => return Outcome::TryAnother { why: error.to_string(), suspect: false },
    };
    let (sealed, opener) = match sealing::seal_task(&key, id, task) {
        Ok(parts) => parts,
        Err(SealError::TooLong { bytes, limit }) => {
            let message = format!("the task has {bytes} bytes, at most {limit} can be sent");
            return Outcome::Impossible(AskError::Invalid(TaskError::Invalid { message }));
        }
        Err(error) => return Outcome::TryAnother { why: error.to_string(), suspect: false },
    };
    match send(shared, candidate, &sealed).await {
        Ok((sender, receiver, Reply::Accepted)) => {
            let stream = AcceptedStream { sender, receiver, opener };
            let model = grant.model_name.clone();
            Outcome::Accepted(Box::new(Answer::start(Arc::clone(shared), id, candidate.node, model, stream)))
        }
        Ok((_, _, Reply::Refused(refused))) => Outcome::TryAnother { why: refused.to_string(), suspect: false },
        Ok(_) => Outcome::TryAnother { why: "it answered out of turn".to_owned(), suspect: true },
        Err(error) => Outcome::TryAnother { why: error.to_string(), suspect: true },
    }
}

/// A stream on which the answer comes.
pub(crate) struct AcceptedStream {
    pub(crate) sender: Sender,
    pub(crate) receiver: Receiver,
    pub(crate) opener: FrameOpener,
}

async fn send(
    shared: &Shared,
    candidate: &Candidate,
    sealed: &SealedTask,
) -> Result<(Sender, Receiver, Reply), AttemptError> {
    let connection = shared.nodes.to(&shared.transport, candidate).await?;
    let exchange = async {
        let (mut sender, mut receiver) = connection.open_stream().await?;
        sender.message(&candidate.permit, limits::PERMIT_BYTES_MAX).await?;
        sender.message(sealed, limits::STREAM_MESSAGE_BYTES_MAX).await?;
        let first = timeout(silence_max(), receiver.message(limits::STREAM_MESSAGE_BYTES_MAX));
        match first.await.map_err(|_| AttemptError::Silent)?? {
            Some(reply) => Ok((sender, receiver, reply)),
            None => Err(AttemptError::Ended),
        }
    };
    // A large task on a slow path may take its time, but not for ever.
    timeout(SEND_TIME_MAX, exchange).await.map_err(|_| AttemptError::Silent)?
}

const SEND_TIME_MAX: Duration = Duration::from_secs(60);

fn silence_max() -> Duration {
    Duration::from_millis(SILENCE_MS_MAX)
}
