//! What an orchestrator needs to start, and why it does not.

use crate::FolderError;
use protocol::{
    founding::Founding,
    ids::{AccountId, NodeId, PoolId},
    link::{HEARTBEAT_MS_MAX, PROBE_MS_MAX},
};
use std::{path::PathBuf, time::Duration};
use transport::{BindError, Listen};
use trust::MachineKey;

/// Settings of one orchestrator.
#[derive(Debug, Clone)]
pub struct OrchestratorConfig {
    /// Where it keeps what was agreed on, and the line that leads into the pool; made where there is none.
    pub folder: PathBuf,
    /// Where to listen. With port 0 the port of the last start is taken again, if it is free.
    pub listen: Listen,
    /// The orchestrator's identity: the same for the life of the pool.
    pub key: MachineKey,
    /// The pool whose committee it takes part in. `None`: the one in the folder, or else a new one of its own.
    pub founding: Option<Founding>,
    /// Who owns a pool that is founded here; `None`: the orchestrator itself.
    pub owner: Option<AccountId>,
    /// How long it waits for what.
    pub timings: Timings,
}

impl OrchestratorConfig {
    /// The usual timings.
    pub fn new(folder: PathBuf, listen: Listen, key: MachineKey) -> Self {
        Self { folder, listen, key, founding: None, owner: None, timings: Timings::default() }
    }
}

/// How long an orchestrator waits for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timings {
    /// A node that says nothing for this long is unresponsive.
    pub silence_max: Duration,
    /// A node that was reported answers a probe within this time, or is unresponsive.
    pub probe_max: Duration,
    /// A connection shows its ticket within this time, or is closed.
    pub hello_max: Duration,
    /// A question is complete within this time, or its stream is given up.
    pub question_max: Duration,
    /// What was observed of the nodes is made a fact of the pool, and scored, so often; and at shutdown.
    pub observations_every: Duration,
    /// When nodes are measured and tried; `None`: never. Matching then knows of their speed only what a sceptic
    /// believes, and a node that was ejected comes back through audits by clients alone.
    pub measure: Option<Measure>,
}

/// When an orchestrator measures its nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measure {
    /// A node has had nothing to do for this long.
    pub after_idle: Duration,
    /// Its last measurement is so old.
    pub again_after: Duration,
    /// One measurement takes this long at most; a slow machine is measured less.
    pub time_max: Duration,
}

impl Default for Measure {
    fn default() -> Self {
        Self {
            after_idle: Duration::from_secs(2),
            again_after: Duration::from_secs(4 * 60 * 60),
            time_max: Duration::from_secs(10),
        }
    }
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            silence_max: Duration::from_millis(HEARTBEAT_MS_MAX),
            probe_max: Duration::from_millis(PROBE_MS_MAX),
            hello_max: Duration::from_secs(5),
            question_max: Duration::from_secs(5),
            observations_every: Duration::from_secs(10 * 60),
            measure: Some(Measure::default()),
        }
    }
}

/// Why an orchestrator does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The folder cannot be used.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The folder is another orchestrator's.
    #[error(
        "{} belongs to orchestrator {}: start with its key, or with another folder",
        folder.display(),
        owner.short()
    )]
    OtherKey {
        /// The folder.
        folder: PathBuf,
        /// Whose it is.
        owner: NodeId,
    },
    /// The folder is of another pool.
    #[error("{} belongs to pool {}, and was to serve pool {}: choose another folder", folder.display(), kept.short(), asked.short())]
    OtherPool {
        /// The folder.
        folder: PathBuf,
        /// The pool in it.
        kept: PoolId,
        /// The pool that it was started for.
        asked: PoolId,
    },
    /// The port cannot be had.
    #[error("{0}: choose another port, or 0 for any")]
    Listen(#[from] BindError),
    /// It cannot take part in the pool's committee.
    #[error(transparent)]
    Committee(#[from] committee::StartError),
}
