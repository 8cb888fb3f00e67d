//! An orchestrator's permit, as the node checks it.

use crate::{SignatureError, open};
use protocol::{
    grant::Permit,
    ids::{NodeId, PoolId},
    limits,
    signed::Signed,
};

/// What a permit must say to hold here.
#[derive(Debug, Clone, Copy)]
pub struct Expected {
    /// Our pool.
    pub pool: PoolId,
    /// Who is on the other end of the connection.
    pub client: NodeId,
    /// Ourselves.
    pub node: NodeId,
}

/// Why a permit does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PermitError {
    /// Not authentic.
    #[error("{0}")]
    Signature(#[from] SignatureError),
    /// Signed by somebody who is no orchestrator of this pool.
    #[error("its signer is no orchestrator of this pool")]
    Signer,
    /// For another pool, client or node.
    #[error("it is for another {0}")]
    Other(&'static str),
    /// Too old, or valid for longer than a permit may be.
    #[error("it has expired: check the clock of this machine and of the orchestrator")]
    Expired,
}

/// The permit, if one of `orchestrators` gave it to this client for this node and it has not run out.
pub fn verify(
    signed: &Signed<Permit>,
    orchestrators: &[NodeId],
    expected: &Expected,
    now_unix_ms: u64,
) -> Result<Permit, PermitError> {
    if !orchestrators.contains(&signed.signer) {
        return Err(PermitError::Signer);
    }
    let permit = open(signed)?;
    for (what, holds) in [
        ("pool", permit.pool == expected.pool),
        ("client", permit.client == expected.client),
        ("node", permit.node == expected.node),
    ] {
        if !holds {
            return Err(PermitError::Other(what));
        }
    }
    let lifetime_max = limits::PERMIT_LIFETIME_MS + limits::CLOCK_SKEW_MS_MAX;
    let remaining = permit.expires_unix_ms.saturating_add(limits::CLOCK_SKEW_MS_MAX).checked_sub(now_unix_ms);
    match remaining {
        Some(ms) if ms > 0 && ms <= lifetime_max + limits::CLOCK_SKEW_MS_MAX => Ok(permit),
        _ => Err(PermitError::Expired),
    }
}
