//! Ctrl-C and SIGTERM: the first drains, the second ends at once.

use crate::failure::Failure;
use std::io::Write;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A token that the first signal cancels.
pub fn on_signal() -> Result<CancellationToken, Failure> {
    let fail = |error| Failure::new(format!("cannot listen for signals: {error}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(fail)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(fail)?;
    let token = CancellationToken::new();
    let stop = token.clone();
    tokio::spawn(async move {
        wait(&mut interrupt, &mut terminate).await;
        stop.cancel();
        // Standard error may be a pipe whose reader has gone; ending must not depend on it.
        let _ = writeln!(std::io::stderr(), "finishing what runs; a second Ctrl-C ends at once");
        wait(&mut interrupt, &mut terminate).await;
        std::process::exit(130);
    });
    Ok(token)
}

async fn wait(interrupt: &mut tokio::signal::unix::Signal, terminate: &mut tokio::signal::unix::Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
