//! Pauses between attempts to reach a machine that may be down, by many who try it.

use std::time::Duration;

/// The pauses of one machine that tries again and again: each about twice as long as the one before, up to a bound, and
/// none equal to another machine's.
#[derive(Debug, Clone)]
pub struct Backoff {
    next: Duration,
}

impl Backoff {
    /// About the first pause.
    pub const MIN: Duration = Duration::from_millis(200);
    /// About the longest.
    pub const MAX: Duration = Duration::from_secs(5);

    /// How long to wait now.
    pub fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(Self::MAX);
        jittered(pause)
    }

    /// It was reached: what comes next begins anew.
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: Self::MIN }
    }
}

/// A pause before the next attempt: between half and one and a half times `duration`, so that a pool does not come back
/// all at once.
pub fn jittered(duration: Duration) -> Duration {
    let mut bytes = [0; 2];
    getrandom::fill(&mut bytes).expect("the operating system has a random source");
    duration.mul_f64(0.5 + f64::from(u16::from_le_bytes(bytes)) / f64::from(u16::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_begin_anew() {
        let mut backoff = Backoff::default();
        let mut about = Backoff::MIN;
        for _ in 0..12 {
            let pause = backoff.pause();
            assert!((about / 2..=about * 3 / 2).contains(&pause), "{pause:?} is not about {about:?}");
            about = (about * 2).min(Backoff::MAX);
        }
        assert_eq!(about, Backoff::MAX);
        backoff.reset();
        assert!(backoff.pause() <= Backoff::MIN * 3 / 2);
    }

    #[test]
    fn no_two_machines_wait_alike() {
        let pauses: std::collections::BTreeSet<_> = (0..64).map(|_| jittered(Backoff::MAX)).collect();
        assert!(pauses.len() > 32, "of 64 pauses only {} differ", pauses.len());
    }
}
