//! From when a first token is late enough for a second node beside the first.
//!
//! A hedge at the 95th percentile of the latency costs a few per cent more work and cuts the tail (Dean and Barroso,
//! "The Tail at Scale", CACM 56(2), 2013). The node's own expectation is the better guess where it is known, because
//! prompts differ; the percentile keeps a wrong expectation from hedging everything.

use std::{collections::VecDeque, time::Duration};

/// First tokens that are remembered.
const REMEMBERED: usize = 128;
/// Fewer say nothing about a 95th percentile.
const KNOWN_MIN: usize = 20;
/// Added to what was expected: two round trips across an ocean.
const MARGIN: Duration = Duration::from_millis(250);
/// The least where nothing was expected.
const UNKNOWN_MIN: Duration = Duration::from_secs(1);
/// Where less was expected, a node is late by any measure from then on.
const LATE_MAX: Duration = Duration::from_secs(10);
/// The most, whatever was expected.
const EXPECTED_MAX: Duration = Duration::from_secs(120);

/// How long the first tokens of one client have taken lately.
#[derive(Debug, Clone, Default)]
pub struct FirstTokens {
    latest: VecDeque<Duration>,
    // The same, shortest first, so that every question is cheap.
    sorted: Vec<Duration>,
}

impl FirstTokens {
    /// Notes one.
    pub fn note(&mut self, took: Duration) {
        if self.latest.len() == REMEMBERED
            && let Some(oldest) = self.latest.pop_front()
        {
            let at = self.sorted.partition_point(|other| *other < oldest);
            self.sorted.remove(at);
        }
        self.latest.push_back(took);
        let at = self.sorted.partition_point(|other| *other < took);
        self.sorted.insert(at, took);
    }

    /// How long a first token may take before a second node is asked.
    ///
    /// Twice what was expected and 250 ms, but not less than the 95th percentile of this client. Where nothing was
    /// expected: twice the percentile, at least 1 s. What is usual excuses 10 s at most; a long prompt on a slow machine
    /// that was expected to take longer is not read sooner by reading it twice.
    pub fn late_after(&self, expected: Option<Duration>) -> Duration {
        let usual = self.percentile_95().unwrap_or_default();
        match expected {
            None => usual.saturating_mul(2).max(UNKNOWN_MIN).min(LATE_MAX),
            Some(expected) => {
                expected.saturating_mul(2).saturating_add(MARGIN).max(usual.min(LATE_MAX)).min(EXPECTED_MAX)
            }
        }
    }

    fn percentile_95(&self) -> Option<Duration> {
        (self.sorted.len() >= KNOWN_MIN).then(|| self.sorted[self.sorted.len() * 95 / 100])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*};

    #[test]
    fn what_was_expected_counts_within_what_is_usual() {
        let ms = Duration::from_millis;
        let mut first_tokens = FirstTokens::default();
        assert_eq!(first_tokens.late_after(None), ms(1_000));
        assert_eq!(first_tokens.late_after(Some(ms(100))), ms(450));
        for number in 1..=96 {
            first_tokens.note(ms(10 * number));
        }
        assert_eq!(first_tokens.late_after(Some(ms(100))), ms(920), "not before what 95 of 100 took");
        assert_eq!(first_tokens.late_after(Some(ms(2_000))), ms(4_250));
        assert_eq!(first_tokens.late_after(None), ms(1_840));
        assert_eq!(first_tokens.late_after(Some(ms(30_000))), ms(60_250), "it was expected to take that long");
        assert_eq!(first_tokens.late_after(Some(Duration::MAX)), EXPECTED_MAX);
    }

    proptest! {
        #[test]
        fn the_percentile_is_that_of_the_latest(times in vec(0u64..50, 0..400)) {
            let mut first_tokens = FirstTokens::default();
            times.iter().for_each(|ms| first_tokens.note(Duration::from_millis(*ms)));
            let mut latest = times[times.len().saturating_sub(REMEMBERED)..].to_vec();
            latest.sort_unstable();
            let known = (latest.len() >= KNOWN_MIN).then(|| Duration::from_millis(latest[latest.len() * 95 / 100]));
            prop_assert_eq!(first_tokens.percentile_95(), known);
        }
    }
}
