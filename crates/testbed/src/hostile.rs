//! A client that does what a decent one would not: it holds a real ticket and real grants, and misuses them.

use crate::pool_link::PoolLink;
use protocol::{
    grant::{Grant, MatchReply, MatchRequest, ModelRef, Permit, WorkerEvidence},
    ids::TaskId,
    limits,
    link::{Answer, Question},
    sealing::{FrameOpener, SealedTask, seal_task},
    signed::Signed,
    stream::{self, Reply},
    task::Task,
    ticket::Ticket,
};
use transport::{Connection, Receiver, Sender};
use trust::MachineKey;

/// A member that misbehaves.
pub struct Hostile {
    link: PoolLink,
}

impl Hostile {
    /// Joins a pool.
    pub async fn join(ticket: &str) -> Self {
        let ticket: Ticket = ticket.parse().expect("a ticket");
        Self { link: PoolLink::join(&ticket, 0, &MachineKey::generate()).await }
    }

    /// The link to the orchestrator, to be misused.
    pub fn link(&self) -> &Connection {
        self.link.connection()
    }

    /// A real grant for a task.
    pub async fn grant(&self, task: TaskId) -> Grant {
        let request = MatchRequest::new(task, ModelRef::Name("default".to_owned()), 1024, 0);
        match self.link.ask(&Question::Match(request)).await {
            Some(Answer::Match(MatchReply::Granted(grant))) => grant,
            other => panic!("no grant: {other:?}"),
        }
    }

    /// A task, well sealed for the first candidate.
    pub fn seal(grant: &Grant, id: TaskId, task: &Task) -> (SealedTask, FrameOpener) {
        let evidence: WorkerEvidence = trust::open(&grant.candidates[0].evidence).expect("authentic evidence");
        seal_task(&evidence.keys[0], id, task).expect("a well-formed key")
    }

    /// A stream to the first candidate, on a connection of its own.
    pub async fn open_stream(&self, grant: &Grant) -> (Connection, Sender, Receiver) {
        let candidate = &grant.candidates[0];
        let dialled = self.link.transport().connect(candidate.node, &candidate.addresses, stream::ALPN).await;
        let connection = dialled.expect("connected");
        let (sender, receiver) = connection.open_stream().await.expect("a stream");
        (connection, sender, receiver)
    }

    /// Sends a permit and a sealed task to the first candidate; returns the replies to the last.
    pub async fn send(&self, grant: &Grant, permit: &Signed<Permit>, sealed: &SealedTask) -> Vec<Reply> {
        let (_connection, mut sender, mut receiver) = self.open_stream(grant).await;
        sender.message(permit, limits::PERMIT_BYTES_MAX).await.expect("sent");
        // A node that refused the permit has stopped listening.
        let _ = sender.message(sealed, limits::STREAM_MESSAGE_BYTES_MAX).await;
        let mut replies = Vec::new();
        while let Ok(Some(reply)) = receiver.message::<Reply>(limits::STREAM_MESSAGE_BYTES_MAX).await {
            if reply != Reply::KeepAlive {
                replies.push(reply);
            }
        }
        sender.finish();
        replies
    }
}
