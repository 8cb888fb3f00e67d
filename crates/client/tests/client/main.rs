//! A client against real sockets: nodes that answer as told, and fail as told; an orchestrator that grants and listens.

#![expect(clippy::unwrap_used, reason = "clippy knows test functions, but not what they call")]

mod agreed;
mod audits;
mod believing;
mod exports;
mod failover;
mod hedging;
mod lies;
mod orchestrator;
mod paying;
mod reading;
mod script;
mod starting;
mod stub_node;

use client::{Answer, AskError, Client, ClientConfig};
use orchestrator::StubOrchestrator;
use protocol::{
    ids::ModelDigest,
    task::{Frame, Usage},
};
use std::{future::Future, time::Duration};
use stub_node::{Begun, StubNode};
use trust::MachineKey;

/// The model of every pool here.
pub(crate) const MODEL: ModelDigest = ModelDigest([5; 32]);

/// An orchestrator, nodes and a client of it.
pub(crate) struct Pool {
    pub(crate) orchestrator: StubOrchestrator,
    pub(crate) nodes: Vec<StubNode>,
    pub(crate) client: Client,
}

impl Pool {
    pub(crate) async fn of(nodes: usize) -> Self {
        Self::patient(nodes, Duration::from_secs(60)).await
    }

    pub(crate) async fn patient(count: usize, patience: Duration) -> Self {
        let orchestrator = StubOrchestrator::start().await;
        let (mut nodes, begun) = (Vec::new(), Begun::default());
        for _ in 0..count {
            let node = StubNode::start(Begun::clone(&begun)).await;
            orchestrator.add(node.candidate());
            nodes.push(node);
        }
        let mut config = ClientConfig::new(MachineKey::generate(), orchestrator.ticket());
        config.patience = patience;
        let client = Client::start(config).await.unwrap();
        Self { orchestrator, nodes, client }
    }
}

/// What a reader saw.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Seen {
    pub(crate) begun: Vec<u32>,
    pub(crate) ids: Vec<u32>,
    pub(crate) text: String,
    pub(crate) vectors: Vec<u32>,
    pub(crate) usage: Vec<Usage>,
}

/// Reads to the end; nothing may follow the final frame.
pub(crate) async fn read(answer: &mut Answer) -> Result<Seen, AskError> {
    let mut seen = Seen::default();
    while let Some(frame) = answer.next().await {
        assert!(seen.usage.is_empty(), "nothing follows the final frame");
        match &frame? {
            Frame::Started { prompt_tokens } => seen.begun.push(*prompt_tokens),
            Frame::Tokens { ids, text, .. } => {
                seen.ids.extend_from_slice(ids);
                seen.text.push_str(text);
            }
            Frame::Embedding { index, .. } => seen.vectors.push(*index),
            Frame::Done { usage, .. } => seen.usage.push(*usage),
            frame => panic!("{frame:?}"),
        }
    }
    Ok(seen)
}

/// Nothing here takes this long: a test that hangs fails.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(90), future).await.expect("it does not hang")
}
