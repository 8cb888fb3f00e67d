//! Who waits for a place, in which order, and who is told at once that it would take too long.
//!
//! * **Order.** Resumes first: work that is done would be lost with them, and they are no more than was admitted before.
//!   Then interactive tasks, then batch; but of every [`BATCH_EVERY`] places one goes to batch if any waits, so batch does
//!   not starve.
//! * **Fairness.** Within a class accounts share by start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996): a task
//!   starts, in virtual time, when its account's last one ends or now, whichever is later; the earliest start is next;
//!   virtual time is that of the task that was taken last. An account with a thousand tasks delays another's first by
//!   one.
//! * **Early refusal.** A task is not let in if the wait that is expected exceeds what its asker accepts. So nobody
//!   waits in vain, nothing is computed for somebody who has given up, and overload costs no goodput.

use protocol::{
    grant::{Priority, Purpose},
    ids::NodeId,
};
use std::collections::{BTreeSet, HashMap};

/// Of so many places one goes to batch, if any waits.
pub const BATCH_EVERY: u32 = 10;
/// Tasks that wait in one queue.
pub const WAITING_MAX: usize = 1 << 13;
/// Resumes that are let in besides.
const RESUMES_MAX: usize = 1 << 12;
/// Accounts whose virtual time is remembered.
const ACCOUNTS_MAX: usize = 1 << 14;
/// Each interval between places counts a sixteenth.
const INTERVAL_WEIGHT: u64 = 16;
/// Bounds of what an asker is told, in milliseconds.
const RETRY_AFTER_MS: (u64, u64) = (100, 60_000);
const CLASSES: usize = 3;

/// What waits, as far as its turn depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// Who asks: accounts share.
    pub account: NodeId,
    /// What goes first.
    pub priority: Priority,
    /// Why it is asked.
    pub purpose: Purpose,
    /// How much it is, in tokens: accounts share these, not tasks.
    pub work_tokens: u32,
    /// How long the asker waits, in milliseconds.
    pub wait_ms_max: u32,
}

/// A task that was not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong {
    /// When the wait is expected to be acceptable, in milliseconds.
    pub retry_after_ms: u32,
}

/// Tasks that wait for a place with one model.
#[derive(Debug)]
pub struct Queue<T> {
    waiting: HashMap<u64, Waiting<T>>,
    // By virtual start, then by age.
    classes: [BTreeSet<(u64, u64)>; CLASSES],
    deadlines: BTreeSet<(u64, u64)>,
    accounts: HashMap<NodeId, Account>,
    // The virtual time of each class.
    virtual_now: [u64; CLASSES],
    active_accounts: usize,
    last_number: u64,
    since_batch: u32,
    // Expected time between two places, in microseconds, and when the last one came.
    interval_us: u64,
    taken_steady_ms: Option<u64>,
}

#[derive(Debug)]
struct Waiting<T> {
    ask: Ask,
    item: T,
    start: u64,
    deadline_steady_ms: u64,
}

#[derive(Debug, Default)]
struct Account {
    finish: [u64; CLASSES],
    waiting: usize,
}

impl Ask {
    fn class(&self) -> usize {
        match (self.purpose, self.priority) {
            (Purpose::Resume, _) => 0,
            (_, Priority::Interactive) => 1,
            (_, Priority::Batch) => 2,
        }
    }
}

impl<T> Queue<T> {
    /// An empty queue, for places of which one is expected to come free in each `interval_ms`.
    pub fn new(interval_ms: u64) -> Self {
        Self {
            waiting: HashMap::new(),
            classes: Default::default(),
            deadlines: BTreeSet::new(),
            accounts: HashMap::new(),
            virtual_now: [0; CLASSES],
            active_accounts: 0,
            last_number: 0,
            since_batch: 0,
            interval_us: interval_ms.max(1).saturating_mul(1_000),
            taken_steady_ms: None,
        }
    }

    /// Tasks that wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Lets a task wait, and gives it a number; or gives it back at once, because it would take too long.
    pub fn offer(&mut self, ask: Ask, item: T, now_steady_ms: u64) -> Result<u64, (T, TooLong)> {
        let wait_ms = self.expected_wait_ms(&ask, now_steady_ms);
        let class = ask.class();
        let room = if class == 0 { WAITING_MAX + RESUMES_MAX } else { WAITING_MAX };
        if wait_ms > u64::from(ask.wait_ms_max) || self.waiting.len() >= room {
            let over = wait_ms.saturating_sub(u64::from(ask.wait_ms_max)).max(self.interval_us / 1_000);
            let retry_after_ms = u32::try_from(over.clamp(RETRY_AFTER_MS.0, RETRY_AFTER_MS.1)).expect("clamped");
            return Err((item, TooLong { retry_after_ms }));
        }
        self.forget_accounts();
        if self.waiting.is_empty() {
            // The next place is timed from now: nobody waited for those before.
            self.taken_steady_ms = Some(now_steady_ms);
        }
        self.last_number += 1;
        let number = self.last_number;
        let account = self.accounts.entry(ask.account).or_default();
        let start = account.finish[class].max(self.virtual_now[class]);
        account.finish[class] = start.saturating_add(u64::from(ask.work_tokens.max(1)));
        self.active_accounts += usize::from(account.waiting == 0);
        account.waiting += 1;
        let deadline_steady_ms = now_steady_ms.saturating_add(u64::from(ask.wait_ms_max));
        self.classes[class].insert((start, number));
        self.deadlines.insert((deadline_steady_ms, number));
        self.waiting.insert(number, Waiting { ask, item, start, deadline_steady_ms });
        Ok(number)
    }

    /// Whose turn it is. Ask for a place for it, and [`Self::take`] it if there is one.
    pub fn first(&self) -> Option<(u64, &Ask, &T)> {
        self.turns().next()
    }

    /// Everybody who waits, in the order of their turns: for whoever cannot take a place that there is, the next may.
    pub fn turns(&self) -> impl Iterator<Item = (u64, &Ask, &T)> {
        let [resumes, interactive, batch] = &self.classes;
        let turn_of_batch = self.since_batch + 1 >= BATCH_EVERY;
        let order = if turn_of_batch { [resumes, batch, interactive] } else { [resumes, interactive, batch] };
        order.into_iter().flatten().map(|(_, number)| {
            let waiting = &self.waiting[number];
            (*number, &waiting.ask, &waiting.item)
        })
    }

    /// No place can come free now, whoever ends: nobody serves. The time until the next says nothing of the pace at
    /// which they come when somebody does.
    pub fn pause(&mut self) {
        self.taken_steady_ms = None;
    }

    /// A task got a place.
    pub fn take(&mut self, number: u64, now_steady_ms: u64) -> Option<T> {
        let (class, start) = {
            let waiting = self.waiting.get(&number)?;
            (waiting.ask.class(), waiting.start)
        };
        self.virtual_now[class] = self.virtual_now[class].max(start);
        self.since_batch = if class == 2 { 0 } else { self.since_batch.saturating_add(1) };
        if let Some(before) = self.taken_steady_ms.replace(now_steady_ms) {
            let interval_us = now_steady_ms.saturating_sub(before).saturating_mul(1_000);
            self.interval_us = (self.interval_us * (INTERVAL_WEIGHT - 1) / INTERVAL_WEIGHT)
                .saturating_add(interval_us / INTERVAL_WEIGHT)
                .max(1);
        }
        self.remove(number)
    }

    /// A task waits no more: its asker has gone.
    pub fn remove(&mut self, number: u64) -> Option<T> {
        let waiting = self.waiting.remove(&number)?;
        self.classes[waiting.ask.class()].remove(&(waiting.start, number));
        self.deadlines.remove(&(waiting.deadline_steady_ms, number));
        if let Some(account) = self.accounts.get_mut(&waiting.ask.account) {
            account.waiting -= 1;
            self.active_accounts -= usize::from(account.waiting == 0);
        }
        Some(waiting.item)
    }

    /// Takes out a task whose asker waits no longer, if there is one.
    pub fn expired(&mut self, now_steady_ms: u64) -> Option<(T, TooLong)> {
        let (deadline, number) = *self.deadlines.first()?;
        if deadline > now_steady_ms {
            return None;
        }
        let ask = self.waiting[&number].ask;
        let item = self.remove(number)?;
        let wait_ms = self.expected_wait_ms(&ask, now_steady_ms);
        let retry = wait_ms.clamp(RETRY_AFTER_MS.0, RETRY_AFTER_MS.1);
        Some((item, TooLong { retry_after_ms: u32::try_from(retry).expect("clamped") }))
    }

    /// How long a task would wait: places that others get before it, times the time between places, which is measured,
    /// and at least the time since the last one.
    ///
    /// Others in its class get at most one place each for each of its account's (that is what fairness means).
    pub fn expected_wait_ms(&self, ask: &Ask, now_steady_ms: u64) -> u64 {
        let own = self.accounts.get(&ask.account).map_or(0, |account| account.waiting);
        let accounts = self.active_accounts + usize::from(own == 0);
        let in_class = |class: usize| self.classes[class].len().min((own + 1).saturating_mul(accounts));
        let every = BATCH_EVERY as usize;
        let ahead = match ask.class() {
            0 => self.classes[0].len(),
            // One place of ten goes to batch meanwhile.
            1 => self.classes[0].len() + in_class(1) + (in_class(1) / (every - 1)).min(self.classes[2].len()),
            _ => {
                let others = self.classes[0].len() + self.classes[1].len();
                self.classes[0].len() + in_class(2) + others.min(in_class(2).saturating_add(1) * (every - 1))
            }
        };
        let since_ms = if self.is_empty() { None } else { self.taken_steady_ms };
        let since_us = since_ms.map_or(0, |taken| now_steady_ms.saturating_sub(taken).saturating_mul(1_000));
        let interval_us = self.interval_us.max(since_us);
        (ahead as u64 + 1).saturating_mul(interval_us) / 1_000
    }

    /// Who has nothing waiting and no virtual time left is like a newcomer.
    fn forget_accounts(&mut self) {
        if self.accounts.len() >= ACCOUNTS_MAX {
            let virtual_now = self.virtual_now;
            let is_ahead = |account: &Account| account.finish.iter().zip(virtual_now).any(|(own, now)| *own > now);
            self.accounts.retain(|_, account| account.waiting > 0 || is_ahead(account));
            if self.accounts.len() >= ACCOUNTS_MAX {
                self.accounts.retain(|_, account| account.waiting > 0);
            }
        }
    }
}
