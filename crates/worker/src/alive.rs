//! Signs of life while tasks are in the worker, from a thread of their own: a step that takes long is no silence, a
//! process that does not run is.

use crate::{inbox::Inbox, outbox::Outbox};
use protocol::{ipc::FromWorker, stream::KEEP_ALIVE_MS};
use std::time::Duration;

/// How often.
pub(crate) const PERIOD: Duration = Duration::from_millis(KEEP_ALIVE_MS);

/// Says [`FromWorker::Alive`] in every period in which a task waits or runs. An idle worker wakes up nobody. Ends with the
/// daemon.
pub(crate) fn run(inbox: &Inbox, outbox: &Outbox, period: Duration) {
    loop {
        inbox.wait_occupied();
        // The daemon has just heard of the task that came, from itself.
        if inbox.wait_vacant(period) {
            continue;
        }
        outbox.put(&FromWorker::Alive);
        if outbox.flush().is_err() {
            // The engine's thread sees it too, and ends the process.
            return;
        }
    }
}
