//! What became of a node's tasks.

use super::faded;
use serde::{Deserialize, Serialize};

const ONE_MILLI: u32 = 1000;
/// A result of users' tasks is remembered for about half a day.
const FADES_IN_EPOCHS: u32 = 12;
/// A canary is remembered for about a week: they are rarer, and a failed one is no accident.
const CANARY_FADES_IN_EPOCHS: u32 = 168;

/// Counts of results in thousandths, fading.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Results {
    /// Answers that were complete.
    pub valid_milli: u32,
    /// Tasks that it failed by a fault of its own; its owner's return is none.
    pub invalid_milli: u32,
    /// Canaries whose log-probabilities were the model's.
    pub canaries_passed_milli: u32,
    /// Canaries whose were not.
    pub canaries_failed_milli: u32,
}

impl Results {
    /// Notes the result of a user's task.
    pub fn note(&mut self, valid: bool) {
        let count = if valid { &mut self.valid_milli } else { &mut self.invalid_milli };
        *count = count.saturating_add(ONE_MILLI);
    }

    /// Notes the result of a canary.
    pub fn note_canary(&mut self, passed: bool) {
        let count = if passed { &mut self.canaries_passed_milli } else { &mut self.canaries_failed_milli };
        *count = count.saturating_add(ONE_MILLI);
    }

    /// Canaries passed lately, whole ones, rounded to the nearest.
    pub fn canaries_passed(&self) -> u32 {
        self.canaries_passed_milli.saturating_add(ONE_MILLI / 2) / ONE_MILLI
    }

    pub(super) fn decay(&mut self) {
        self.valid_milli = faded(self.valid_milli, FADES_IN_EPOCHS);
        self.invalid_milli = faded(self.invalid_milli, FADES_IN_EPOCHS);
        self.canaries_passed_milli = faded(self.canaries_passed_milli, CANARY_FADES_IN_EPOCHS);
        self.canaries_failed_milli = faded(self.canaries_failed_milli, CANARY_FADES_IN_EPOCHS);
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.valid_milli = self.valid_milli.saturating_add(other.valid_milli);
        self.invalid_milli = self.invalid_milli.saturating_add(other.invalid_milli);
        self.canaries_passed_milli = self.canaries_passed_milli.saturating_add(other.canaries_passed_milli);
        self.canaries_failed_milli = self.canaries_failed_milli.saturating_add(other.canaries_failed_milli);
    }
}
