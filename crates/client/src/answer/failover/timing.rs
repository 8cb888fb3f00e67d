//! What happens to an answer because time passes.

use super::{Ending, Failover, Flow, Lane, Purpose, Side, SourceError};
use protocol::ids::TaskId;
use std::{
    ops::ControlFlow,
    time::{Duration, Instant},
};

/// How long a resumed answer waits in an orchestrator's queue before it asks again.
pub(super) const RESUME_WAIT_MS_MAX: u32 = 5_000;
/// The first pause before another try.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// The longest before another try to go on.
pub(super) const RESUME_PAUSE_MAX: Duration = Duration::from_secs(2);
/// The longest before another try to find a node beside one that lives.
pub(super) const CHALLENGE_PAUSE_MAX: Duration = Duration::from_secs(30);
/// A failover that has nothing to wait for looks again after this.
const IDLE: Duration = Duration::from_secs(3600);

/// Pauses between tries, doubling, each with a random part so that clients that lost the same node do not come together.
pub(super) struct Backoff {
    longest: Duration,
    tries: u32,
    until: Option<Instant>,
}

impl Backoff {
    pub(super) fn up_to(longest: Duration) -> Self {
        Self { longest, tries: 0, until: None }
    }

    pub(super) fn wait(&mut self, now: Instant) {
        let longest = (BACKOFF_MIN * 2u32.saturating_pow(self.tries)).min(self.longest);
        let [random, ..] = TaskId::random().0;
        self.tries = (self.tries + 1).min(16);
        self.until = Some(now + longest / 2 + longest.mul_f64(f64::from(random) / 512.0));
    }

    pub(super) fn reset(&mut self) {
        *self = Self::up_to(self.longest);
    }

    /// When the next try may be made; `now` where nothing stands against it.
    fn next(&self, now: Instant) -> Instant {
        self.until.unwrap_or(now)
    }
}

impl Failover {
    /// The next moment at which [`Failover::on_time`] has something to do.
    pub(super) fn wake_at(&self) -> Instant {
        let now = Instant::now();
        let patience_ends = self.waiting_since.map(|since| since + self.shared.patience);
        let tried_again = self.current.is_none().then(|| self.current_backoff.next(now));
        let challenger_silent =
            self.challenger.as_ref().and_then(Lane::running).map(|running| running.pace.silent_at());
        [self.given_up_at(), self.challenged_at(now), patience_ends, tried_again, challenger_silent]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(now + IDLE)
    }

    /// When the current node is given up, if nothing comes.
    fn given_up_at(&self) -> Option<Instant> {
        let pace = &self.current.as_ref()?.running()?.pace;
        Some(pace.gone_at().min(pace.hopeless_at(self.shared.patience)))
    }

    /// When a challenger is wanted, if nothing comes.
    fn challenged_at(&self, now: Instant) -> Option<Instant> {
        if self.challenger.is_some() {
            return None;
        }
        let current = self.current.as_ref()?;
        let (asked, expected) = current.asked()?;
        let hedge = || asked + self.shared.hedge_delay.hedge_after(expected.first_token_ms);
        let wanted = match current.running() {
            Some(running) => {
                let late = running.pace.late_at().min(running.pace.silent_at());
                let may_hedge = !self.hedged && running.attempt.first_token().is_none();
                if may_hedge { late.min(hedge()) } else { late }
            }
            None if self.hedged => return None,
            None => hedge(),
        };
        Some(wanted.max(self.challenger_backoff.next(now.min(wanted))))
    }

    pub(super) fn on_time(&mut self, now: Instant) -> Flow {
        if self.waiting_since.is_some_and(|since| now >= since + self.shared.patience) {
            return ControlFlow::Break(Ending::Broken);
        }
        if self.challenger.as_ref().and_then(Lane::running).is_some_and(|running| now >= running.pace.silent_at()) {
            return self.lost(Side::Challenger, SourceError::Silent);
        }
        if self.given_up_at().is_some_and(|at| now >= at) {
            let pace = &self.current.as_ref().and_then(Lane::running).expect("only a node is given up").pace;
            let error = if now >= pace.gone_at() { SourceError::Silent } else { SourceError::Stalled };
            return self.lost(Side::Current, error);
        }
        if self.challenged_at(now).is_some_and(|at| now >= at) {
            self.challenge(now);
        }
        if self.current.is_none() && now >= self.current_backoff.next(now) {
            return self.resume();
        }
        ControlFlow::Continue(())
    }

    /// Seeks a node beside the current one, if the budget allows it.
    fn challenge(&mut self, now: Instant) {
        let Some(current) = &self.current else { return };
        let (node, running) = (current.node(), current.running());
        let silent = running.is_some_and(|running| now >= running.pace.silent_at());
        let begun = running.is_some_and(|running| running.attempt.first_token().is_some());
        if let Some(node) = node.filter(|_| silent && !self.reported) {
            // It may be frozen; the orchestrator looks while we look for another.
            self.reported = true;
            self.shared.notices.report(node);
        }
        if silent {
            self.waiting_since.get_or_insert(now);
        }
        self.hedged = true;
        // A node that is silent has probably failed; one that is late has not.
        let allowed = if silent { self.shared.second_tries.may_retry() } else { self.shared.second_tries.may_hedge() };
        if allowed {
            let purpose = if begun || silent { Purpose::Resume } else { Purpose::Hedge };
            self.challenger = Some(self.lane(purpose));
        } else {
            self.challenger_backoff.wait(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_bound() {
        let (mut backoff, now) = (Backoff::up_to(RESUME_PAUSE_MAX), Instant::now());
        assert_eq!(backoff.next(now), now);
        let mut longest = BACKOFF_MIN;
        for _ in 0..40 {
            backoff.wait(now);
            let pause = backoff.next(now) - now;
            assert!((longest / 2..=longest).contains(&pause), "{pause:?} of {longest:?}");
            longest = (longest * 2).min(RESUME_PAUSE_MAX);
        }
        backoff.reset();
        assert_eq!(backoff.next(now), now);
    }
}
