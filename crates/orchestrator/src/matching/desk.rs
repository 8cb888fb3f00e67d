//! Who waits for a place, and who gets the next one.

use super::overloaded;
use crate::{live::Granted, shared::Shared};
use protocol::{
    grant::{MatchRequest, Refusal, RefusalKind},
    ids::{ModelDigest, NodeId},
};
use scheduler::{Ask, Queue, Task, TooLong};
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::sync::{Notify, oneshot};

/// Longest wait that is let in, whatever a client says.
const WAIT_MS_MAX: u32 = 60_000;
/// How long a task takes of which nothing is known yet: with the places it gives the time between two that come free.
const TASK_MS_PRIOR: u64 = 5_000;
/// What comes free by time alone (a task that never came, a silence that ended) is looked for so often, if anybody
/// waits.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Those that ask again after an orchestrator's end find it, or another, after this time.
const END_RETRY_AFTER_MS: u32 = 2_000;

/// A client that waits.
pub(super) struct Waiter {
    pub(super) client: NodeId,
    pub(super) request: MatchRequest,
    pub(super) reply: oneshot::Sender<Result<Granted, Refusal>>,
}

/// The queues, one for each model that somebody waits for.
#[derive(Default)]
pub(crate) struct Desk {
    queues: HashMap<ModelDigest, Queue<Waiter>>,
    waiting: usize,
    closed: bool,
    /// Somebody waits who did not before.
    pub(crate) came: Arc<Notify>,
}

impl Desk {
    /// Whether anybody waits for a place with this model.
    pub(crate) fn is_waited_for(&self, model: ModelDigest) -> bool {
        self.queues.get(&model).is_some_and(|queue| !queue.is_empty())
    }

    /// Whether the end comes.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Clients that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Lets a client wait, or says how much too long that would take.
    pub(super) fn offer(
        &mut self,
        model: ModelDigest,
        places: u32,
        waiter: Waiter,
        now_steady_ms: u64,
    ) -> Result<u64, TooLong> {
        if self.closed {
            return Err(TooLong { retry_after_ms: END_RETRY_AFTER_MS });
        }
        let interval_ms = TASK_MS_PRIOR / u64::from(places.max(1));
        let queue = self.queues.entry(model).or_insert_with(|| Queue::new(interval_ms));
        let task = Task::new(waiter.client, &waiter.request);
        let ask = Ask {
            account: waiter.client,
            priority: task.priority,
            purpose: task.purpose,
            work_tokens: task.prompt_tokens.saturating_add(task.answer_tokens),
            wait_ms_max: waiter.request.wait_ms_max.min(WAIT_MS_MAX),
        };
        let number = queue.offer(ask, waiter, now_steady_ms).map_err(|(_, too_long)| too_long)?;
        self.waiting += 1;
        self.came.notify_one();
        Ok(number)
    }

    /// A client waits no more. Whether it did until now.
    pub(super) fn leave(&mut self, model: ModelDigest, number: u64) -> bool {
        let left = self.queues.get_mut(&model).is_some_and(|queue| queue.remove(number).is_some());
        self.waiting -= usize::from(left);
        left
    }

    fn take(&mut self, model: ModelDigest, number: u64, now_steady_ms: u64) -> Option<Waiter> {
        let waiter = self.queues.get_mut(&model)?.take(number, now_steady_ms)?;
        self.waiting -= 1;
        Some(waiter)
    }

    /// Answers those who have waited for as long as they wanted to.
    fn expire(&mut self, now_steady_ms: u64) -> usize {
        let mut expired = 0;
        for queue in self.queues.values_mut() {
            while let Some((waiter, too_long)) = queue.expired(now_steady_ms) {
                expired += 1;
                // Who has gone does not care.
                let _ = waiter.reply.send(Err(overloaded(too_long.retry_after_ms)));
            }
        }
        self.waiting -= expired;
        expired
    }

    /// Answers everybody: the end comes. Nobody is let in any more.
    pub(crate) fn close(&mut self) {
        self.closed = true;
        for (_, mut queue) in self.queues.drain() {
            // Further ahead than anybody waits.
            while let Some((waiter, _)) = queue.expired(u64::MAX) {
                let _ = waiter.reply.send(Err(overloaded(END_RETRY_AFTER_MS)));
            }
        }
        self.waiting = 0;
    }
}

/// Gives places that there are to those whose turn it is.
pub(crate) fn serve(shared: &Shared, model: ModelDigest) {
    while serve_one(shared, model) {}
}

/// Whether the next may be served too.
fn serve_one(shared: &Shared, model: ModelDigest) -> bool {
    let now = shared.now();
    let mut desk = shared.desk();
    let Some(first) = desk.queues.get(&model).and_then(|queue| queue.first()) else { return false };
    let (number, waiter) = (first.0, first.2);
    if waiter.reply.is_closed() {
        desk.leave(model, number);
        return true;
    }
    let (client, request) = (waiter.client, waiter.request.clone());
    let granted = super::grant(shared, client, &request, now);
    if let Err(refusal) = &granted
        && refusal.kind == RefusalKind::Overloaded
        && shared.live().free_nodes(model) == 0
    {
        return false;
    }
    // Who cannot take a place that there is, because of what it excludes, does not stand in the way of the others.
    let Some(waiter) = desk.take(model, number, now.steady_ms) else { return true };
    drop(desk);
    if let Err(Ok(granted)) = waiter.reply.send(granted) {
        // It went in this very moment: its place is free again at once.
        shared.live().unused(client, request.task, &granted, now);
    }
    true
}

/// Looks after what changes by time alone, while anybody waits.
pub(crate) async fn attend(shared: Arc<Shared>) {
    let came = Arc::clone(&shared.desk().came);
    loop {
        if shared.desk().waiting() == 0 {
            came.notified().await;
        }
        tokio::time::sleep(LOOK_EVERY).await;
        let now = shared.now();
        let (expired, models) = {
            let mut desk = shared.desk();
            let expired = desk.expire(now.steady_ms);
            let waited_for = desk.queues.iter().filter(|(_, queue)| !queue.is_empty());
            (expired, waited_for.map(|(model, _)| *model).collect::<Vec<_>>())
        };
        shared.counters.waited_in_vain.add(expired as u64);
        for model in models {
            serve(&shared, model);
        }
    }
}
