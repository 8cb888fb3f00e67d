//! Who holds a connection, and who must give it back: idle ones close at their deadline, and make room when it is tight.

use crate::limits::Limits;
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

/// Every open connection of one listener.
#[derive(Debug)]
pub(crate) struct Connections {
    limits: Limits,
    state: Mutex<State>,
    /// The earliest deadline moved forward.
    earlier: Notify,
    /// The last connection ended.
    empty: Notify,
}

#[derive(Debug, Default)]
struct State {
    open: usize,
    next_id: u64,
    /// Connections without a request, by deadline.
    waiting: BTreeMap<(Instant, u64), CancellationToken>,
}

/// One open connection. It leaves the list when it is dropped.
#[derive(Debug)]
pub(crate) struct Connection {
    list: Arc<Connections>,
    id: u64,
    closed: CancellationToken,
    /// Its place in `waiting`; `None` while a request is in progress.
    deadline: Mutex<Option<Instant>>,
    /// Milliseconds from `since` to when a piece of an answer was handed to the socket and not asked for again yet.
    handed_over_ms: AtomicU64,
    since: Instant,
}

/// A request in progress. When it is dropped the connection waits for the next one.
#[derive(Debug)]
pub(crate) struct Busy(Arc<Connection>);

impl Connections {
    pub(crate) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self { limits, state: Mutex::default(), earlier: Notify::new(), empty: Notify::new() })
    }

    /// Enters a fresh connection, which `close` or its deadline will close. `None`: every place is taken by a request.
    pub(crate) fn admit(self: &Arc<Self>, closed: CancellationToken) -> Option<Arc<Connection>> {
        let mut state = self.state();
        if state.open >= self.limits.connections_max && !state.close_longest_waiting() {
            return None;
        }
        state.open += 1;
        state.next_id += 1;
        let id = state.next_id;
        drop(state);
        let connection = Arc::new(Connection {
            list: Arc::clone(self),
            id,
            closed,
            deadline: Mutex::new(None),
            handed_over_ms: AtomicU64::new(0),
            since: Instant::now(),
        });
        connection.wait(Instant::now() + self.limits.head_timeout);
        Some(connection)
    }

    /// Closes every connection whose deadline passes, until it is dropped.
    pub(crate) async fn close_overdue(self: Arc<Self>) {
        loop {
            let now = Instant::now();
            let next = loop {
                let mut state = self.state();
                match state.waiting.first_entry() {
                    Some(first) if first.key().0 <= now => first.remove().cancel(),
                    Some(first) => break Some(first.key().0),
                    None => break None,
                }
            };
            let earlier = self.earlier.notified();
            match next {
                Some(deadline) => tokio::select! { () = sleep_until(deadline) => {} () = earlier => {} },
                None => earlier.await,
            }
        }
    }

    /// Closes every connection that has no request in progress.
    pub(crate) fn close_waiting(&self) {
        std::mem::take(&mut self.state().waiting).into_values().for_each(|closed| closed.cancel());
    }

    /// Closes the connection that has waited longest for a request.
    pub(crate) fn close_longest_waiting(&self) {
        self.state().close_longest_waiting();
    }

    /// Returns when no connection is open.
    pub(crate) async fn drained(&self) {
        loop {
            let empty = self.empty.notified();
            if self.open() == 0 {
                return;
            }
            empty.await;
        }
    }

    pub(crate) fn open(&self) -> usize {
        self.state().open
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds this lock")
    }
}

impl State {
    fn close_longest_waiting(&mut self) -> bool {
        self.waiting.pop_first().map(|(_, closed)| closed.cancel()).is_some()
    }
}

impl Connection {
    /// A request began.
    pub(crate) fn busy(self: &Arc<Self>) -> Busy {
        let mut deadline = self.deadline();
        if let Some(deadline) = deadline.take() {
            self.list.state().waiting.remove(&(deadline, self.id));
        }
        drop(deadline);
        Busy(Arc::clone(self))
    }

    /// Cancelled when the connection must close.
    pub(crate) fn closed(&self) -> &CancellationToken {
        &self.closed
    }

    /// Whether the reader has left an answer unread for too long.
    pub(crate) fn is_stalled(&self) -> bool {
        let handed_over_ms = self.handed_over_ms.load(Ordering::Relaxed);
        handed_over_ms != 0 && self.since.elapsed().as_millis() as u64 > handed_over_ms + self.stall_ms()
    }

    fn stall_ms(&self) -> u64 {
        self.list.limits.stall_timeout.as_millis() as u64
    }

    fn wait(&self, until: Instant) {
        let mut deadline = self.deadline();
        *deadline = Some(until);
        let mut state = self.list.state();
        state.waiting.insert((until, self.id), self.closed.clone());
        if state.waiting.first_key_value().is_some_and(|(first, _)| first.1 == self.id) {
            self.list.earlier.notify_one();
        }
    }

    fn deadline(&self) -> MutexGuard<'_, Option<Instant>> {
        self.deadline.lock().expect("nothing panics while it holds this lock")
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let deadline = self.deadline().take();
        let mut state = self.list.state();
        if let Some(deadline) = deadline {
            state.waiting.remove(&(deadline, self.id));
        }
        state.open -= 1;
        if state.open == 0 {
            self.list.empty.notify_waiters();
        }
    }
}

impl Busy {
    /// The socket asks for more of the answer.
    pub(crate) fn asked(&self) {
        self.0.handed_over_ms.store(0, Ordering::Relaxed);
    }

    /// The socket got a piece of the answer.
    pub(crate) fn handed_over(&self) {
        self.0.handed_over_ms.store((self.0.since.elapsed().as_millis() as u64).max(1), Ordering::Relaxed);
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.asked();
        self.0.wait(Instant::now() + self.0.list.limits.idle_timeout);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn connections(connections_max: usize) -> Arc<Connections> {
        Connections::new(Limits { connections_max, ..Limits::default() })
    }

    #[test]
    fn the_longest_waiting_makes_room_and_a_busy_one_never_does() {
        let list = connections(2);
        let first = list.admit(CancellationToken::new()).unwrap();
        let second = list.admit(CancellationToken::new()).unwrap();
        let _busy = first.busy();
        let third = list.admit(CancellationToken::new()).unwrap();
        assert!(!first.closed().is_cancelled(), "it has a request");
        assert!(second.closed().is_cancelled(), "it waited longest");
        drop(second);
        let _third_busy = third.busy();
        assert!(list.admit(CancellationToken::new()).is_none(), "every place has a request");
        assert_eq!(list.open(), 2);
    }

    #[test]
    fn a_connection_that_ends_gives_its_place_back() {
        let list = connections(1);
        let first = list.admit(CancellationToken::new()).unwrap();
        let busy = first.busy();
        assert!(list.admit(CancellationToken::new()).is_none());
        drop((first, busy));
        assert_eq!(list.open(), 0);
        assert!(list.admit(CancellationToken::new()).is_some());
    }

    #[tokio::test]
    async fn a_deadline_closes_and_a_request_stops_it() {
        let limits = Limits { head_timeout: Duration::from_millis(20), ..Limits::default() };
        let list = Connections::new(limits);
        let closing = tokio::spawn(Arc::clone(&list).close_overdue());
        let silent = list.admit(CancellationToken::new()).unwrap();
        let asking = list.admit(CancellationToken::new()).unwrap();
        let _busy = asking.busy();
        silent.closed().cancelled().await;
        assert!(!asking.closed().is_cancelled());
        closing.abort();
    }
}
