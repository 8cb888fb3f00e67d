//! Every way to learn of input on Linux at once; the latest counts. Displays and buses are asked by threads of their own,
//! which may wait for a server that hangs: a source that has said nothing for a while counts as missing.

mod bus;
mod wayland;
mod x11;

use super::{PresenceSensor, terminals::Terminals};
use crate::readings::{LastInput, Missing};
use protocol::time::unix_ms;
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant, SystemTime},
};

/// A source that failed is tried again after this long: displays come and go.
const RETRY_AFTER: Duration = Duration::from_secs(10);
/// How often sources look that cannot wait for a message. Well below the quarter of a second in which a return is to be
/// noticed.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Longest wait for the first looks: who sits at the machine should not have it lent for a moment.
const FIRST_LOOKS_MAX: Duration = Duration::from_millis(500);
/// A source that looks on its own and has been silent for this long hangs.
const SILENCE_MAX: Duration = Duration::from_secs(5);

pub(super) struct Everywhere {
    terminals: Terminals,
    sources: Vec<Source>,
    /// The latest input that any of them has told of: what a source said stays true when it goes away.
    latest_unix_ms: Option<u64>,
}

/// What one source knows.
#[derive(Debug, Clone)]
enum Known {
    /// Not yet asked.
    Nothing,
    /// In use this moment, until it says otherwise.
    Active,
    /// Last used at this time, in milliseconds since 1970.
    Since(u64),
    /// Somebody is logged in to a graphical session that does not say when it was last used.
    Unreadable,
    /// Nobody is logged in there.
    Nobody,
    /// Not there.
    Missing(String),
}

/// Where a source puts what it knows.
#[derive(Clone)]
struct Slot(Arc<Mutex<(Known, Instant)>>);

impl Slot {
    fn set(&self, known: Known) {
        // A panic of the holder leaves a whole value behind.
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (known, Instant::now());
    }

    fn get(&self) -> (Known, Instant) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

struct Source {
    name: &'static str,
    slot: Slot,
    /// Whether it looks on its own, so that silence means that it hangs.
    looks: bool,
}

impl Everywhere {
    pub(super) fn start() -> Self {
        let sources = vec![
            Source::start("logind", true, bus::sessions),
            Source::start("GNOME", true, bus::mutter),
            Source::start("X11", true, x11::watch),
            Source::start("Wayland", false, wayland::watch),
        ];
        let start = Instant::now();
        while start.elapsed() < FIRST_LOOKS_MAX && sources.iter().any(|source| matches!(source.known(), Known::Nothing))
        {
            thread::sleep(Duration::from_millis(5));
        }
        Self { terminals: Terminals::new(), sources, latest_unix_ms: None }
    }
}

impl Source {
    /// Watches in a thread of its own for as long as anybody reads the slot.
    fn start(name: &'static str, looks: bool, watch: fn(&Slot) -> Result<(), Missing>) -> Self {
        let slot = Slot(Arc::new(Mutex::new((Known::Nothing, Instant::now()))));
        let own = slot.clone();
        let watching = move || {
            while own.is_read() {
                // A library that panics over a strange message must not take this source away for good.
                let result = catch_unwind(AssertUnwindSafe(|| watch(&own)));
                match result {
                    Ok(Ok(())) => return,
                    Ok(Err(Missing(why))) => own.set(Known::Missing(why)),
                    Err(_) => own.set(Known::Missing("it sent what could not be read".to_owned())),
                }
                own.pause(RETRY_AFTER);
            }
        };
        if let Err(error) = thread::Builder::new().name(format!("owner {name}")).spawn(watching) {
            slot.set(Known::Missing(format!("no thread: {error}")));
        }
        Self { name, slot, looks }
    }

    fn known(&self) -> Known {
        match self.slot.get() {
            (Known::Missing(why), _) => Known::Missing(why),
            (_, at) if self.looks && at.elapsed() > SILENCE_MAX => Known::Missing("it does not answer".to_owned()),
            (known, _) => known,
        }
    }
}

impl Slot {
    /// Whether anybody is left to read it.
    fn is_read(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    /// Waits, and ends early where nobody is left.
    fn pause(&self, time: Duration) {
        let end = Instant::now() + time;
        while self.is_read() && Instant::now() < end {
            thread::sleep(LOOK_EVERY);
        }
    }
}

impl PresenceSensor for Everywhere {
    fn last_input(&mut self) -> Result<LastInput, Missing> {
        let known: Vec<(&str, Known)> = self.sources.iter().map(|source| (source.name, source.known())).collect();
        let now_unix_ms = unix_ms(SystemTime::now());
        // A clock that was set back must not make an input of the future.
        let before =
            self.latest_unix_ms.max(self.terminals.last_input_unix_ms(now_unix_ms)).map(|at| at.min(now_unix_ms));
        let found = combine(&known, before, now_unix_ms);
        if let Ok(LastInput::At(unix_ms)) = &found {
            self.latest_unix_ms = Some(*unix_ms);
        }
        found
    }
}

/// The latest input of any source.
fn combine(sources: &[(&str, Known)], before: Option<u64>, now_unix_ms: u64) -> Result<LastInput, Missing> {
    let at = sources.iter().filter_map(|(_, known)| match known {
        Known::Active => Some(now_unix_ms),
        Known::Since(unix_ms) => Some(*unix_ms),
        _ => None,
    });
    let graphical = at.max();
    let why = || {
        let missing = sources.iter().filter_map(|(name, known)| match known {
            Known::Missing(why) => Some(format!("{name}: {why}")),
            _ => None,
        });
        missing.collect::<Vec<_>>().join("; ")
    };
    if graphical.is_none() && sources.iter().any(|(_, known)| matches!(known, Known::Unreadable)) {
        return Ok(LastInput::Unreadable {
            why: format!("a graphical session does not tell its last input ({})", why()),
        });
    }
    let is_known = sources.iter().any(|(_, known)| matches!(known, Known::Nobody));
    match graphical.max(before) {
        Some(unix_ms) => Ok(LastInput::At(unix_ms)),
        None if is_known => Ok(LastInput::Never),
        // The first looks are still under way.
        None if sources.iter().any(|(_, known)| matches!(known, Known::Nothing)) => Ok(LastInput::Never),
        None => Err(Missing(format!("no display, no terminal ({})", why()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing() -> Known {
        Known::Missing("not there".to_owned())
    }

    #[test]
    fn the_latest_input_counts_and_missing_sources_do_not() {
        let sources = [("one", missing()), ("two", Known::Since(5)), ("three", Known::Nothing)];
        assert_eq!(combine(&sources, Some(3), 10), Ok(LastInput::At(5)));
        assert_eq!(combine(&sources, Some(7), 10), Ok(LastInput::At(7)));
        assert_eq!(combine(&[("one", Known::Active)], Some(7), 10), Ok(LastInput::At(10)));
    }

    #[test]
    fn a_headless_machine_says_that_it_has_no_sensor() {
        let error = combine(&[("X11", missing())], None, 10).unwrap_err();
        assert!(error.0.contains("X11: not there"));
        assert_eq!(combine(&[("logind", Known::Nobody)], None, 10), Ok(LastInput::Never));
    }

    #[test]
    fn a_session_that_nobody_can_read_is_not_taken_for_idle() {
        let sources = [("logind", Known::Unreadable), ("X11", missing())];
        assert!(matches!(combine(&sources, Some(3), 10), Ok(LastInput::Unreadable { .. })));
        let sources = [("logind", Known::Unreadable), ("X11", Known::Since(4))];
        assert_eq!(combine(&sources, None, 10), Ok(LastInput::At(4)));
    }

    #[test]
    fn every_source_answers_here_or_says_why_not() {
        let mut sensor = Everywhere::start();
        let start = Instant::now();
        while sensor.sources.iter().any(|source| matches!(source.known(), Known::Nothing)) {
            assert!(start.elapsed() < Duration::from_secs(30));
            thread::yield_now();
        }
        // Found or missing: either is an answer, and neither is a panic.
        let _ = sensor.last_input();
    }
}
