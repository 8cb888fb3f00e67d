use crate::state::{Shared, Worker};
use protocol::{hold::Hold, ids::NodeId, ipc::ModelFacts};
use std::net::SocketAddr;

/// A node as it is now.
#[derive(Debug, Clone)]
pub struct NodeStatus {
    /// The machine.
    pub id: NodeId,
    /// What people call it.
    pub label: String,
    /// Where clients reach it.
    pub addresses: Vec<SocketAddr>,
    /// Its worker.
    pub worker: WorkerStatus,
    /// Tasks that it runs or that wait for a slot.
    pub active_tasks: u32,
    /// Why it takes no work, if so.
    pub hold: Option<Hold>,
    /// Its links to orchestrators.
    pub links: Vec<LinkStatus>,
}

/// The worker of a node.
#[derive(Debug, Clone)]
pub struct WorkerStatus {
    /// Canonical name of its model.
    pub model: String,
    /// Whether it takes tasks.
    pub ready: bool,
    /// Its process id, where it is ready.
    pub process_id: Option<u32>,
    /// What its model is, where it is ready.
    pub facts: Option<ModelFacts>,
    /// Its sandbox, in JSON, where it is ready.
    pub sandbox_json: Option<String>,
}

/// A link to an orchestrator.
#[derive(Debug, Clone)]
pub struct LinkStatus {
    /// Which.
    pub orchestrator: NodeId,
    /// Whether it is up.
    pub connected: bool,
    /// Why not, where it was tried.
    pub error: Option<String>,
    /// Whether the orchestrator has said how it sees this node.
    pub known: bool,
    /// Why the orchestrator matches no task to this node, if so.
    pub hold: Option<Hold>,
}

pub(crate) fn of(shared: &Shared, addresses: Vec<SocketAddr>) -> NodeStatus {
    let state = shared.lock();
    let model = shared.config.model.name.clone();
    let worker = match &state.worker {
        Worker::Ready(worker) => WorkerStatus {
            model,
            ready: true,
            process_id: Some(worker.process_id),
            facts: Some(worker.facts.clone()),
            sandbox_json: Some(worker.sandbox_json.clone()),
        },
        Worker::Starting | Worker::Down { .. } => {
            WorkerStatus { model, ready: false, process_id: None, facts: None, sandbox_json: None }
        }
    };
    let links = state
        .links
        .iter()
        .map(|(orchestrator, link)| LinkStatus {
            orchestrator: *orchestrator,
            connected: link.connected,
            error: link.error.clone(),
            known: link.standing.is_some(),
            hold: link.standing.clone().flatten(),
        })
        .collect();
    NodeStatus {
        id: shared.id,
        label: shared.config.label.clone(),
        addresses,
        worker,
        active_tasks: state.active_tasks(),
        hold: state.hold(),
        links,
    }
}
