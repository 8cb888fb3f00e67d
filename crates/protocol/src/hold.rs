//! Why a node gets no work: one list of reasons from the gate to `status`.

use crate::pool::Label;
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
        /// How many it computes at once.
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
    /// Its owner has paused it.
    Paused {
        /// Until when, in milliseconds since 1970; `None`: until it is resumed.
        until_unix_ms: Option<u64>,
    },
    /// A rule of its owner holds it back.
    Owner {
        /// Which rule, and what was found.
        rule: String,
        /// When the rule is expected to lift, in milliseconds since 1970, where that is known.
        lifts_unix_ms: Option<u64>,
    },
    /// It failed too many tasks of users, or a try; it comes back when it passes tries.
    Ejected {
        /// How many in a row; 0: what it failed was a try.
        failures: u32,
    },
    /// It is new, and has not proven itself yet.
    Probation,
    /// It has as many tasks as an unproven node may have at once.
    Unproven,
    /// What it says of itself does not hold.
    Refused {
        /// What does not hold.
        why: String,
    },
    /// It is outside the regions that the pool's policy allows.
    OutsideRegions {
        /// Where it is, as the pool says.
        region: Option<Label>,
    },
    /// The pool's policy does not allow the model.
    ModelNotAllowed,
    /// The pool's policy wants measured workers, and this one's program is not among those that it allows.
    ProgramNotAllowed,
    /// It asks more than the asker gives.
    AboveCeiling,
    /// The asker's account cannot hold what the task may cost there.
    Unfunded {
        /// What it would have to hold, in micro-credits.
        needed_micro: u64,
        /// What it has for tasks that are not settled, in micro-credits.
        available_micro: u64,
    },
    /// Its account, or the asker's, wants nothing to do with the other.
    Blocked,
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
            Self::OutsideRegions { .. } => "outside-regions",
            Self::ModelNotAllowed => "model-not-allowed",
            Self::ProgramNotAllowed => "program-not-allowed",
            Self::Paused { .. } => "paused",
            Self::Owner { .. } => "owner",
            Self::Ejected { .. } => "ejected",
            Self::Probation => "probation",
            Self::Unproven => "unproven",
            Self::AboveCeiling => "above-ceiling",
            Self::Unfunded { .. } => "insufficient-credits",
            Self::Blocked => "blocked",
        }
    }

    /// Whether the pool's policy is the reason.
    pub fn is_of_policy(&self) -> bool {
        matches!(self, Self::OutsideRegions { .. } | Self::ModelNotAllowed | Self::ProgramNotAllowed | Self::BelowTier)
    }

    /// What its owner can do about it, where something can be done.
    pub fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::Left | Self::Unresponsive => Some("start it again with `darkbloom join` on that machine"),
            Self::WorkerDown { .. } | Self::Refused { .. } => Some("run `darkbloom doctor` on that machine"),
            Self::EvidenceExpired => Some("check the clock of that machine"),
            Self::Full { .. } => Some("lend another machine with `darkbloom join`"),
            Self::Paused { .. } => Some("run `darkbloom resume` on that machine"),
            Self::Owner { .. } => Some("the rules stand in `[lend]` of `config.toml` in the home of that machine"),
            Self::Ejected { .. } => {
                Some("run `darkbloom doctor` on that machine; it comes back by itself when it answers")
            }
            Self::OutsideRegions { .. } => Some("an administrator says where it is with `darkbloom pool label`"),
            Self::ModelNotAllowed => Some("an administrator allows models with `darkbloom pool policy --models`"),
            Self::ProgramNotAllowed => {
                Some("an administrator allows a worker's program with `darkbloom pool measurement allow`")
            }
            Self::Probation | Self::Unproven => {
                Some("none needed: it is tried now and then until it has proven itself")
            }
            Self::AboveCeiling => Some("raise `--price-max`, or `price_max` in `[client]` of `config.toml`"),
            Self::Unfunded { .. } => {
                Some("`darkbloom credits balance` shows what there is; lend a machine to earn more")
            }
            Self::Blocked => Some("`darkbloom credits unblock ACCOUNT` lets go of a block of one's own"),
            _ => None,
        }
    }
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting => f.write_str("its worker is loading the model"),
            Self::OtherModel => f.write_str("it does not serve this model"),
            Self::Full { slots } => write!(f, "all its places are taken ({slots} at once)"),
            Self::Left => f.write_str("it said goodbye"),
            Self::Draining => f.write_str("it is draining"),
            Self::Unresponsive => f.write_str("it stopped answering"),
            Self::WorkerDown { why } => write!(f, "its worker is down: {why}"),
            Self::EvidenceExpired => f.write_str("its evidence has expired"),
            Self::BelowTier => f.write_str("its trust tier is below the policy's"),
            Self::OutsideLocality => f.write_str("it is outside the policy's locality"),
            Self::Excluded => f.write_str("it has failed this task already"),
            Self::Paused { .. } => f.write_str("its owner has paused it"),
            Self::Owner { rule, .. } => write!(f, "its owner comes first: {rule}"),
            Self::Ejected { failures: 0 } => f.write_str("it failed a try"),
            Self::Ejected { failures: 1 } => f.write_str("it failed a task"),
            Self::Ejected { failures } => write!(f, "it failed {failures} tasks in a row"),
            Self::Probation => f.write_str("it is new and has not proven itself yet"),
            Self::Unproven => f.write_str("it has as many tasks as an unproven node may have"),
            Self::OutsideRegions { region: Some(region) } => {
                write!(f, "the pool's policy does not allow its region, {}", region.as_str())
            }
            Self::OutsideRegions { region: None } => {
                f.write_str("the pool's policy names regions, and its region is not known")
            }
            Self::ModelNotAllowed => f.write_str("the pool's policy does not allow this model"),
            Self::ProgramNotAllowed => f.write_str("the pool's policy does not allow its worker's program"),
            Self::AboveCeiling => f.write_str("it asks more than this client gives: raise the ceiling"),
            Self::Unfunded { needed_micro, available_micro } => write!(
                f,
                "insufficient credits: {needed_micro} micro-credits would be held, the account can hold {available_micro}"
            ),
            Self::Blocked => f.write_str("one of both accounts blocks the other"),
            Self::Refused { why } => write!(f, "what it says of itself does not hold: {why}"),
        }
    }
}
