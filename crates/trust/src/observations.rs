//! What was observed of one node: small integers that members can agree on.
//!
//! Every count is in thousandths, so that it can fade: [`Observations::decay`] takes a fixed share of it each epoch,
//! rounded up, and whatever is not seen again is gone after a while. Integer arithmetic only, so that every member
//! that agrees on the inputs agrees on the result.

mod network;
mod rates;
mod results;
mod sessions;

pub use network::Network;
pub use rates::{BATCHES, Rates};
pub use results::Results;
pub(crate) use sessions::hour_of_week;
pub use sessions::{Bin, HOURS_PER_WEEK, Sessions, operational_milli};

use protocol::ids::ModelDigest;
use serde::{Deserialize, Serialize};

/// Length of an epoch, after which observations fade and are agreed on, in milliseconds.
pub const EPOCH_MS: u64 = 60 * 60 * 1000;
/// Models of one node whose rates are kept.
pub const RATED_MODELS_MAX: usize = 8;

/// Agreed integers about one node. At most about 2,000 bytes, encoded or in memory: 200 MB for
/// 100,000 nodes of which every hour of the week is known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observations {
    /// When it stayed and when it went.
    pub sessions: Sessions,
    /// The way to it.
    pub network: Network,
    /// What became of its tasks.
    pub results: Results,
    /// Measured rates, by model, ordered by digest; at most [`RATED_MODELS_MAX`].
    pub rates: Vec<(ModelDigest, Rates)>,
    /// Memory that it lends, in mebibytes; 0: not measured.
    pub memory_mib: u32,
}

/// Observations that cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ObservationsError {
    /// Too many bins, out of order, or of an hour that no week has.
    #[error("its sessions are not by ascending hours of one week")]
    Hours,
    /// Too many models, or out of order.
    #[error("its rates are not by ascending models, at most {RATED_MODELS_MAX}")]
    Models,
    /// More lost than sent.
    #[error("its network loses more than everything")]
    Loss,
}

impl Observations {
    /// Whether they are in the one form in which they may be agreed on.
    pub fn check(&self) -> Result<(), ObservationsError> {
        self.sessions.check()?;
        self.network.check()?;
        let ascending = self.rates.windows(2).all(|pair| pair[0].0 < pair[1].0);
        if self.rates.len() > RATED_MODELS_MAX || !ascending { Err(ObservationsError::Models) } else { Ok(()) }
    }

    /// What was measured with this model.
    pub fn rates(&self, model: ModelDigest) -> Option<&Rates> {
        let at = self.rates.binary_search_by_key(&model, |(model, _)| *model).ok()?;
        Some(&self.rates[at].1)
    }

    /// Keeps a measurement. Beyond [`RATED_MODELS_MAX`] models the new one is not kept.
    pub fn set_rates(&mut self, model: ModelDigest, rates: Rates) {
        match self.rates.binary_search_by_key(&model, |(model, _)| *model) {
            Ok(at) => self.rates[at].1 = rates,
            Err(at) if self.rates.len() < RATED_MODELS_MAX => self.rates.insert(at, (model, rates)),
            Err(_) => {}
        }
    }

    /// One epoch passes: counts fade. Measurements stay until they are measured again.
    pub fn decay(&mut self) {
        self.sessions.decay();
        self.network.decay();
        self.results.decay();
    }

    /// Adds what somebody else observed of the same node in the same epochs; of measurements the lower is believed.
    pub fn merge(&mut self, other: &Self) {
        self.sessions.merge(&other.sessions);
        self.network.merge(&other.network);
        self.results.merge(&other.results);
        self.memory_mib = match (self.memory_mib, other.memory_mib) {
            (0, known) | (known, 0) => known,
            (one, two) => one.min(two),
        };
        for (model, rates) in &other.rates {
            let merged = self.rates(*model).map_or(*rates, |own| own.lower(rates));
            self.set_rates(*model, merged);
        }
    }
}

/// What is left of a count after one epoch in which it loses one part in `parts`, rounded up: it does reach zero.
fn faded(count: u32, parts: u32) -> u32 {
    count - count.div_ceil(parts)
}
