//! Sensors and rules, joined: who lends the machine is told at once when the verdict changes.

use crate::{
    Readings, Verdict,
    rules::{self, History},
    sensors,
    settings::LendSettings,
};
use jiff::Zoned;
use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

/// A return is to be noticed within a quarter of a second.
const QUICK_EVERY: Duration = Duration::from_millis(100);
/// Heat, charge and load change slowly.
const SLOW_EVERY: Duration = Duration::from_secs(3);

/// Watches the machine until it is dropped.
pub struct Watcher {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    stopped: Condvar,
}

#[derive(Default)]
struct State {
    slow: Readings,
    latest: Verdict,
    stop: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic of the holder leaves whole values behind.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits; false where it is time to end.
    fn pause(&self, time: Duration) -> bool {
        let waited = self.stopped.wait_timeout_while(self.lock(), time, |state| !state.stop);
        !waited.unwrap_or_else(PoisonError::into_inner).0.stop
    }
}

impl Watcher {
    /// Looks once at everything that answers at once, calls `tell` with the verdict before it returns, and then from a
    /// thread of its own whenever the hold changes.
    pub fn start(settings: LendSettings, mut tell: impl FnMut(&Verdict) + Send + 'static) -> Self {
        let shared = Arc::new(Shared::default());
        let (mut quick, mut slow) = sensors::of(&settings);
        let mut history = History::default();
        let slow_is_needed = slow.is_needed();
        if slow_is_needed {
            shared.lock().slow = slow.look();
        }
        let mut look = {
            let shared = Arc::clone(&shared);
            move || {
                let last_input = quick.look();
                let mut state = shared.lock();
                let readings = Readings { last_input, ..state.slow.clone() };
                let verdict = rules::verdict(&settings, &readings, &mut history, &Zoned::now());
                state.latest = verdict.clone();
                drop(state);
                verdict
            }
        };
        let mut told = look();
        tell(&told);
        spawn("owner quick", &shared, QUICK_EVERY, move || {
            let verdict = look();
            if verdict.hold != told.hold {
                tell(&verdict);
                told = verdict;
            }
        });
        if slow_is_needed {
            let own = Arc::clone(&shared);
            spawn("owner slow", &shared, SLOW_EVERY, move || {
                let readings = slow.look();
                own.lock().slow = readings;
            });
        }
        Self { shared }
    }

    /// The verdict of the last look, a tenth of a second old at most.
    pub fn latest(&self) -> Verdict {
        self.shared.lock().latest.clone()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.stopped.notify_all();
    }
}

fn spawn(name: &str, shared: &Arc<Shared>, every: Duration, mut work: impl FnMut() + Send + 'static) {
    let own = Arc::clone(shared);
    let run = move || {
        while own.pause(every) {
            work();
        }
    };
    if let Err(error) = thread::Builder::new().name(name.to_owned()).spawn(run) {
        tracing::error!(%error, "the owner's rules are not watched: no thread");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Presence;
    use std::{sync::mpsc, time::Instant};

    const PATIENCE: Duration = Duration::from_secs(20);

    fn by_file(path: &std::path::Path, idle_s: u32) -> LendSettings {
        LendSettings { presence: Presence::File(path.to_owned()), idle_s, ..LendSettings::always() }
    }

    #[test]
    fn a_touch_is_told_and_its_end_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("input");
        let (sender, verdicts) = mpsc::channel();
        let watcher = Watcher::start(by_file(&path, 1), move |verdict| {
            // The test may have ended.
            let _ = sender.send(verdict.clone());
        });
        assert_eq!(verdicts.recv_timeout(PATIENCE).unwrap().hold, None, "told before it starts");
        std::fs::write(&path, "").unwrap();
        let touched = Instant::now();
        assert!(verdicts.recv_timeout(PATIENCE).unwrap().hold.is_some());
        println!("a touch was told after {:?}", touched.elapsed());
        let told_again = std::iter::from_fn(|| verdicts.recv_timeout(PATIENCE).ok());
        let lifted = told_again.into_iter().find(|verdict| verdict.hold.is_none());
        assert!(lifted.is_some(), "it lifts");
        assert_eq!(watcher.latest().hold, None);
    }

    #[test]
    fn it_ends_when_it_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let (sender, verdicts) = mpsc::channel::<()>();
        let watcher = Watcher::start(by_file(&folder.path().join("input"), 1), move |_| {
            let _ = &sender;
        });
        drop(watcher);
        let end = verdicts.recv_timeout(PATIENCE);
        assert_eq!(end, Err(mpsc::RecvTimeoutError::Disconnected), "its threads drop what they held");
    }
}
