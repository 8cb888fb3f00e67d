//! What a client may do twice: retries of what failed, and second nodes beside one that is late. Without a bound, an
//! overloaded pool would be asked more the less it can do.

use scheduler::Budget;
use std::{
    sync::{Mutex, MutexGuard},
    time::Instant,
};

/// What one client may do twice.
pub(crate) struct SecondTries {
    begin: Instant,
    retries: Mutex<Budget>,
    hedges: Mutex<Budget>,
}

impl Default for SecondTries {
    fn default() -> Self {
        Self { begin: Instant::now(), retries: Mutex::new(Budget::retries()), hedges: Mutex::new(Budget::hedges()) }
    }
}

impl SecondTries {
    /// A task begins: it pays for a share of a retry and of a hedge.
    pub(crate) fn note_task(&self) {
        lock(&self.retries).deposit();
        lock(&self.hedges).deposit();
    }

    /// Whether something that failed, or seems to have, may be done again.
    pub(crate) fn may_retry(&self) -> bool {
        lock(&self.retries).withdraw(self.now_ms())
    }

    /// Whether a second node may be asked beside one that lives.
    pub(crate) fn may_hedge(&self) -> bool {
        lock(&self.hedges).withdraw(self.now_ms())
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.begin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

fn lock(budget: &Mutex<Budget>) -> MutexGuard<'_, Budget> {
    budget.lock().expect("no holder of this lock panics")
}
