//! How much of the time the worker computes: its owner may want the rest for other things, or a cooler machine.

use std::time::{Duration, Instant};

/// The share of time that may be spent computing, and the rest that is still due.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Duty {
    /// Rest for each second of work.
    rest: f64,
    rests_until: Option<Instant>,
}

impl Duty {
    /// Computes at most `percent` of the time, 1 to 100.
    pub(crate) fn of_percent(percent: u32) -> Self {
        let percent = f64::from(percent.clamp(1, 100));
        Self { rest: (100.0 - percent) / percent, rests_until: None }
    }

    /// After work from `begin` to `end`: the rest that is due follows at once.
    pub(crate) fn worked(&mut self, begin: Instant, end: Instant) {
        let rest = end.saturating_duration_since(begin).as_secs_f64() * self.rest;
        // More than there are seconds to come would be a step of years.
        let rest = Duration::try_from_secs_f64(rest).unwrap_or(Duration::MAX);
        self.rests_until = if rest.is_zero() { None } else { end.checked_add(rest) };
    }

    /// Until when it rests; `None`: it may work at `now`.
    pub(crate) fn rests_until(&self, now: Instant) -> Option<Instant> {
        self.rests_until.filter(|until| *until > now)
    }
}

#[cfg(test)]
impl Duty {
    /// One step, and then rest for as good as ever.
    pub(crate) fn of_one_step() -> Self {
        Self { rest: 1e12, rests_until: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::iter;

    #[test]
    fn the_share_is_kept_whatever_the_steps_take() {
        for percent in [1u32, 10, 25, 50, 99, 100] {
            let mut duty = Duty::of_percent(percent);
            let begin = Instant::now();
            let (mut now, mut busy) = (begin, Duration::ZERO);
            let steps = (1..200u64).map(|step| Duration::from_micros(step * step * 7 % 50_000 + 1));
            for (step, idle) in steps.zip(iter::repeat(Duration::from_micros(3))) {
                duty.worked(now, now + step);
                (now, busy) = (now + step, busy + step);
                now = duty.rests_until(now).unwrap_or(now);
                assert!(duty.rests_until(now).is_none(), "the rest is over");
                now += if percent == 100 { Duration::ZERO } else { idle };
            }
            let share = busy.as_secs_f64() / (now - begin).as_secs_f64() * 100.0;
            assert!(share <= f64::from(percent) * 1.000_01, "{percent}: {share}");
            assert!(share > f64::from(percent) * 0.97, "{percent}: {share}");
        }
    }

    #[test]
    fn full_duty_never_rests() {
        let mut duty = Duty::of_percent(100);
        let now = Instant::now();
        duty.worked(now, now + Duration::from_secs(5));
        assert_eq!(duty.rests_until(now), None);
    }
}
