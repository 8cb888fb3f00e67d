//! Connections to nodes, kept for the next task.

use protocol::{grant::Candidate, ids::NodeId, stream};
use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard},
};
use transport::{ConnectError, Connection, Transport};

/// Connections that are kept; beyond, one that is not in use by anyone new is dropped.
const KEPT_MAX: usize = 256;

#[derive(Default)]
pub(super) struct Connections {
    open: Mutex<HashMap<NodeId, Connection>>,
}

impl Connections {
    fn lock(&self) -> MutexGuard<'_, HashMap<NodeId, Connection>> {
        self.open.lock().expect("no holder of this lock panics")
    }

    /// A connection to a candidate: the kept one, or a new one.
    pub(super) async fn to(&self, transport: &Transport, candidate: &Candidate) -> Result<Connection, ConnectError> {
        let kept = self.lock().get(&candidate.node).filter(|connection| connection.is_open()).cloned();
        if let Some(connection) = kept {
            return Ok(connection);
        }
        let connection = transport.connect(candidate.node, &candidate.addresses, stream::ALPN).await?;
        let mut open = self.lock();
        open.retain(|_, kept| kept.is_open());
        if open.len() >= KEPT_MAX {
            // Tasks that run on it hold their own handle.
            let any = open.keys().next().copied();
            any.map(|node| open.remove(&node));
        }
        open.insert(candidate.node, connection.clone());
        Ok(connection)
    }

    /// The next task to this node makes a new connection.
    pub(super) fn forget(&self, node: NodeId) {
        self.lock().remove(&node);
    }
}
