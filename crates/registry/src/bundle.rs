//! Facts that one author says together, once.

use crate::{BundleError, Fact};
use protocol::{
    ids::{AccountId, PoolId},
    limits,
    signed::{Signable, Signed, Verifier},
};
use serde::{Deserialize, Serialize};

/// Facts under one signature. All of them count, or none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bundle {
    /// For which pool.
    pub pool: PoolId,
    /// Who says it: the key that signs.
    pub author: AccountId,
    /// Higher than in every bundle of this author before; gaps do no harm. So a bundle counts once, at the price of one
    /// number for each author.
    pub sequence: u64,
    /// It counts up to this time, in milliseconds since 1970: what an author believes lost cannot come back much later.
    pub not_after_unix_ms: u64,
    /// At most [`limits::BUNDLE_FACTS_MAX`], each at most [`limits::FACT_BYTES_MAX`] long.
    pub facts: Vec<Fact>,
}

impl Signable for Bundle {
    const CONTEXT: &'static str = "darkbloom/facts/1";
}

/// A bundle whose author has signed it. There is no other way to make one than to verify the signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authenticated(Bundle);

impl Authenticated {
    /// The bundle, if its author has signed it.
    pub fn open(signed: &Signed<Bundle>, verifier: &dyn Verifier) -> Result<Self, BundleError> {
        let bundle = signed.open(verifier).ok_or(BundleError::Signature)?;
        if bundle.author != AccountId::from(signed.signer) {
            return Err(BundleError::Signature);
        }
        if !(1..=limits::BUNDLE_FACTS_MAX).contains(&bundle.facts.len()) {
            return Err(BundleError::Size);
        }
        // In a shorter bundle no fact can be too long.
        let is_long = signed.payload.len() > limits::FACT_BYTES_MAX;
        if is_long && bundle.facts.iter().any(|fact| fact.encode().is_err()) {
            return Err(BundleError::FactTooLong);
        }
        Ok(Self(bundle))
    }

    /// What was said.
    pub fn bundle(&self) -> &Bundle {
        &self.0
    }
}
