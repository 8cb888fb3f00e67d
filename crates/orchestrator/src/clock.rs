use scheduler::Now;
use std::time::{Duration, Instant, SystemTime};

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
    protocol::time::unix_ms(SystemTime::now())
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
