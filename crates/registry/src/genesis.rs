//! How a pool begins.

use protocol::{
    codec,
    ids::{AccountId, NodeId, PoolId},
    limits,
};
use serde::{Deserialize, Serialize};

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

    /// Who owns the pool when it begins: the first orchestrator, whose machine founded it.
    pub fn owner(&self) -> Option<AccountId> {
        self.orchestrators.first().map(|first| AccountId::from(*first))
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
