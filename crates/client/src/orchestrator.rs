//! The link to whichever orchestrator of the ticket answers, made anew when it breaks.
//!
//! Where there are several, one that dies costs a moment: a question whose receipt is not acknowledged within
//! [`ACKNOWLEDGED_TIME_MAX`] goes to another, and links are begun a quarter of a second after one another until the first is
//! there (as RFC 8305, "Happy Eyeballs", does with addresses). Each client has an order of its own in which it turns to
//! them, so that they share the clients evenly.

use crate::AskError;
use futures_util::{StreamExt, stream::FuturesUnordered};
use protocol::{
    ids::NodeId,
    limits::LINK_MESSAGE_BYTES_MAX as LIMIT,
    link::{ALPN, Answer, Hello, HelloReply, Question, Role},
    ticket::{OrchestratorAddress, Ticket},
};
use std::{
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
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
/// QUIC acknowledges a question at once, however long its answer takes. Where it does not, the orchestrator is gone.
const ACKNOWLEDGED_TIME_MAX: Duration = Duration::from_millis(800);
/// One question goes to so many orchestrators at most.
const TRIES_MAX: usize = 4;
/// A link is given so long before the next orchestrator is tried beside it.
const NEXT_LINK_AFTER: Duration = Duration::from_millis(250);
/// An orchestrator that was gone is turned to last for so long.
const GONE_TIME: Duration = Duration::from_secs(15);
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
    /// Who was gone, and when.
    gone: Mutex<Vec<(NodeId, Instant)>>,
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
    #[error("the orchestrator is gone")]
    Gone,
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
            gone: Mutex::default(),
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
            self.leave(&current);
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

    /// Nobody is to use this link any more, if it is still the one that is used.
    fn leave(&self, connection: &Connection) {
        let mut current = self.current.lock().expect("no holder of this lock panics");
        if current.as_ref().is_some_and(|other| other.is(connection)) {
            *current = None;
        }
    }

    fn is_gone(&self, orchestrator: NodeId) -> bool {
        let gone = self.gone.lock().expect("no holder of this lock panics");
        gone.iter().any(|(other, since)| *other == orchestrator && since.elapsed() < GONE_TIME)
    }

    fn set_gone(&self, orchestrator: NodeId) {
        let mut gone = self.gone.lock().expect("no holder of this lock panics");
        gone.retain(|(other, since)| *other != orchestrator && since.elapsed() < GONE_TIME);
        gone.push((orchestrator, Instant::now()));
    }

    /// The orchestrators of the ticket, the one to turn to first in front.
    fn in_order(&self, own: NodeId) -> Vec<&OrchestratorAddress> {
        let mut orchestrators: Vec<_> = self.ticket.orchestrators.iter().collect();
        orchestrators.sort_by_cached_key(|orchestrator| {
            let id = orchestrator.id;
            (
                self.is_distrusted(id),
                self.is_gone(id),
                BuildHasherDefault::<DefaultHasher>::default().hash_one((own, id)),
            )
        });
        orchestrators
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
        let mut waiting = self.in_order(transport.id()).into_iter();
        let mut links = FuturesUnordered::new();
        loop {
            match waiting.next() {
                Some(orchestrator) => links.push(self.link_to(transport, orchestrator)),
                None if links.is_empty() => return Err(AskError::Unreachable { reason: reasons.join("; ") }),
                None => {}
            }
            let next = async {
                match waiting.len() {
                    0 => std::future::pending().await,
                    _ => tokio::time::sleep(NEXT_LINK_AFTER).await,
                }
            };
            let linked = tokio::select! {
                biased;
                Some(linked) = links.next() => linked,
                () = next => continue,
            };
            match linked {
                Ok(connection) => {
                    self.timeouts.store(0, Ordering::Relaxed);
                    self.set(Some(connection.clone()));
                    return Ok(connection);
                }
                Err((_, LinkError::Denied(denied))) => return Err(AskError::Denied(denied)),
                Err((orchestrator, error)) => {
                    self.set_gone(orchestrator);
                    reasons.push(error.to_string());
                }
            }
        }
    }

    async fn link_to(
        &self,
        transport: &Transport,
        orchestrator: &OrchestratorAddress,
    ) -> Result<Connection, (NodeId, LinkError)> {
        let connecting = transport.connect(orchestrator.id, &orchestrator.addresses, ALPN);
        let link = async { self.introduce(connecting.await?, transport.id()).await };
        link.await.map_err(|error| (orchestrator.id, error))
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

    /// Asks one question; one that failed is asked again, over a new link where the old one broke.
    pub(crate) async fn ask(&self, transport: &Transport, question: &Question) -> Result<(NodeId, Answer), AskError> {
        let has_other = self.ticket.orchestrators.len() > 1;
        let (mut last, mut slow) = (None, 0);
        for _ in 0..TRIES_MAX.min(self.ticket.orchestrators.len() + 1) {
            let connection = self.connection(transport).await?;
            match exchange(&connection, question, has_other).await {
                Ok(answer) => {
                    self.timeouts.store(0, Ordering::Relaxed);
                    return Ok((connection.remote(), answer));
                }
                // Those that were asked before may yet be answered: the link is left, and not closed.
                Err(error @ LinkError::Gone) => {
                    self.set_gone(connection.remote());
                    self.leave(&connection);
                    last = Some(error);
                }
                Err(error) => {
                    // Giving the question up has reset its stream.
                    let is_silent = matches!(error, LinkError::Silent);
                    slow += u32::from(is_silent);
                    if !(is_silent && self.timeouts.fetch_add(1, Ordering::Relaxed) + 1 < TIMEOUTS_MAX) {
                        self.set_gone(connection.remote());
                        connection.close("no answer");
                        self.leave(&connection);
                    }
                    last = Some(error);
                    if slow >= TIMEOUTS_MAX {
                        break;
                    }
                }
            }
        }
        let reason = last.map_or_else(String::new, |error| error.to_string());
        Err(AskError::Unreachable { reason })
    }
}

/// `has_other`: another orchestrator could be asked, so that one that is gone is not waited for.
async fn exchange(connection: &Connection, question: &Question, has_other: bool) -> Result<Answer, LinkError> {
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
        let received = sender.stopped();
        let gone = async {
            if !has_other || timeout(ACKNOWLEDGED_TIME_MAX, received).await.is_ok() {
                std::future::pending::<()>().await;
            }
        };
        let answer = tokio::select! {
            biased;
            answer = receiver.message(LIMIT) => answer?,
            () = gone => return Err(LinkError::Gone),
        };
        answer.ok_or_else(|| LinkError::Ended("without an answer".to_owned()))
    };
    timeout(ANSWER_TIME_MAX + waits, answer).await.map_err(|_| LinkError::Silent)?
}
