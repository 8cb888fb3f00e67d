//! Real pools for tests: real processes, real sockets, the real worker and sandbox.
//!
//! A [`Daemon`] is one `darkbloom` process in a home of its own. What a test needs beyond that is a client ([`http`]), a
//! view into processes (`memory`) and onto the wire (`capture`), both on Linux. The deterministic engine
//! ([`DeterministicEngine`]) is the one thing here that is not real; it lives in this crate, which no shipped program
//! depends on.
//!
//! The programs are those of the release profile, built before the tests run.

#[cfg(target_os = "linux")]
pub mod capture;
pub mod committee;
pub mod crowd;
pub mod daemon;
mod deterministic;
mod dice;
pub mod hostile;
pub mod http;
pub mod load;
pub mod machines;
#[cfg(target_os = "linux")]
pub mod memory;
pub mod money;
#[cfg(target_os = "linux")]
pub mod network;
pub mod pool_link;
mod undisturbed;

pub use daemon::{Daemon, Home, program, real_model};
pub use deterministic::{DeterministicEngine, DeterministicModel};
pub use dice::Dice;
pub use machines::{Blow, Machine};
pub use undisturbed::undisturbed;

use std::time::{Duration, Instant};

/// Looks again and again until `condition` gives a value, and returns it with the time that it took.
///
/// # Panics
/// If it gives none within `limit`; the message says what was waited for.
pub async fn eventually<T>(
    what: &str,
    limit: Duration,
    mut condition: impl AsyncFnMut() -> Option<T>,
) -> (T, Duration) {
    let start = Instant::now();
    loop {
        if let Some(value) = condition().await {
            return (value, start.elapsed());
        }
        assert!(start.elapsed() < limit, "{what}: not within {limit:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
