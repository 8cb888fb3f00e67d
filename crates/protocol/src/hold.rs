//! Why a node gets no work: one list of reasons from the gate to `status`.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Why a node gets no work (promise P10): one code, one sentence, one remedy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Hold {
    /// Its worker is starting or loading the model.
    Starting,
    /// It serves other models.
    OtherModel,
    /// All its places are taken.
    Full {
        /// How many it has.
        slots: u32,
    },
    /// It said goodbye.
    Left,
    /// It finishes what it has and takes no more.
    Draining,
    /// It did not answer when it should have.
    Unresponsive,
    /// Its worker died and is restarted.
    WorkerDown {
        /// What the node says about it.
        why: String,
    },
    /// Its evidence has run out.
    EvidenceExpired,
    /// Less than the tier that was asked for.
    BelowTier,
    /// Outside the locality that was asked for.
    OutsideLocality,
    /// It has failed this task already.
    Excluded,
    /// What it says of itself does not hold.
    Refused {
        /// What does not hold.
        why: String,
    },
}

impl Hold {
    /// For programs: stable, in kebab case.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::OtherModel => "other-model",
            Self::Full { .. } => "full",
            Self::Left => "left",
            Self::Draining => "draining",
            Self::Unresponsive => "unresponsive",
            Self::WorkerDown { .. } => "worker-down",
            Self::EvidenceExpired => "evidence-expired",
            Self::BelowTier => "below-tier",
            Self::OutsideLocality => "outside-locality",
            Self::Excluded => "excluded",
            Self::Refused { .. } => "refused",
        }
    }

    /// What its owner can do about it, where something can be done.
    pub fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::Left | Self::Unresponsive => Some("start it again with `darkbloom join` on that machine"),
            Self::WorkerDown { .. } | Self::Refused { .. } => Some("run `darkbloom doctor` on that machine"),
            Self::EvidenceExpired => Some("check the clock of that machine"),
            Self::Full { .. } => Some("lend another machine with `darkbloom join`"),
            _ => None,
        }
    }
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting => f.write_str("its worker is loading the model"),
            Self::OtherModel => f.write_str("it does not serve this model"),
            Self::Full { slots } => write!(f, "all {slots} places are taken"),
            Self::Left => f.write_str("it said goodbye"),
            Self::Draining => f.write_str("it is draining"),
            Self::Unresponsive => f.write_str("it stopped answering"),
            Self::WorkerDown { why } => write!(f, "its worker is down: {why}"),
            Self::EvidenceExpired => f.write_str("its evidence has expired"),
            Self::BelowTier => f.write_str("its trust tier is below the policy's"),
            Self::OutsideLocality => f.write_str("it is outside the policy's locality"),
            Self::Excluded => f.write_str("it has failed this task already"),
            Self::Refused { why } => write!(f, "what it says of itself does not hold: {why}"),
        }
    }
}
