//! The time of one committee.

use super::AnchorError;
use crate::machine_key::PublicKey;
use protocol::{
    header::{Anchor, Committee},
    proof::Digest,
};
use std::sync::Arc;

/// A committee from an epoch on, with its keys unpacked.
#[derive(Debug, Clone)]
pub(super) struct Era {
    pub(super) committee: Arc<Committee>,
    pub(super) digest: Digest,
    pub(super) from_epoch: u64,
    /// In the order of the members; `None`: its id is no key, so it has signed nothing.
    keys: Vec<Option<PublicKey>>,
}

impl Era {
    pub(super) fn new(committee: Committee, from_epoch: u64) -> Self {
        let keys = committee.members().iter().map(PublicKey::of).collect();
        Self { digest: committee.digest(), committee: Arc::new(committee), from_epoch, keys }
    }

    /// Whether enough members have signed. One signature that does not hold spoils nothing: an orchestrator attaches all
    /// that it has.
    pub(super) fn check_signatures(&self, anchor: &Anchor) -> Result<(), AnchorError> {
        let certificate = &anchor.certificate;
        let beyond = u32::from(certificate.signers) >> self.keys.len();
        if beyond != 0 || certificate.signers.count_ones() as usize != certificate.signatures.len() {
            return Err(AnchorError::Signers);
        }
        let needed = self.committee.quorum();
        let message = certificate.message(&anchor.header);
        let keys = self.keys.iter().enumerate();
        let signers = keys.filter(|(place, _)| certificate.signers >> place & 1 == 1).map(|(_, key)| key);
        let mut valid = 0;
        for (key, signature) in signers.zip(&certificate.signatures) {
            if valid == needed {
                break;
            }
            let holds = key.as_ref().is_some_and(|key| key.holds(&message, &signature.bytes()));
            valid += usize::from(holds);
        }
        if valid < needed {
            return Err(AnchorError::TooFewSignatures { valid, needed });
        }
        Ok(())
    }
}
