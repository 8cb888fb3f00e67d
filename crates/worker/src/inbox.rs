//! What the reading thread hands to the engine's thread, within bounds.

use crate::Exit;
use protocol::{ids::TaskId, ipc::Rejection, sealing::FrameSealer, task::Task};
use std::{
    collections::{HashSet, VecDeque},
    mem,
    sync::{Condvar, Mutex, MutexGuard},
    time::{Duration, Instant},
};

/// Tasks that wait for a slot. A node that is so far behind had better say so: the client's grant holds other nodes.
pub(crate) const WAITING_MAX: usize = 32;
/// Bytes of the tasks that wait for a slot.
pub(crate) const WAITING_BYTES_MAX: usize = 32 << 20;

/// A task that was opened and waits for a slot.
pub(crate) struct Opened {
    pub(crate) id: TaskId,
    pub(crate) task: Task,
    pub(crate) frames: FrameSealer,
    /// Its length when it was sealed.
    pub(crate) bytes: usize,
}

/// What the engine's thread is to do before its next step.
#[derive(Default)]
pub(crate) struct Orders {
    /// Tasks to stop. They may have ended by themselves.
    pub(crate) cancel: Vec<TaskId>,
    /// Tasks to start, not more than were asked for.
    pub(crate) start: Vec<Opened>,
    /// End, and tell those who wait.
    pub(crate) shutdown: bool,
    /// Nothing more will be read, for this reason.
    pub(crate) cut_off: Option<Exit>,
}

#[derive(Default)]
pub(crate) struct Inbox {
    state: Mutex<State>,
    /// For the engine's thread: there is an order.
    changed: Condvar,
    /// For the thread that gives signs of life: the first task came, or the last one has gone.
    occupancy: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Opened>,
    waiting_bytes: usize,
    /// Those that wait and those that run.
    active: HashSet<TaskId>,
    cancel: Vec<TaskId>,
    shutdown: bool,
    cut_off: Option<Exit>,
}

impl Inbox {
    /// Whether a task may come in. Only the reading thread adds tasks, so that the answer holds until it does.
    pub(crate) fn check(&self, id: TaskId, bytes: usize) -> Result<(), Rejection> {
        let state = self.lock();
        if state.shutdown {
            Err(Rejection::ShuttingDown)
        } else if state.active.contains(&id) {
            Err(Rejection::Duplicate)
        } else if state.waiting.len() >= WAITING_MAX || state.waiting_bytes.saturating_add(bytes) > WAITING_BYTES_MAX {
            Err(Rejection::Full)
        } else {
            Ok(())
        }
    }

    pub(crate) fn add(&self, opened: Opened) {
        let mut state = self.lock();
        state.active.insert(opened.id);
        self.occupancy.notify_one();
        state.waiting_bytes += opened.bytes;
        state.waiting.push_back(opened);
        self.changed.notify_one();
    }

    pub(crate) fn cancel(&self, id: TaskId) {
        let mut state = self.lock();
        if let Some(index) = state.waiting.iter().position(|opened| opened.id == id) {
            let dropped = state.waiting.remove(index).expect("just found there");
            state.waiting_bytes -= dropped.bytes;
            state.active.remove(&id);
            self.tell_if_vacant(&state);
        } else if state.active.contains(&id) && !state.cancel.contains(&id) {
            state.cancel.push(id);
            self.changed.notify_one();
        }
    }

    pub(crate) fn shut_down(&self) {
        self.lock().shutdown = true;
        self.changed.notify_one();
    }

    /// The reading thread ends. The engine's thread learns why, so that both end the process for the same reason.
    pub(crate) fn cut_off(&self, why: Exit) {
        self.lock().cut_off = Some(why);
        self.changed.notify_one();
    }

    /// A task that ran has ended: its id may come again.
    pub(crate) fn ended(&self, id: TaskId) {
        let mut state = self.lock();
        state.active.remove(&id);
        self.tell_if_vacant(&state);
        // It ended by itself before it could be stopped; a later task of the same id is another.
        state.cancel.retain(|cancelled| *cancelled != id);
    }

    /// The orders of now, with up to `free_slots` tasks; every waiting one on shutdown.
    pub(crate) fn take(&self, free_slots: usize) -> Orders {
        self.lock().take(free_slots)
    }

    /// As [`Self::take`], but waits until there is an order or `until` has come.
    pub(crate) fn wait(&self, free_slots: usize, until: Instant) -> Orders {
        let mut state = self.lock();
        while state.is_idle(free_slots) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = self.changed.wait_timeout(state, left).expect("a panic ends the process").0;
        }
        state.take(free_slots)
    }

    /// Returns when a task waits or runs.
    pub(crate) fn wait_occupied(&self) {
        let mut state = self.lock();
        while state.active.is_empty() {
            state = self.occupancy.wait(state).expect("a panic ends the process");
        }
    }

    /// Waits until no task waits or runs, for `at_most`; whether that is so.
    pub(crate) fn wait_vacant(&self, at_most: Duration) -> bool {
        let occupied = |state: &mut State| !state.active.is_empty();
        let waited = self.occupancy.wait_timeout_while(self.lock(), at_most, occupied);
        !waited.expect("a panic ends the process").1.timed_out()
    }

    fn tell_if_vacant(&self, state: &State) {
        if state.active.is_empty() {
            self.occupancy.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("a panic ends the process")
    }
}

impl State {
    fn is_idle(&self, free_slots: usize) -> bool {
        (self.waiting.is_empty() || free_slots == 0)
            && self.cancel.is_empty()
            && !self.shutdown
            && self.cut_off.is_none()
    }

    fn take(&mut self, free_slots: usize) -> Orders {
        let count = if self.shutdown { self.waiting.len() } else { free_slots.min(self.waiting.len()) };
        let start: Vec<Opened> = self.waiting.drain(..count).collect();
        self.waiting_bytes -= start.iter().map(|opened| opened.bytes).sum::<usize>();
        Orders { cancel: mem::take(&mut self.cancel), start, shutdown: self.shutdown, cut_off: self.cut_off }
    }
}
