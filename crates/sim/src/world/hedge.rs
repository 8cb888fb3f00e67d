//! When a first token is late: the client's rule.

use crate::time::{MS, Micros, SECOND};

/// First tokens that are remembered.
const REMEMBERED: usize = 128;
/// The percentile is computed again after so many.
const EVERY: usize = 16;
/// Added to what was expected.
const MARGIN: Micros = 250 * MS;
/// The most: from then on a node is late by any measure.
const LATE_MAX: Micros = 10 * SECOND;

/// How long first tokens took lately: twice the expectation and 250 ms, but not less than the 95th percentile, and at
/// most 10 s, as the client has it (Dean and Barroso, "The tail at scale", CACM 56(2), 2013).
#[derive(Debug, Default)]
pub(super) struct FirstTokens {
    latest: Vec<Micros>,
    at: usize,
    percentile_95: Option<Micros>,
}

impl FirstTokens {
    pub(super) fn note(&mut self, took: Micros) {
        if self.latest.len() < REMEMBERED {
            self.latest.push(took);
        } else {
            self.latest[self.at % REMEMBERED] = took;
        }
        self.at += 1;
        if self.at.is_multiple_of(EVERY) && self.at > EVERY {
            let mut sorted = self.latest.clone();
            let rank = sorted.len() * 95 / 100;
            self.percentile_95 = Some(*sorted.select_nth_unstable(rank).1);
        }
    }

    /// How long to wait before a second node is asked.
    pub(super) fn late_after(&self, expected: Option<Micros>) -> Micros {
        let usual = self.percentile_95;
        let after = match expected {
            None => usual.map_or(SECOND, |usual| (usual * 2).max(SECOND)),
            Some(expected) => (expected * 2 + MARGIN).max(usual.unwrap_or_default()),
        };
        after.min(LATE_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::{FirstTokens, LATE_MAX};
    use crate::time::{MS, SECOND};

    #[test]
    fn it_is_the_clients_rule() {
        let mut first_tokens = FirstTokens::default();
        assert_eq!(first_tokens.late_after(None), SECOND);
        assert_eq!(first_tokens.late_after(Some(100 * MS)), 450 * MS);
        for number in 1..=96 {
            first_tokens.note(10 * MS * number);
        }
        assert_eq!(first_tokens.late_after(Some(100 * MS)), 920 * MS, "not before what 95 of 100 took");
        assert_eq!(first_tokens.late_after(Some(u64::MAX / 4)), LATE_MAX);
    }
}
