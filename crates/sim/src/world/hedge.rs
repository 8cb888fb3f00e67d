//! When a first token is late: the client's rule, in simulated time.

use crate::time::Micros;
use std::time::Duration;

/// How long first tokens took lately.
#[derive(Debug, Default)]
pub(super) struct FirstTokens(scheduler::FirstTokens);

impl FirstTokens {
    pub(super) fn note(&mut self, took: Micros) {
        self.0.note(Duration::from_micros(took));
    }

    /// How long to wait before a second node is asked.
    pub(super) fn late_after(&self, expected: Option<Micros>) -> Micros {
        let after = self.0.late_after(expected.map(Duration::from_micros));
        Micros::try_from(after.as_micros()).expect("it is bounded by seconds")
    }
}
