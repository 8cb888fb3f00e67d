//! When a node is silent, late, or hopeless: how fast it was expected to be, and how fast it has been. Pure.
//!
//! | what is seen | when | what follows |
//! |---|---|---|
//! | late | no token within [`Pace::late_at`] of the first, or of the last | a second node beside it, within the budget |
//! | silent | no sign of life for 1 s ([`SILENCE_MS_MAX`]) | the same, and the orchestrator is told |
//! | gone | no sign of life for 5 s | it is given up |
//! | hopeless | signs of life, but no token for far too long | it is given up |

use protocol::{grant::Expected, stream::SILENCE_MS_MAX};
use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// Silence after which a node is given up even where no other is found.
const GONE_AFTER: Duration = Duration::from_secs(5);
/// Gaps between frames that are remembered: a second or a few of an answer.
const GAPS: usize = 32;
/// A gap of this many usual ones is a stall. Gaps double and treble when a batch fills or a long prompt joins it.
const STALL_GAPS: u32 = 20;
/// No shorter gap is a stall.
const STALL_MIN: Duration = Duration::from_secs(3);
/// No longer gap is still none.
const STALL_MAX: Duration = Duration::from_secs(60);
/// The first token of a node that lives is not overdue before this.
const FIRST_MIN: Duration = Duration::from_secs(10);
/// A first token is overdue after this, whatever was expected.
const FIRST_MAX: Duration = Duration::from_secs(120);
/// The first token is overdue after this many times what was expected.
const FIRST_FACTOR: u32 = 4;
/// A node that was overtaken by a second one before its first token was late after this, where nothing was expected.
const OVERTAKEN_UNKNOWN: Duration = Duration::from_secs(2);
/// A prompt that takes longer to read will not be read: the largest at the slowest rate that is lent.
const FIRST_HOPELESS: Duration = Duration::from_secs(600);

/// The pace of one node in one answer.
pub(crate) struct Pace {
    expected: Expected,
    began: Instant,
    heard: Instant,
    advanced: Option<Instant>,
    gaps: VecDeque<Duration>,
}

impl Pace {
    /// From the moment at which the node was asked.
    pub(crate) fn new(expected: Expected, began: Instant) -> Self {
        Self { expected, began, heard: began, advanced: None, gaps: VecDeque::with_capacity(GAPS) }
    }

    /// A sign of life.
    pub(crate) fn heard(&mut self, now: Instant) {
        self.heard = self.heard.max(now);
    }

    /// A frame that brings the answer on.
    pub(crate) fn advance(&mut self, now: Instant) {
        if let Some(last) = self.advanced {
            if self.gaps.len() == GAPS {
                self.gaps.pop_front();
            }
            self.gaps.push_back(now.saturating_duration_since(last));
        }
        self.advanced = Some(now);
        self.heard(now);
    }

    /// The reader kept us from listening until now: the node is not to blame.
    pub(crate) fn excuse(&mut self, now: Instant) {
        self.heard(now);
        if let Some(advanced) = &mut self.advanced {
            *advanced = now;
        }
    }

    /// When it is silent.
    pub(crate) fn silent_at(&self) -> Instant {
        self.heard + Duration::from_millis(SILENCE_MS_MAX)
    }

    /// When it is gone.
    pub(crate) fn gone_at(&self) -> Instant {
        self.heard + GONE_AFTER
    }

    /// When it is late.
    pub(crate) fn late_at(&self) -> Instant {
        match self.advanced {
            Some(last) => last + self.stall(),
            None => {
                let expected = Duration::from_millis(self.expected.first_token_ms.into());
                self.began + (expected * FIRST_FACTOR).clamp(FIRST_MIN, FIRST_MAX)
            }
        }
    }

    /// When it is hopeless; `patience` is how long an answer may wait without progress.
    pub(crate) fn hopeless_at(&self, patience: Duration) -> Instant {
        match self.advanced {
            Some(last) => last + self.stall() + patience,
            None => self.began + FIRST_HOPELESS.max(patience),
        }
    }

    /// Whether a node that another has just overtaken is to blame for it: late or silent by the bounds above, or without a
    /// token for twice the time that was expected of it. Keep-alives alone must not hold an answer up for nothing.
    pub(crate) fn was_overtaken_late(&self, now: Instant) -> bool {
        let first = match self.expected.first_token_ms {
            0 => OVERTAKEN_UNKNOWN,
            known => Duration::from_millis(known.into()) * 2,
        };
        let is_tar_pit = self.advanced.is_none() && now >= self.began + first;
        is_tar_pit || now >= self.silent_at().min(self.late_at())
    }

    /// A gap as long as this is a stall.
    fn stall(&self) -> Duration {
        let expected = Duration::from_micros(self.expected.token_us.into());
        let usual = self.median_gap().unwrap_or(expected).max(expected);
        (usual * STALL_GAPS).clamp(STALL_MIN, STALL_MAX)
    }

    fn median_gap(&self) -> Option<Duration> {
        let mut gaps: Vec<Duration> = self.gaps.iter().copied().collect();
        let middle = gaps.len() / 2;
        (!gaps.is_empty()).then(|| *gaps.select_nth_unstable(middle).1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNKNOWN: Expected = Expected { first_token_ms: 0, token_us: 0 };

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn silence_counts_from_the_last_sign_of_life() {
        let begin = Instant::now();
        let mut pace = Pace::new(UNKNOWN, begin);
        assert_eq!((pace.silent_at(), pace.gone_at()), (begin + s(1), begin + s(5)));
        pace.heard(begin + s(3));
        assert_eq!((pace.silent_at(), pace.gone_at()), (begin + s(4), begin + s(8)));
        assert_eq!(pace.late_at(), begin + s(10), "signs of life are no tokens");
    }

    #[test]
    fn the_first_token_is_late_by_what_was_expected() {
        let begin = Instant::now();
        let late = |first_token_ms| Pace::new(Expected { first_token_ms, token_us: 0 }, begin).late_at() - begin;
        assert_eq!([late(0), late(5_000), late(u32::MAX)], [s(10), s(20), s(120)]);
    }

    #[test]
    fn keep_alives_without_a_token_are_no_excuse_where_another_was_faster() {
        let begin = Instant::now();
        let late_after = |first_token_ms, after| {
            let mut pace = Pace::new(Expected { first_token_ms, token_us: 0 }, begin);
            pace.heard(begin + after);
            pace.was_overtaken_late(begin + after)
        };
        assert!(!late_after(0, Duration::from_millis(1_999)) && late_after(0, s(2)));
        assert!(!late_after(3_000, Duration::from_millis(5_999)) && late_after(3_000, s(6)));
        let mut begun = Pace::new(UNKNOWN, begin);
        begun.advance(begin + s(2));
        assert!(!begun.was_overtaken_late(begin + Duration::from_millis(2_500)), "it has brought a token");
    }

    #[test]
    fn a_stall_is_measured_in_usual_gaps() {
        let begin = Instant::now();
        let mut pace = Pace::new(Expected { first_token_ms: 0, token_us: 50_000 }, begin);
        pace.advance(begin);
        assert_eq!(pace.late_at(), begin + s(3), "20 gaps of 50 ms are less than the least");
        for number in 1..100 {
            pace.advance(begin + Duration::from_millis(500 * number));
        }
        let last = begin + Duration::from_millis(500 * 99);
        assert_eq!(pace.late_at(), last + s(10), "20 gaps of 500 ms");
        assert_eq!(pace.hopeless_at(s(30)), last + s(40));
        pace.excuse(last + s(9));
        assert_eq!(pace.late_at(), last + s(19), "a slow reader is not the node's fault");
    }
}
