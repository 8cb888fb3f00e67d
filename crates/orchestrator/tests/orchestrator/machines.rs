//! A pool under test, and machines that talk to it as bluntly as a test needs.

use orchestrator::{Metrics, Orchestrator, OrchestratorConfig, StartError, Timings};
use protocol::{
    grant::{Grant, MatchReply, MatchRequest, ModelRef, Refusal, Tier, WorkerEvidence},
    ids::{ModelDigest, NodeId, TaskId},
    ipc::ModelFacts,
    limits::LINK_MESSAGE_BYTES_MAX as LIMIT,
    link::{
        ALPN, Answer, Denied, FromNode, Hello, HelloReply, ModelEntry, NodeRow, NodeState, Question, Role, ToNode,
        Welcome, WorkerState,
    },
    sealing::{SealingKey, Suite},
    ticket::Ticket,
};
use serde::Serialize;
use std::{
    path::Path,
    time::{Duration, SystemTime},
};
use tempfile::TempDir;
use transport::{Connection, Listen, Receiver, Sender, Transport};
use trust::MachineKey;

pub(crate) const MODEL: ModelDigest = ModelDigest([5; 32]);
/// Only a hang takes as long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
pub(crate) const LOOPBACK: Listen = Listen::Loopback { port: 0 };

pub(crate) fn unix_ms() -> u64 {
    protocol::time::unix_ms(SystemTime::now())
}

/// An orchestrator on a store of its own.
pub(crate) struct Pool {
    pub(crate) orchestrator: Orchestrator,
    pub(crate) ticket: Ticket,
    pub(crate) key: MachineKey,
    pub(crate) folder: TempDir,
}

pub(crate) async fn start(folder: &Path, key: &MachineKey, timings: Timings) -> Result<Orchestrator, StartError> {
    let config = OrchestratorConfig::new(folder.join("pool"), LOOPBACK, key.clone());
    Orchestrator::start(OrchestratorConfig { timings, ..config }).await
}

impl Pool {
    pub(crate) async fn new() -> Self {
        Self::with(quiet()).await
    }

    pub(crate) async fn with(timings: Timings) -> Self {
        let (folder, key) = (tempfile::tempdir().unwrap(), MachineKey::generate());
        let orchestrator = start(folder.path(), &key, timings).await.unwrap();
        Self { ticket: orchestrator.ticket(), orchestrator, key, folder }
    }

    /// Stops it and starts it again on the same store.
    pub(crate) async fn restarted(self) -> Self {
        let Self { orchestrator, key, folder, .. } = self;
        orchestrator.shutdown().await;
        drop(orchestrator);
        let orchestrator = start(folder.path(), &key, quiet()).await.unwrap();
        Self { ticket: orchestrator.ticket(), orchestrator, key, folder }
    }

    /// A node that has said that it is ready.
    pub(crate) async fn node(&self) -> Node {
        self.node_with(4).await
    }

    /// One with so many slots.
    pub(crate) async fn node_with(&self, slots: u32) -> Node {
        let mut node = Node::join(&self.ticket, &MachineKey::generate()).await.unwrap();
        node.say(&FromNode::State(node.state(slots, 0))).await;
        self.until(node.id(), |row| row.hold.is_none()).await;
        node
    }

    pub(crate) async fn client(&self) -> Client {
        Client::join(&self.ticket, &MachineKey::generate()).await.unwrap()
    }

    pub(crate) fn row(&self, node: NodeId) -> Option<NodeRow> {
        self.orchestrator.nodes().into_iter().find(|row| row.node == node)
    }

    /// Waits until what the orchestrator counts is as it should be.
    pub(crate) async fn until_counted(&self, is: impl Fn(&Metrics) -> bool) -> Metrics {
        within(async {
            loop {
                let metrics = self.orchestrator.metrics();
                if is(&metrics) {
                    return metrics;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
        .await
    }

    /// Waits until the orchestrator's row of a node is as it should be.
    pub(crate) async fn until(&self, node: NodeId, is: impl Fn(&NodeRow) -> bool) -> NodeRow {
        let mut last = None;
        let wait = async {
            loop {
                last = self.row(node);
                if let Some(row) = last.as_ref().filter(|row| is(row)) {
                    return row.clone();
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(row) => row,
            Err(_) => panic!("it never came to be; the last row was {last:?}"),
        }
    }
}

/// A link as either role starts it.
pub(crate) struct Link {
    pub(crate) key: MachineKey,
    // Keeps the endpoint alive.
    _transport: Transport,
    pub(crate) connection: Connection,
    pub(crate) sender: Sender,
    pub(crate) receiver: Receiver,
}

pub(crate) async fn connect(ticket: &Ticket, key: &MachineKey) -> (Transport, Connection) {
    let transport = Transport::bind(key, LOOPBACK, &[]).await.unwrap();
    let to = &ticket.orchestrators[0];
    let connection = transport.connect(to.id, &to.addresses, ALPN).await.unwrap();
    (transport, connection)
}

async fn introduce(ticket: &Ticket, key: &MachineKey, role: Role) -> Result<(Link, Welcome), Denied> {
    let (transport, connection) = connect(ticket, key).await;
    let (mut sender, mut receiver) = connection.open_stream().await.unwrap();
    let hello = Hello { pool: ticket.pool, secret: ticket.secret, redemption: None, role, known_epoch: 0 };
    sender.message(&hello, LIMIT).await.unwrap();
    let reply = within(receiver.message(LIMIT)).await.unwrap();
    match reply.expect("an answer") {
        HelloReply::Welcome(welcome) => {
            Ok((Link { key: key.clone(), _transport: transport, connection, sender, receiver }, welcome))
        }
        HelloReply::Denied(denied) => Err(denied),
    }
}

/// Fails instead of hanging.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("no hang")
}

pub(crate) struct Node {
    pub(crate) link: Link,
    pub(crate) welcome: Welcome,
}

impl Node {
    pub(crate) async fn join(ticket: &Ticket, key: &MachineKey) -> Result<Self, Denied> {
        let (link, welcome) = introduce(ticket, key, Role::Node).await?;
        Ok(Self { link, welcome })
    }

    pub(crate) fn id(&self) -> NodeId {
        self.link.key.id()
    }

    /// A ready node that serves [`MODEL`].
    pub(crate) fn state(&self, slots: u32, active_tasks: u32) -> NodeState {
        NodeState {
            label: "test node".to_owned(),
            addresses: vec!["127.0.0.1:4000".parse().unwrap()],
            workers: vec![worker(&self.link.key, self.id(), MODEL, slots, active_tasks)],
            active_tasks,
            hold: None,
        }
    }

    pub(crate) async fn say<T: Serialize>(&mut self, message: &T) {
        within(self.link.sender.message(message, LIMIT)).await.unwrap();
    }

    /// What the orchestrator says next.
    pub(crate) async fn told(&mut self) -> ToNode {
        within(self.link.receiver.message(LIMIT)).await.unwrap().expect("a message")
    }

    /// Waits for a probe and returns its number.
    pub(crate) async fn probed(&mut self) -> u64 {
        loop {
            if let ToNode::Probe { probe } = self.told().await {
                return probe;
            }
        }
    }
}

/// A worker of `about` with evidence signed by `signer`.
pub(crate) fn worker(
    signer: &MachineKey,
    about: NodeId,
    digest: ModelDigest,
    slots: u32,
    active_tasks: u32,
) -> WorkerState {
    let evidence = WorkerEvidence {
        node: about,
        model: digest,
        measurement: [0; 32],
        keys: vec![SealingKey { suite: Suite::X25519, bytes: vec![9; 32] }],
        tier: Tier::SelfSigned,
        issued_unix_ms: unix_ms(),
        expires_unix_ms: unix_ms() + 60_000,
    };
    let name = format!("model-{}", digest.0[0]);
    WorkerState {
        model: ModelEntry {
            name,
            aliases: vec!["default".to_owned(), "tiny".to_owned()],
            digest,
            bytes: 1,
            licence: "MIT".to_owned(),
            created_unix_s: 0,
        },
        facts: ModelFacts {
            architecture: "test".to_owned(),
            context_tokens: 2048,
            slots,
            embedding_length: 0,
            chat: true,
        },
        evidence: signer.sign(&evidence),
        active_tasks,
        capacity: slots,
    }
}

pub(crate) struct Client {
    pub(crate) link: Link,
}

impl Client {
    pub(crate) async fn join(ticket: &Ticket, key: &MachineKey) -> Result<Self, Denied> {
        let (mut link, _) = introduce(ticket, key, Role::Client).await?;
        link.sender.finish();
        Ok(Self { link })
    }

    pub(crate) fn id(&self) -> NodeId {
        self.link.key.id()
    }

    pub(crate) async fn ask<T: Serialize>(&self, question: &T) -> Answer {
        let (mut sender, mut receiver) = self.link.connection.open_stream().await.unwrap();
        // A question that is refused at its first bytes may be cut off.
        let _ = within(sender.message(question, usize::MAX)).await;
        sender.finish();
        within(receiver.message(LIMIT)).await.unwrap().expect("an answer")
    }

    pub(crate) async fn matched(&self, request: MatchRequest) -> Result<Grant, Refusal> {
        match self.ask(&Question::Match(request)).await {
            Answer::Match(MatchReply::Granted(grant)) => Ok(grant),
            Answer::Match(MatchReply::Refused(refusal)) => Err(refusal),
            other => panic!("no answer to a match: {other:?}"),
        }
    }
}

pub(crate) fn request(model: &str) -> MatchRequest {
    MatchRequest::new(TaskId::random(), ModelRef::Name(model.to_owned()), 4096, 256)
}

/// The usual timings, without tasks of the orchestrator's own: nodes that only say that they serve would fail them.
pub(crate) fn quiet() -> Timings {
    Timings { measure: None, ..Timings::default() }
}
