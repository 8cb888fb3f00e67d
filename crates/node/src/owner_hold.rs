//! What the owner claims back: the whole machine at once, or just no new work.

use crate::state::Shared;
use protocol::{hold::Hold, time::unix_ms};
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

/// What is told to the pool is this coarse: when somebody last touched a key is nobody's business.
const PUBLIC_MS: u64 = 60_000;

/// The owner's claims. Several can stand at once.
#[derive(Debug, Default)]
pub(crate) struct OwnerHold {
    /// The process ends.
    ending: bool,
    /// What runs may finish.
    draining: bool,
    paused: Option<Paused>,
    /// A rule of the owner's is broken.
    rule: Option<Hold>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Paused {
    until_unix_ms: Option<u64>,
}

impl OwnerHold {
    /// Why no work is taken, if so.
    pub(crate) fn hold(&self) -> Option<Hold> {
        if self.ending {
            return Some(Hold::Draining);
        }
        if let Some(Paused { until_unix_ms }) = self.paused {
            return Some(Hold::Paused { until_unix_ms });
        }
        self.rule.clone().or_else(|| self.draining.then_some(Hold::Draining))
    }

    /// Whether the machine is to be free now: no worker, whatever it does.
    pub(crate) fn is_whole(&self) -> bool {
        self.paused.is_some() || self.rule.is_some()
    }

    /// Whether tasks that end without an answer are handed back, rather than lost.
    pub(crate) fn hands_back(&self) -> bool {
        self.ending || self.is_whole()
    }

    pub(crate) fn end(&mut self) {
        self.ending = true;
    }
}

/// A hold as the pool may know it.
pub(crate) fn public(hold: Hold) -> Hold {
    let coarse = |unix_ms: u64| unix_ms.div_ceil(PUBLIC_MS).saturating_mul(PUBLIC_MS);
    match hold {
        Hold::Owner { rule, lifts_unix_ms } => Hold::Owner { rule, lifts_unix_ms: lifts_unix_ms.map(coarse) },
        hold => hold,
    }
}

impl Shared {
    /// A rule of the owner's is broken, or none any more.
    pub(crate) fn set_rule(&self, hold: Option<Hold>) {
        let mut state = self.lock();
        let is_same = match (&state.owner.rule, &hold) {
            (Some(Hold::Owner { rule: before, .. }), Some(Hold::Owner { rule: now, .. })) => before == now,
            (before, now) => before == now,
        };
        state.owner.rule = hold;
        drop(state);
        // When it lifts changes with every key that is pressed; the next heartbeat is soon enough for that.
        if !is_same {
            self.wake();
        }
    }

    pub(crate) fn pause(self: &Arc<Self>, until_unix_ms: Option<u64>) {
        let paused = Some(Paused { until_unix_ms });
        self.update(|state| state.owner.paused = paused);
        let Some(until_unix_ms) = until_unix_ms else { return };
        let shared = Arc::downgrade(self);
        tokio::spawn(async move {
            // In steps: a machine that sleeps, or whose clock is set, must not be paused for longer than it was told.
            loop {
                let left_ms = until_unix_ms.saturating_sub(unix_ms(SystemTime::now()));
                if left_ms == 0 {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(left_ms.min(1_000))).await;
                // Ended, resumed, or paused anew.
                if shared.upgrade().is_none_or(|shared| shared.lock().owner.paused != paused) {
                    return;
                }
            }
            if let Some(shared) = shared.upgrade() {
                shared.update(|state| {
                    if state.owner.paused == paused {
                        state.owner.paused = None;
                    }
                });
            }
        });
    }

    pub(crate) fn resume(&self) {
        self.update(|state| {
            state.owner.paused = None;
            state.owner.draining = false;
        });
    }

    pub(crate) fn drain(&self) {
        self.update(|state| state.owner.draining = true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_strongest_claim_is_named() {
        let mut owner = OwnerHold { draining: true, ..OwnerHold::default() };
        assert_eq!((owner.hold(), owner.is_whole(), owner.hands_back()), (Some(Hold::Draining), false, false));
        let rule = Hold::Owner { rule: "somebody is there".to_owned(), lifts_unix_ms: None };
        owner.rule = Some(rule.clone());
        assert_eq!((owner.hold(), owner.is_whole()), (Some(rule), true));
        owner.paused = Some(Paused { until_unix_ms: Some(5) });
        assert_eq!(owner.hold(), Some(Hold::Paused { until_unix_ms: Some(5) }));
        owner.end();
        assert_eq!((owner.hold(), owner.hands_back()), (Some(Hold::Draining), true));
    }

    #[test]
    fn the_pool_learns_of_inputs_to_the_minute_only() {
        let exact = Hold::Owner { rule: "r".to_owned(), lifts_unix_ms: Some(60_001) };
        assert_eq!(public(exact), Hold::Owner { rule: "r".to_owned(), lifts_unix_ms: Some(120_000) });
    }
}
