//! Whether a committee has made a block final: for one who has the committee from a source that is to be believed.

use protocol::{
    header::{Anchor, Committee, Handover},
    ids::PoolId,
};
use trust::light::{self, AnchorError};

/// Why something shows nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// It is of another pool.
    #[error("it is of another pool")]
    Pool,
    /// It is signed by another committee than the one that is known.
    #[error("it is of another committee than the one that is known")]
    Committee,
    /// Signers and signatures do not fit, or the signers are not of the committee.
    #[error("its signatures do not fit its signers")]
    Signers,
    /// Too few signatures hold.
    #[error("{valid} signatures hold, {quorum} are needed")]
    Quorum {
        /// How many hold.
        valid: usize,
        /// How many have to.
        quorum: usize,
    },
    /// A handover does not follow the one before, or names another committee than its block does.
    #[error("the way from committee to committee has a gap")]
    Gap,
}

/// Checks that a quorum of this committee has made the block final.
pub(crate) fn certified(pool: PoolId, committee: &Committee, anchor: &Anchor) -> Result<(), CertificateError> {
    let header = &anchor.header;
    if header.pool != pool {
        return Err(CertificateError::Pool);
    }
    if header.committee != committee.digest() {
        return Err(CertificateError::Committee);
    }
    light::check_signatures(committee, anchor).map_err(|error| match error {
        AnchorError::TooFewSignatures { valid, needed } => CertificateError::Quorum { valid, quorum: needed },
        _ => CertificateError::Signers,
    })
}

/// The committee at the end of these handovers, of which the first is from `committee`.
pub(crate) fn followed(
    pool: PoolId,
    committee: Committee,
    epoch_blocks: u64,
    handovers: &[Handover],
) -> Result<Committee, CertificateError> {
    let mut epoch = None;
    handovers.iter().try_fold(committee, |committee, Handover { last, next }| {
        certified(pool, &committee, last)?;
        let header = &last.header;
        let is_last = (header.height + 1).is_multiple_of(epoch_blocks) && header.height / epoch_blocks == header.epoch;
        if !is_last || epoch >= Some(header.epoch) || header.next_committee != next.digest() {
            return Err(CertificateError::Gap);
        }
        epoch = Some(header.epoch);
        Ok(next.clone())
    })
}

#[cfg(test)]
mod tests;
