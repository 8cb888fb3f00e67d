//! Measuring and trying nodes: the orchestrator as a client of its own.
//!
//! * **Measured, not claimed.** A worker whose rates are not known (it is new, its program changed, or completed tasks
//!   contradict what was measured) is timed when its node has been idle for a while, and again after some hours:
//!   reading a prompt of about 200 tokens, and writing with 1, 2, 4 and 8 answers side by side, as far as it has slots.
//! * **Gives way.** A task of anybody else that is matched to the node ends the measurement at once; its own tasks are
//!   no load that anybody waits for. It takes a bounded time, and a few nodes are measured at a time.
//! * **Trials.** A node that a client's failure or a failed audit puts in question, or that can come back in no other
//!   way, gets one task: it is answered, or the node has failed. Where another node serves the same model, that one
//!   scores the answer.
//! * **Prompts and keys are fresh**, so nothing can be kept ready. A trial looks like an ordinary task: it is drawn as
//!   audits are ([`client::canary_prompts`]). A measurement does not: its prompts and lengths are made to be timed.
//!   What completed tasks show corrects it.
//!
//! A measurement that was agreed on before a restart is believed until it is made again. Of a pool's orchestrators, a
//! node's first home measures and tries it ([`crate::gossip`]).

mod own;
mod prompt;
mod rates;
mod timing;
mod trial;

pub(crate) use own::Target;

use crate::{
    clock::{self, millis},
    epochs, gossip,
    live::{Due, OwnTasks, Wish},
    outcomes,
    shared::Shared,
};
use own::{Own, OwnError};
use protocol::ids::{ModelDigest, NodeId};
use std::{collections::VecDeque, sync::Arc, time::Duration};
use tokio::{sync::Notify, time::timeout};

/// Nodes that are measured at a time, and nodes that are tried: neither takes the places of the other. A trial is one short
/// task, and in a pool in need many wait for theirs.
const AT_ONCE_MAX: [usize; 2] = [2, 4];
/// Wishes that wait.
const WISHES_MAX: usize = 1 << 10;
/// What waits for a node to be idle or due is looked for so often.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What is to be done, and how much is under way.
#[derive(Default)]
pub(crate) struct Agenda {
    wishes: VecDeque<(NodeId, ModelDigest, Wish)>,
    // How many are measured, and how many are tried.
    running: [usize; 2],
    // Where the next look for unmeasured nodes begins.
    looked_at: Option<NodeId>,
    came: Arc<Notify>,
}

impl Agenda {
    fn add(&mut self, wish: (NodeId, ModelDigest, Wish)) {
        if self.wishes.len() < WISHES_MAX && !self.wishes.contains(&wish) {
            self.wishes.push_back(wish);
            self.came.notify_one();
        }
    }
}

/// Asks for a trial or a measurement, when there is time for it. Nodes are tried by their first home.
pub(crate) fn wish(shared: &Shared, node: NodeId, model: ModelDigest, wish: Wish) {
    let is_first_home = shared.gossip().is_first_home(node);
    if !is_first_home {
        if wish == Wish::Try {
            gossip::doubt(shared, node, Some(model));
        }
    } else if shared.timings.measure.is_some() {
        shared.agenda().add((node, model, wish));
    }
}

/// Does what is wished for, and looks for what is due.
pub(crate) async fn run(shared: Arc<Shared>) {
    let Some(measure) = shared.timings.measure else { return };
    let came = Arc::clone(&shared.agenda().came);
    loop {
        // Either way it is time to look.
        let _ = timeout(LOOK_EVERY, came.notified()).await;
        let due = Due { after_idle_ms: millis(measure.after_idle), again_after_ms: millis(measure.again_after) };
        look(&shared, due);
        let mut later = Vec::new();
        while let Some((node, model, wish)) = next(&shared) {
            if wish == Wish::Try && shared.live().is_tried_enough(node, model, shared.now()) {
                // It is ejected: its time comes.
                shared.agenda().running[wish as usize] -= 1;
                continue;
            }
            let begun = shared.live().begin_own(node, model, wish, shared.now());
            match begun {
                Some(tasks) => {
                    let owner = Arc::clone(&shared);
                    shared.spawn(async move { serve(&owner, tasks, wish, measure.time_max).await });
                }
                None => {
                    shared.agenda().running[wish as usize] -= 1;
                    // What runs there now may have begun before the reason for another trial. A worker that has just died
                    // will be back, and with it the doubt.
                    let live = shared.live();
                    let waits = live.has_own(node) || (wish == Wish::Try && live.is_linked(node));
                    later.extend(waits.then_some((node, model, wish)));
                }
            }
        }
        let mut agenda = shared.agenda();
        agenda.wishes.extend(later);
        agenda.wishes.truncate(WISHES_MAX);
    }
}

/// The next wish, if there is room for it; counts as under way.
fn next(shared: &Shared) -> Option<(NodeId, ModelDigest, Wish)> {
    let mut agenda = shared.agenda();
    let running = agenda.running;
    let at = agenda.wishes.iter().position(|(_, _, wish)| running[*wish as usize] < AT_ONCE_MAX[*wish as usize])?;
    let next = agenda.wishes.remove(at)?;
    agenda.running[next.2 as usize] += 1;
    Some(next)
}

/// Looks at the next slice of nodes, and at those that are due for a trial.
fn look(shared: &Shared, due: Due) {
    let (now, after) = (shared.now(), shared.agenda().looked_at);
    let (unmeasured, last, tries) = {
        let live = shared.live();
        let (unmeasured, last) = live.unmeasured(after, due, now);
        (unmeasured, last, live.tries_due(now, AT_ONCE_MAX[Wish::Try as usize]))
    };
    let is_own = |(node, _): &(NodeId, ModelDigest)| shared.gossip().is_first_home(*node);
    let (tries, others): (Vec<_>, Vec<_>) = tries.into_iter().partition(is_own);
    let unmeasured: Vec<_> = unmeasured.into_iter().filter(is_own).collect();
    for (node, model) in others {
        // It does not stay in front of those that are tried here.
        shared.live().handed_on(node, model, now);
        gossip::doubt(shared, node, Some(model));
    }
    let mut agenda = shared.agenda();
    agenda.looked_at = last;
    tries.into_iter().for_each(|(node, model)| agenda.add((node, model, Wish::Try)));
    unmeasured.into_iter().for_each(|(node, model)| agenda.add((node, model, Wish::Measure)));
}

async fn serve(shared: &Arc<Shared>, tasks: OwnTasks, wish: Wish, time_max: Duration) {
    let OwnTasks { number, target, cancelled } = tasks;
    let begun_steady_ms = shared.now().steady_ms;
    let done = match Own::bind(shared, &target).await {
        Ok(own) => {
            let work = async {
                match wish {
                    Wish::Measure => measure(shared, &own, &target, time_max).await,
                    Wish::Try => try_out(shared, &own, &target).await,
                }
            };
            let done = tokio::select! {
                biased;
                () = cancelled.cancelled() => None,
                done = work => Some(done),
            };
            shared.live().end_own(target.node, number);
            // The node hears of the end at once, and cancels what it still does for us.
            own.close().await;
            done
        }
        Err(error) => Some(Err(error.into())),
    };
    let now = shared.now();
    shared.live().end_own(target.node, number);
    shared.agenda().running[wish as usize] -= 1;
    match done {
        None => shared.counters.gave_way.count(),
        Some(Ok(())) => {}
        Some(Err(error)) => {
            tracing::debug!(node = %target.node.short(), %error, "a task of the orchestrator's own came to nothing");
            if wish == Wish::Measure {
                shared.live().not_measured(target.node, target.model, now);
            }
            let waited = matches!(error, OwnError::NoToken) && shared.live().is_full(target.node, target.model, now);
            if error.is_fault() && !waited && shared.live().standing(target.node, now).is_none() {
                outcomes::trial_broke(shared, target.node, target.model, begun_steady_ms);
            }
        }
    }
    epochs::score_one(shared, target.node);
    crate::matching::serve(shared, target.model);
}

async fn measure(shared: &Shared, own: &Own, target: &Target, time_max: Duration) -> Result<(), OwnError> {
    let Some(rates) = rates::measure(own, target, clock::instant() + time_max).await? else {
        shared.live().not_measured(target.node, target.model, shared.now());
        return Ok(());
    };
    let now = shared.now();
    shared.observed().measured(target.node, target.model, rates);
    shared.live().measured(target.node, target.model, rates, target.evidence.measurement, now);
    shared.counters.measured.count();
    tracing::info!(
        node = %target.node.short(),
        prefill_per_s = rates.prefill_milli / 1000,
        decode_per_s = rates.decode_milli[0] / 1000,
        "measured"
    );
    Ok(())
}

async fn try_out(shared: &Shared, own: &Own, target: &Target) -> Result<(), OwnError> {
    if let Some(passed) = trial::run(shared, own, target).await? {
        outcomes::tried(shared, target.node, target.model, passed);
    }
    Ok(())
}
