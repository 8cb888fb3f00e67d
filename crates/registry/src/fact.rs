//! What can be agreed, what follows from it, and why not.

use protocol::{
    codec::{self, CodecError},
    ids::{ModelDigest, NodeId, PoolId},
    limits,
    link::{ModelEntry, Role},
};
use serde::{Deserialize, Serialize};
use trust::observations::{Observations, ObservationsError};

/// One entry of a pool's log. Logs are kept: variants are added at the end only, and never change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Fact {
    /// The pool begins. The first fact of every log, and only that.
    Genesis(Genesis),
    /// A machine may take part in a role.
    MemberAdmitted {
        /// Which.
        node: NodeId,
        /// As what.
        role: Role,
        /// When, in milliseconds since 1970.
        at_unix_ms: u64,
    },
    /// The pool has a model. The first is its default.
    ModelAdded(ModelEntry),
    /// A machine may take part no more, in any role, whatever ticket it shows.
    MemberRemoved {
        /// Which.
        node: NodeId,
        /// When, in milliseconds since 1970.
        at_unix_ms: u64,
    },
    /// What was observed of a member up to an epoch; replaces what was before.
    Observed {
        /// Of which.
        node: NodeId,
        /// Up to which epoch: hours since 1970 ([`trust::observations::EPOCH_MS`]).
        epoch: u64,
        /// What.
        observations: Observations,
    },
}

impl Fact {
    /// The form in which logs keep it.
    pub fn encode(&self) -> Result<Vec<u8>, CodecError> {
        codec::encode(self, limits::FACT_BYTES_MAX)
    }

    /// Reads a fact of a log.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode(bytes, limits::FACT_BYTES_MAX)
    }
}

/// How a pool began. Its hash is the pool's id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Genesis {
    /// Machines whose permits hold in the pool.
    pub orchestrators: Vec<NodeId>,
    /// BLAKE3 of the secret that admits; the secret itself is never a fact.
    pub secret_hash: [u8; 32],
    /// When, in milliseconds since 1970.
    pub created_unix_ms: u64,
}

/// A genesis that founds no pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GenesisError {
    /// Nobody could give permits.
    #[error("a pool needs an orchestrator")]
    NoOrchestrator,
    /// More than [`limits::ORCHESTRATORS_MAX`].
    #[error("a pool has at most {} orchestrators", limits::ORCHESTRATORS_MAX)]
    TooManyOrchestrators,
    /// One is named twice.
    #[error("an orchestrator is named twice")]
    Repeated,
}

impl Genesis {
    /// The genesis of a pool that `secret` admits to.
    pub fn new(orchestrators: Vec<NodeId>, secret: &[u8; 32], created_unix_ms: u64) -> Self {
        Self { orchestrators, secret_hash: *blake3::hash(secret).as_bytes(), created_unix_ms }
    }

    /// The pool's id: BLAKE3 of the encoded genesis.
    pub fn pool(&self) -> Result<PoolId, GenesisError> {
        if self.orchestrators.is_empty() {
            return Err(GenesisError::NoOrchestrator);
        }
        if self.orchestrators.len() > limits::ORCHESTRATORS_MAX {
            return Err(GenesisError::TooManyOrchestrators);
        }
        if (1..self.orchestrators.len()).any(|at| self.orchestrators[..at].contains(&self.orchestrators[at])) {
            return Err(GenesisError::Repeated);
        }
        let bytes = codec::encode(self, limits::FACT_BYTES_MAX).expect("16 orchestrators fit a fact");
        Ok(PoolId(*blake3::hash(&bytes).as_bytes()))
    }
}

/// What a fact changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The pool exists.
    Founded {
        /// Its id.
        pool: PoolId,
    },
    /// A machine may take part.
    MemberAdmitted {
        /// Which.
        node: NodeId,
        /// As what.
        role: Role,
    },
    /// The pool has a new model; names that others had before it are not among its names.
    ModelAdded {
        /// Which.
        digest: ModelDigest,
    },
    /// A machine may take part no more.
    MemberRemoved {
        /// Which.
        node: NodeId,
    },
    /// There are newer observations of a member.
    Observed {
        /// Of which.
        node: NodeId,
        /// Up to which epoch.
        epoch: u64,
    },
}

/// Why a fact is none. Nothing has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// There is no pool yet.
    #[error("the log does not begin with a genesis")]
    NotFounded,
    /// There is another pool already.
    #[error("the log has another genesis")]
    FoundedDifferently,
    /// The genesis founds nothing.
    #[error("{0}")]
    Genesis(#[from] GenesisError),
    /// The machine was removed, which is for good: it would need a new identity and a ticket.
    #[error("this machine was removed from the pool")]
    Removed,
    /// No such member.
    #[error("this machine is no member of the pool")]
    UnknownMember,
    /// More than [`limits::MEMBERS_MAX`].
    #[error("the pool has {} members, more than that it cannot have", limits::MEMBERS_MAX)]
    MembersFull,
    /// The model is not one that a pool can have.
    #[error("{0}")]
    Model(#[from] ModelError),
    /// More than [`limits::MODELS_MAX`].
    #[error("the pool has {} models, more than that it cannot have", limits::MODELS_MAX)]
    ModelsFull,
    /// Something else was agreed on for this epoch, or a later one.
    #[error("observations of this machine up to epoch {epoch} are agreed on already")]
    EpochPassed {
        /// Up to which.
        epoch: u64,
    },
    /// The observations are none.
    #[error("{0}")]
    Observations(#[from] ObservationsError),
}

/// A model that no pool can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// Empty, too long, or with characters beyond visible ASCII.
    #[error("a model's name has 1 to {} visible ASCII characters", limits::MODEL_NAME_CHARS_MAX)]
    Name,
    /// Another model has the name, and also the name with this model's digest behind it.
    #[error("another model has this name")]
    NameTaken,
    /// Too long, or with control characters.
    #[error("a licence's name has at most {} bytes and no control characters", limits::LICENCE_BYTES_MAX)]
    Licence,
}
