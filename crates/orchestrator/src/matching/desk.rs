//! Who waits for a place, and who gets the next one.

use super::overloaded;
use crate::{live::Granted, shared::Shared};
use protocol::{
    grant::{MatchRequest, Refusal, RefusalKind},
    ids::{ModelDigest, NodeId},
};
use scheduler::{Ask, Queue, Task, TooLong};
use std::{cell::Cell, collections::HashMap, sync::Arc, time::Duration};
use tokio::sync::{Notify, oneshot};

/// Longest wait that is let in, whatever a client says.
const WAIT_MS_MAX: u32 = 60_000;
/// How long a task takes of which nothing is known yet: with the places it gives the time between two that come free.
const TASK_MS_PRIOR: u64 = 5_000;
/// What comes free by time alone (a task that never came, a silence that ended) is looked for so often, if anybody
/// waits.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Places that come back together where there are none at all: those of one machine, about.
const PLACES_PRIOR: u32 = 4;
/// For so long somebody waits beside a place that there is, and that it has excluded itself. It may have others to ask.
const PASSED_OVER_MS_MAX: u64 = 5_000;
/// So many who cannot take a place that there is are passed over for those behind them; the others wait for their time.
const PASSED_OVER_MAX: usize = 16;
/// For so long where it excludes nothing itself: what holds it back may rest meanwhile.
const UNSERVED_MS_MAX: u64 = 10_000;
/// Of those whose time is over at once, so many are told of each node why.
const EXPLAINED_MAX: usize = 64;
/// Those that ask again after an orchestrator's end find it, or another, after this time.
const END_RETRY_AFTER_MS: u32 = 2_000;

/// A client that waits.
pub(super) struct Waiter {
    pub(super) client: NodeId,
    pub(super) request: MatchRequest,
    pub(super) reply: oneshot::Sender<Result<Granted, Refusal>>,
    // Since when there has been a place that it could not take.
    passed_over_steady_ms: Cell<Option<u64>>,
}

impl Waiter {
    pub(super) fn new(client: NodeId, request: MatchRequest, reply: oneshot::Sender<Result<Granted, Refusal>>) -> Self {
        Self { client, request, reply, passed_over_steady_ms: Cell::new(None) }
    }

    /// Whether a place that there is has been of no use to it for long.
    fn is_passed_over_for_long(&self, now_steady_ms: u64) -> bool {
        let since = self.passed_over_steady_ms.get();
        let most = if self.request.exclude.is_empty() { UNSERVED_MS_MAX } else { PASSED_OVER_MS_MAX };
        since.is_some_and(|since| now_steady_ms.saturating_sub(since) >= most)
    }
}

/// What becomes of somebody who waits, after a look at the places.
enum Turn {
    /// It has its answer.
    Answered,
    /// There is nothing for it, but there may be for those behind it.
    PassedOver(u64),
    /// There is nothing for anybody.
    Nothing,
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
    /// Whether anybody waits for a place with this model whom somebody new could overtake: who could not take a place that
    /// there was is overtaken anyway.
    pub(crate) fn is_waited_for(&self, model: ModelDigest) -> bool {
        let in_line = |(_, _, waiter): (u64, &Ask, &Waiter)| waiter.passed_over_steady_ms.get().is_none();
        self.queues.get(&model).is_some_and(|queue| queue.turns().any(in_line))
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
        let nobody_serves = places == 0;
        let interval_ms = TASK_MS_PRIOR / u64::from(if nobody_serves { PLACES_PRIOR } else { places });
        let queue = self.queues.entry(model).or_insert_with(|| Queue::new(interval_ms));
        if nobody_serves {
            queue.pause();
        }
        let task = Task::new(waiter.client, &waiter.request);
        let ask = Ask {
            account: waiter.client,
            priority: task.priority,
            purpose: task.purpose,
            work_tokens: task.prompt_tokens.saturating_add(task.answer_tokens),
            wait_ms_max: waiter.request.wait_ms_max.min(WAIT_MS_MAX),
        };
        let number = queue.offer(ask, waiter, now_steady_ms).map_err(|(_, too_long)| too_long)?;
        if nobody_serves {
            queue.pause();
        }
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

    /// Lets a client wait no more that is to be refused: no place was taken.
    fn dismiss(&mut self, model: ModelDigest, number: u64) -> Option<Waiter> {
        let waiter = self.queues.get_mut(&model)?.remove(number)?;
        self.waiting -= 1;
        Some(waiter)
    }

    fn take(&mut self, model: ModelDigest, number: u64, now_steady_ms: u64) -> Option<Waiter> {
        let waiter = self.queues.get_mut(&model)?.take(number, now_steady_ms)?;
        self.waiting -= 1;
        Some(waiter)
    }

    /// Those who have waited for as long as they wanted to.
    fn expired(&mut self, now_steady_ms: u64) -> Vec<(Waiter, TooLong)> {
        let mut expired = Vec::new();
        for queue in self.queues.values_mut() {
            expired.extend(std::iter::from_fn(|| queue.expired(now_steady_ms)));
        }
        self.waiting -= expired.len();
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

/// Gives places that there are to those whose turn it is, as far as they can take them.
pub(crate) fn serve(shared: &Shared, model: ModelDigest) {
    let mut passed_over: Vec<u64> = Vec::new();
    loop {
        match serve_one(shared, model, &passed_over) {
            Turn::Answered => {}
            Turn::PassedOver(number) => passed_over.push(number),
            Turn::Nothing => break,
        }
    }
    if !passed_over.is_empty()
        && let Some(queue) = shared.desk().queues.get_mut(&model)
    {
        // There are places, for others: how long nobody has taken one says nothing of how long that takes.
        queue.pause();
    }
}

/// Looks after the first who was not passed over.
fn serve_one(shared: &Shared, model: ModelDigest, passed_over: &[u64]) -> Turn {
    let now = shared.now();
    let mut desk = shared.desk();
    let turns = desk.queues.get(&model).into_iter().flat_map(Queue::turns);
    let Some((number, _, waiter)) = turns.take(passed_over.len() + 1).find(|turn| !passed_over.contains(&turn.0))
    else {
        return Turn::Nothing;
    };
    if waiter.reply.is_closed() {
        desk.leave(model, number);
        return Turn::Answered;
    }
    let (client, request) = (waiter.client, waiter.request.clone());
    let granted = super::grant(shared, client, &request, now);
    if let Err(refusal) = &granted
        && (refusal.kind == RefusalKind::Overloaded || refusal.retry_after_ms.is_some())
        && !waiter.is_passed_over_for_long(now.steady_ms)
    {
        if shared.live().free_nodes(model) == 0 {
            return Turn::Nothing;
        }
        // Who cannot take a place that there is does not stand in the way of the others.
        if passed_over.len() >= PASSED_OVER_MAX {
            return Turn::Nothing;
        }
        waiter.passed_over_steady_ms.set(waiter.passed_over_steady_ms.get().or(Some(now.steady_ms)));
        return Turn::PassedOver(number);
    }
    let waiter = match granted {
        Ok(_) => desk.take(model, number, now.steady_ms),
        Err(_) => desk.dismiss(model, number),
    };
    let Some(waiter) = waiter else { return Turn::Answered };
    drop(desk);
    reply(shared, waiter, granted);
    Turn::Answered
}

fn reply(shared: &Shared, waiter: Waiter, granted: Result<Granted, Refusal>) {
    let Waiter { client, request, reply, .. } = waiter;
    if let Err(Ok(granted)) = reply.send(granted) {
        // It went in this very moment: its place is free again at once.
        shared.live().unused(client, request.task, &granted, shared.now());
    }
}

/// Tells somebody whose time is over why nobody took its task, unless somebody does now.
fn give_up(shared: &Shared, waiter: Waiter, too_long: TooLong, explained: bool) {
    let granted = if explained {
        let granted = super::grant(shared, waiter.client, &waiter.request, shared.now());
        granted.map_err(|refusal| match refusal.kind {
            RefusalKind::Overloaded => Refusal { retry_after_ms: Some(too_long.retry_after_ms), ..refusal },
            _ => refusal,
        })
    } else {
        Err(overloaded(too_long.retry_after_ms))
    };
    reply(shared, waiter, granted);
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
            let expired = desk.expired(now.steady_ms);
            let waited_for = desk.queues.iter().filter(|(_, queue)| !queue.is_empty());
            (expired, waited_for.map(|(model, _)| *model).collect::<Vec<_>>())
        };
        shared.counters.waited_in_vain.add(expired.len() as u64);
        for (at, (waiter, too_long)) in expired.into_iter().enumerate() {
            give_up(&shared, waiter, too_long, at < EXPLAINED_MAX);
        }
        for model in models {
            serve(&shared, model);
        }
    }
}
