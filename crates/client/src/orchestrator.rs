//! The link to whichever orchestrator of the ticket answers, made anew when it breaks.

use crate::AskError;
use protocol::{
    ids::NodeId,
    limits::LINK_MESSAGE_BYTES_MAX as LIMIT,
    link::{ALPN, Answer, Hello, HelloReply, Question, Role},
    ticket::Ticket,
};
use std::{
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::time::timeout;
use transport::{Connection, ReceiveError, SendError, Transport};

/// An orchestrator answers from memory; one that takes longer is as good as gone.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);
/// Something is agreed on within a moment, unless an orchestrator that should propose it is gone.
const SUBMIT_TIME_MAX: Duration = Duration::from_secs(20);
/// Questions in a row without an answer in time after which the link is closed. One alone may have been a hard one, and
/// the link carries those of every other task.
const TIMEOUTS_MAX: u32 = 2;
/// An orchestrator that was not believed is asked last for so long.
const DISTRUST_TIME: Duration = Duration::from_secs(600);

pub(crate) struct Orchestrators {
    ticket: Ticket,
    /// Keys of the same home, which come in with this one where the ticket's invite lets them.
    household: Vec<(NodeId, Role)>,
    current: Mutex<Option<Connection>>,
    /// Questions since the last answer that were not answered in time.
    timeouts: AtomicU32,
    /// Who was not believed, and when.
    distrusted: Mutex<Vec<(NodeId, Instant)>>,
    // Held while connecting, so that many tasks make one link.
    connecting: tokio::sync::Mutex<()>,
}

#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error("{0}")]
    Connect(#[from] transport::ConnectError),
    #[error("{0}")]
    Send(#[from] SendError),
    #[error("{0}")]
    Receive(#[from] ReceiveError),
    #[error("no answer within {} s", ANSWER_TIME_MAX.as_secs())]
    Silent,
    #[error("the orchestrator ended the link: {0}")]
    Ended(String),
    #[error("{0}")]
    Denied(protocol::link::Denied),
}

impl Orchestrators {
    pub(crate) fn new(ticket: Ticket, household: Vec<(NodeId, Role)>) -> Self {
        Self {
            ticket,
            household,
            current: Mutex::default(),
            timeouts: AtomicU32::new(0),
            distrusted: Mutex::default(),
            connecting: Default::default(),
        }
    }

    /// An orchestrator was not believed. Whether there is another to turn to: who is asked next, then.
    pub(crate) fn distrust(&self, orchestrator: NodeId, reason: &str) -> bool {
        tracing::warn!(orchestrator = %orchestrator.short(), reason, "an orchestrator is not believed");
        let mut distrusted = self.distrusted.lock().expect("no holder of this lock panics");
        distrusted.retain(|(other, since)| *other != orchestrator && since.elapsed() < DISTRUST_TIME);
        distrusted.push((orchestrator, Instant::now()));
        let is_trusted = |id| distrusted.iter().all(|(other, _)| *other != id);
        let has_other = self.ticket.orchestrators.iter().any(|other| is_trusted(other.id));
        drop(distrusted);
        let current = self.open_connection().filter(|connection| connection.remote() == orchestrator);
        if let Some(current) = current.filter(|_| has_other) {
            current.close("not believed");
            self.set(None);
        }
        has_other
    }

    fn is_distrusted(&self, orchestrator: NodeId) -> bool {
        let distrusted = self.distrusted.lock().expect("no holder of this lock panics");
        distrusted.iter().any(|(other, since)| *other == orchestrator && since.elapsed() < DISTRUST_TIME)
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.open_connection().is_some()
    }

    fn open_connection(&self) -> Option<Connection> {
        let current = self.current.lock().expect("no holder of this lock panics");
        current.as_ref().filter(|connection| connection.is_open()).cloned()
    }

    fn set(&self, connection: Option<Connection>) {
        *self.current.lock().expect("no holder of this lock panics") = connection;
    }

    /// An open link; tries every orchestrator of the ticket.
    pub(crate) async fn connection(&self, transport: &Transport) -> Result<Connection, AskError> {
        if let Some(connection) = self.open_connection() {
            return Ok(connection);
        }
        let _one_at_a_time = self.connecting.lock().await;
        if let Some(connection) = self.open_connection() {
            return Ok(connection);
        }
        let mut reasons = Vec::new();
        let mut orchestrators: Vec<_> = self.ticket.orchestrators.iter().collect();
        orchestrators.sort_by_key(|orchestrator| self.is_distrusted(orchestrator.id));
        for orchestrator in orchestrators {
            let connecting = transport.connect(orchestrator.id, &orchestrator.addresses, ALPN);
            let link = async { self.introduce(connecting.await?, transport.id()).await };
            match link.await {
                Ok(connection) => {
                    self.timeouts.store(0, Ordering::Relaxed);
                    self.set(Some(connection.clone()));
                    return Ok(connection);
                }
                Err(LinkError::Denied(denied)) => return Err(AskError::Denied(denied)),
                Err(error) => reasons.push(error.to_string()),
            }
        }
        Err(AskError::Unreachable { reason: reasons.join("; ") })
    }

    async fn introduce(&self, connection: Connection, own: NodeId) -> Result<Connection, LinkError> {
        let (mut sender, mut receiver) = connection.open_stream().await?;
        let redemption = trust::redeem(&self.ticket, own, Role::Client, &self.household);
        let (pool, secret) = (self.ticket.pool, self.ticket.secret);
        let hello = Hello { pool, secret, redemption, role: Role::Client, known_epoch: 0 };
        sender.message(&hello, LIMIT).await?;
        sender.finish();
        let reply = timeout(ANSWER_TIME_MAX, receiver.message(LIMIT));
        match reply.await.map_err(|_| LinkError::Silent)?? {
            Some(HelloReply::Welcome(_)) => Ok(connection),
            Some(HelloReply::Denied(denied)) => Err(LinkError::Denied(denied)),
            None => Err(LinkError::Ended(connection.closed().await)),
        }
    }

    /// Asks one question; one that failed is asked once more, over a new link where the old one broke.
    pub(crate) async fn ask(&self, transport: &Transport, question: &Question) -> Result<(NodeId, Answer), AskError> {
        let mut last = None;
        for _ in 0..2 {
            let connection = self.connection(transport).await?;
            match exchange(&connection, question).await {
                Ok(answer) => {
                    self.timeouts.store(0, Ordering::Relaxed);
                    return Ok((connection.remote(), answer));
                }
                Err(error) => {
                    // Giving the question up has reset its stream.
                    let is_slow = matches!(error, LinkError::Silent)
                        && self.timeouts.fetch_add(1, Ordering::Relaxed) + 1 < TIMEOUTS_MAX;
                    if !is_slow {
                        connection.close("no answer");
                        self.set(None);
                    }
                    last = Some(error);
                }
            }
        }
        let reason = last.map_or_else(String::new, |error| error.to_string());
        Err(AskError::Unreachable { reason })
    }
}

async fn exchange(connection: &Connection, question: &Question) -> Result<Answer, LinkError> {
    // A match may wait in the orchestrator's queue for as long as its asker said.
    let waits = match question {
        Question::Match(request) => Duration::from_millis(request.wait_ms_max.into()),
        // Until it is final.
        Question::Submit { .. } | Question::Word(_) => SUBMIT_TIME_MAX,
        _ => Duration::ZERO,
    };
    let answer = async {
        let (mut sender, mut receiver) = connection.open_stream().await?;
        sender.message(question, LIMIT).await?;
        sender.finish();
        match receiver.message(LIMIT).await? {
            Some(answer) => Ok(answer),
            None => Err(LinkError::Ended("without an answer".to_owned())),
        }
    };
    timeout(ANSWER_TIME_MAX + waits, answer).await.map_err(|_| LinkError::Silent)?
}
