//! From when a first token is late: [`FirstTokens`], shared by the answers of one client.

use scheduler::FirstTokens;
use std::{
    sync::{Mutex, MutexGuard},
    time::Duration,
};

/// The first tokens of one client, and the delay that follows from them.
#[derive(Default)]
pub(crate) struct HedgeDelay(Mutex<FirstTokens>);

impl HedgeDelay {
    /// Notes one.
    pub(crate) fn note(&self, took: Duration) {
        self.lock().note(took);
    }

    /// How long a first token may take before a second node is asked; `expected_ms` 0: unknown.
    pub(crate) fn hedge_after(&self, expected_ms: u32) -> Duration {
        self.lock().late_after((expected_ms > 0).then(|| Duration::from_millis(expected_ms.into())))
    }

    fn lock(&self) -> MutexGuard<'_, FirstTokens> {
        self.0.lock().expect("no holder of this lock panics")
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
        assert_eq!(hedge_delay.hedge_after(u32::MAX), ms(120_000));
    }
}
