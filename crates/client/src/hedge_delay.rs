//! How long first tokens have taken lately, and from when one is late enough for a second node beside the first.
//!
//! A hedge at the 95th percentile of the latency costs a few per cent more work and cuts the tail (Dean and Barroso,
//! "The Tail at Scale", CACM 56(2), 2013). The node's own expectation is the better guess where it is known, because
//! prompts differ; the percentile keeps a wrong expectation from hedging everything.

use std::{collections::VecDeque, sync::Mutex, time::Duration};

/// First tokens that are remembered.
const REMEMBERED: usize = 128;
/// Fewer say nothing about a 95th percentile.
const KNOWN_MIN: usize = 20;
/// Added to what was expected: two round trips across an ocean.
const MARGIN: Duration = Duration::from_millis(250);
/// The least where nothing was expected.
const UNKNOWN_MIN: Duration = Duration::from_secs(1);
/// The most: from then on the node is late by any measure.
const HEDGE_MAX: Duration = Duration::from_secs(10);

/// The first tokens of one client, and the delay that follows from them.
#[derive(Default)]
pub(crate) struct HedgeDelay {
    latest: Mutex<VecDeque<Duration>>,
}

impl HedgeDelay {
    /// Notes one.
    pub(crate) fn note(&self, took: Duration) {
        let mut latest = self.latest.lock().expect("no holder of this lock panics");
        if latest.len() == REMEMBERED {
            latest.pop_front();
        }
        latest.push_back(took);
    }

    /// How long a first token may take before a second node is asked; `expected_ms` 0: unknown.
    ///
    /// Twice what was expected and 250 ms, but not less than the 95th percentile of this client. Where nothing was
    /// expected: twice the percentile, at least 1 s. At most 10 s.
    pub(crate) fn hedge_after(&self, expected_ms: u32) -> Duration {
        let usual = self.percentile_95();
        let after = match expected_ms {
            0 => usual.map_or(UNKNOWN_MIN, |usual| (usual * 2).max(UNKNOWN_MIN)),
            known => (Duration::from_millis(known.into()) * 2 + MARGIN).max(usual.unwrap_or_default()),
        };
        after.min(HEDGE_MAX)
    }

    fn percentile_95(&self) -> Option<Duration> {
        let mut latest: Vec<Duration> =
            self.latest.lock().expect("no holder of this lock panics").iter().copied().collect();
        if latest.len() < KNOWN_MIN {
            return None;
        }
        let at = latest.len() * 95 / 100;
        Some(*latest.select_nth_unstable(at).1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_expected_counts_within_what_is_usual() {
        let ms = Duration::from_millis;
        let hedge_delay = HedgeDelay::default();
        assert_eq!(hedge_delay.hedge_after(0), ms(1_000));
        assert_eq!(hedge_delay.hedge_after(100), ms(450));
        for number in 1..=100 {
            hedge_delay.note(ms(10 * number));
        }
        assert_eq!(hedge_delay.hedge_after(100), ms(960), "not before what 95 of 100 took");
        assert_eq!(hedge_delay.hedge_after(2_000), ms(4_250));
        assert_eq!(hedge_delay.hedge_after(0), ms(1_920));
        assert_eq!(hedge_delay.hedge_after(u32::MAX), HEDGE_MAX);
    }
}
