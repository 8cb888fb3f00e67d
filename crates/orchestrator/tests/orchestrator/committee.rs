//! Several orchestrators of one pool under test.

use crate::machines::{LOOPBACK, Node, PATIENCE, quiet, unix_ms, within};
use orchestrator::{Orchestrator, OrchestratorConfig, Timings};
use protocol::{
    founding::{Founding, Seat},
    genesis::Genesis,
    ids::NodeId,
    link::{FromNode, NodeRow},
    ticket::OrchestratorAddress,
};
use std::time::Duration;
use tempfile::TempDir;
use trust::MachineKey;

/// So long a home may be silent: short enough to be waited for, long enough for a busy machine.
const SILENCE_MAX: Duration = Duration::from_secs(6);

/// Orchestrators that founded a pool together.
pub(crate) struct Committee {
    pub(crate) members: Vec<Orchestrator>,
    _folders: Vec<TempDir>,
}

impl Committee {
    pub(crate) async fn of(count: usize) -> Self {
        Self::beside(count, &[]).await
    }

    /// So many, and others that are founded with them and do what the test says.
    pub(crate) async fn beside(count: usize, others: &[NodeId]) -> Self {
        let folders: Vec<TempDir> = (0..count).map(|_| tempfile::tempdir().unwrap()).collect();
        let timings = Timings { silence_max: SILENCE_MAX, ..quiet() };
        let config = |folder: &TempDir| OrchestratorConfig {
            timings,
            ..OrchestratorConfig::new(folder.path().join("pool"), LOOPBACK, MachineKey::generate())
        };
        let configs: Vec<OrchestratorConfig> = folders.iter().map(config).collect();
        let mut orchestrators = Vec::new();
        for config in &configs {
            let Seat(address) = Orchestrator::seat(config.clone()).await.unwrap();
            orchestrators.push(address);
        }
        orchestrators.extend(others.iter().map(|id| OrchestratorAddress { id: *id, addresses: Vec::new() }));
        let ids = orchestrators.iter().map(|orchestrator| orchestrator.id).collect();
        let secret = [7; 32];
        let founding = Founding { genesis: Genesis::new(ids, &secret, unix_ms()), orchestrators, secret };
        let starts = configs
            .into_iter()
            .map(|config| Orchestrator::start(OrchestratorConfig { founding: Some(founding.clone()), ..config }));
        let members = futures_util::future::try_join_all(starts).await.unwrap();
        Self { members, _folders: folders }
    }

    /// A node that is ready, with a link to this member.
    pub(crate) async fn node(&self, member: usize) -> Node {
        self.node_of(member, &MachineKey::generate()).await
    }

    pub(crate) async fn node_of(&self, member: usize, key: &MachineKey) -> Node {
        let mut node = Node::join(&self.members[member].ticket(), key).await.unwrap();
        self.until_ready(member, &mut node).await;
        node
    }

    /// Waits until a node gets work by this member, while it goes on saying that it is ready.
    pub(crate) async fn until_ready(&self, member: usize, node: &mut Node) -> NodeRow {
        within(async {
            loop {
                node.say(&FromNode::State(node.state(4, 0))).await;
                let row = self.members[member].nodes().into_iter().find(|row| row.node == node.id());
                if let Some(row) = row.filter(|row| row.hold.is_none()) {
                    return row;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        })
        .await
    }

    /// Waits until a member's row of a node is as it should be.
    pub(crate) async fn until(&self, member: usize, node: NodeId, is: impl Fn(&NodeRow) -> bool) -> NodeRow {
        let mut last = None;
        let wait = async {
            loop {
                last = self.members[member].nodes().into_iter().find(|row| row.node == node);
                if let Some(row) = last.as_ref().filter(|row| is(row)) {
                    return row.clone();
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(row) => row,
            Err(_) => panic!("it never came to be; the last row was {last:?}"),
        }
    }
}
