use scheduler::Now;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The one place that reads clocks.
#[derive(Debug)]
pub(crate) struct Clock {
    started: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { started: instant() }
    }

    pub(crate) fn now(&self) -> Now {
        Now { unix_ms: unix_ms(), steady_ms: millis(self.started.elapsed()) }
    }
}

/// A moment, to time something with.
pub(crate) fn instant() -> Instant {
    Instant::now()
}

pub(crate) fn unix_ms() -> u64 {
    // A clock before 1970 is as wrong as one at 1970.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, millis)
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
