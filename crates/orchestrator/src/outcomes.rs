//! How tasks ended, in the words of their clients: what of it is believed, and what follows.
//!
//! **Whose word.** Only that of the client which the permit was given to, once for each task and node
//! ([`crate::issued`]). Everything else is counted and forgotten.
//!
//! **How much.** A client may lie, and what it says changes what others get. So:
//! * A failure turns the node away from the client that reports it ([`crate::grudges`]): this needs no proof, because
//!   it costs nobody else. A node that fails everything gets at most five tasks of one client by that rule alone.
//! * In the node's own record, which is everybody's, failures of one client count twice an hour at most
//!   ([`testimony::FAILURES_PER_CLIENT`]), and a success that any other client reports ends the row. Words bring a node
//!   to the edge of ejection; over it, only those of three clients, and not where a trial has just passed.
//! * A node that has completed nothing since it came is another matter: every failure counts, whoever tells of it, and
//!   after five it is given nobody's task until a trial has passed. So however many clients there are and however slow
//!   the trials, a black hole gets five tasks; a liar delays a newcomer by a trial.
//! * **One crash is one failure**, however many tasks it cost and whoever tells of it: those that a client had on a node
//!   when it failed for the first time fall with that one, and so does a trial which finds the same.
//! * Each failure is an occasion to look: the node gets a task of the orchestrator's own ([`crate::measuring`]). A false
//!   answer is proof: it ejects at once. One that breaks off is one more failure, and is followed by another trial. So in
//!   a pool with one client, its word and the trials together eject, and its word alone only keeps the node from *it*.
//! * **A departure is no failure.** Where a proven node's link broke, it fell silent, or its owner came back, the tasks
//!   that it had are lost without blame, a dozen times an hour; that it departs often is what its survival model learns
//!   from. Of an unproven node that its pool vouches for, each departure counts once; of any other, each task: a black
//!   hole could as well hang up. A task that is handed back is excused where the node has said that it goes.
//! * A failed audit is an accusation by one client: the node is ejected where our own audit confirms it, or where a
//!   second client says the same. A passed one counts once an hour for each client, so that nobody talks a friend out
//!   of its probation.
//! * Results, valid or not, go into what is agreed on for [`crate::observed`]'s share of each client.

mod testimony;

pub(crate) use testimony::Testimony;

use crate::{
    gossip,
    grudges::Failure,
    issued::{Issue, Part},
    live::Wish,
    matching, measuring,
    shared::Shared,
};
use protocol::{
    ids::{ModelDigest, NodeId},
    link::{AuditVerdict, End, Outcome},
};
use scheduler::{Ended, Now};
use std::{sync::Arc, time::Duration};
use testimony::Weight;
use tokio::time::sleep;
use trust::observations::Rates;

/// A report may come a little after the outcome that it goes with.
const JUDGED_AFTER_PROBE: Duration = Duration::from_millis(200);
/// What a probe by another orchestrator found is known here so much later.
const HEARD_AFTER_PROBE: Duration = Duration::from_millis(300);
/// A node whose trial broke off is tried again after this time: what froze may thaw.
const TRIED_AGAIN_AFTER: Duration = Duration::from_secs(4);
/// An answer shorter than this says little about speed.
const TIMED_TOKENS_MIN: u32 = 16;
/// One task moves a rate by what lies within these bounds of it, in percent.
const REFINED_PERCENT: (u32, u32) = (50, 150);

/// Takes in how a task of `client` ended.
pub(crate) fn take(shared: &Arc<Shared>, client: NodeId, outcome: &Outcome) {
    let now = shared.now();
    let Some(issue) = shared.issued().take(client, outcome.task, outcome.node, now.steady_ms) else {
        shared.counters.outcomes_unknown.count();
        return;
    };
    shared.counters.outcomes.count();
    {
        let mut live = shared.live();
        live.spoken_of(client, outcome.task, outcome.node, now);
        if !issue.started {
            // What ends has begun: otherwise its end would be taken for that of another task.
            live.begun(issue.node, issue.model, now);
        }
    }
    match (issue.part, outcome.audit) {
        (Part::Subject, Some(verdict)) => audited(shared, client, &issue, verdict, now),
        // The odd one out may be the referee. That it scores as others do proves nothing of what it generates.
        (Part::Referee, Some(verdict)) if !verdict.passed => audited(shared, client, &issue, verdict, now),
        (part, _) => {
            if part == Part::Subject {
                shared.live().audited(issue.node, false, now);
            }
            if part != Part::Candidate && outcome.end == End::Completed {
                // Without a verdict it is no success: it may have been anything. And who scores well may still fail at
                // writing.
                shared.live().ended(issue.node, issue.model, Ended::Without, now);
                return;
            }
            ended(shared, client, &issue, outcome, now);
        }
    }
    matching::serve(shared, issue.model);
}

fn ended(shared: &Arc<Shared>, client: NodeId, issue: &Issue, outcome: &Outcome, now: Now) {
    let node = issue.node;
    match outcome.end {
        End::Completed => {
            shared.grudges().succeeded(client, node);
            shared.testimony().success(node, client);
            shared.live().ended(node, issue.model, Ended::Completed, now);
            if shared.observed().result(node, client, true, now) {
                refine(shared, issue, outcome, now);
            }
        }
        End::Corrupt => failed(shared, client, issue, now),
        End::Died | End::Stalled => lost(shared, client, *issue, false),
        End::HandedBack => lost(shared, client, *issue, true),
        End::Refused => {
            let mut live = shared.live();
            live.ended(node, issue.model, Ended::Without, now);
            live.refused(node, now);
        }
        // `Cancelled`, and whatever comes later: nobody's fault.
        _ => {
            shared.live().ended(node, issue.model, Ended::Without, now);
        }
    }
}

/// A machine that went is no machine that fails: what tells them apart is known when the probe is over that the
/// client's report has set off. One that hands a task back has said by then that it goes, or it did not want the task.
fn lost(shared: &Arc<Shared>, client: NodeId, issue: Issue, handed_back: bool) {
    let owner = Arc::clone(shared);
    shared.spawn(async move {
        // Of a node without a link here it is heard a little later.
        let is_direct = owner.live().is_direct(issue.node);
        let heard_after = if is_direct { Duration::ZERO } else { HEARD_AFTER_PROBE };
        sleep(owner.timings.probe_max + JUDGED_AFTER_PROBE + heard_after).await;
        let now = owner.now();
        let departed = {
            let mut live = owner.live();
            if handed_back {
                live.said_departure(issue.node, now)
            } else {
                live.is_excused(issue.node, issue.model, now)
            }
        };
        if departed {
            owner.counters.outcomes_departed.count();
            owner.live().ended(issue.node, issue.model, Ended::Without, now);
        } else {
            failed(&owner, client, &issue, now);
        }
        matching::serve(&owner, issue.model);
    });
}

fn failed(shared: &Arc<Shared>, client: NodeId, issue: &Issue, now: Now) {
    let node = issue.node;
    shared.counters.outcomes_failed.count();
    let has_completed = shared.live().record_of(node, issue.model).has_completed();
    let given_last = shared.issued().last_number();
    let failure = Failure { client, node, given: issue.number, given_last, has_completed };
    if !shared.grudges().failed(&failure, now.steady_ms) {
        shared.live().ended(node, issue.model, Ended::Fell, now);
        return;
    }
    let weight = shared.testimony().failed(node, client, now.steady_ms);
    let ejected = match weight {
        // Of a node that has completed nothing each failure counts until a trial decides: five tasks are all it gets.
        Weight::None if has_completed => shared.live().ended(node, issue.model, Ended::Fell, now),
        Weight::None | Weight::Word => {
            shared.live().alleged(node, issue.model, now);
            false
        }
        Weight::Full => shared.live().ended(node, issue.model, Ended::Failed, now),
    };
    if ejected {
        shared.counters.ejections.count();
    }
    if weight != Weight::None {
        shared.observed().result(node, client, false, now);
    }
    measuring::wish(shared, node, issue.model, Wish::Try);
}

fn audited(shared: &Arc<Shared>, client: NodeId, issue: &Issue, verdict: AuditVerdict, now: Now) {
    let (node, model) = (issue.node, issue.model);
    {
        let mut live = shared.live();
        live.ended(node, model, Ended::Without, now);
        live.audited(node, issue.part == Part::Subject, now);
    }
    if verdict.passed {
        shared.counters.audits_passed.count();
        if shared.observed().audit_passed(node, client, now) {
            shared.live().tried(node, model, true, now);
        }
        return;
    }
    shared.counters.audits_failed.count();
    tracing::warn!(
        node = %node.short(),
        distance_milli = verdict.distance_milli,
        "a client says its answer is not the model's"
    );
    if shared.testimony().accused(node, client, now.steady_ms) {
        shared.observed().canary(node, false);
        if shared.live().tried(node, model, false, now) {
            shared.counters.ejections.count();
        }
    } else {
        measuring::wish(shared, node, model, Wish::Try);
    }
}

/// A complete answer shows how fast a stream of its batch was.
fn refine(shared: &Shared, issue: &Issue, outcome: &Outcome, now: Now) {
    let Outcome { completion_tokens, generation_ms, .. } = *outcome;
    if completion_tokens < TIMED_TOKENS_MIN || generation_ms == 0 {
        return;
    }
    // The time runs from the first token to the last: one step less than there are tokens.
    let milli = u64::from(completion_tokens - 1) * 1_000_000 / u64::from(generation_ms);
    let shown = u32::try_from(milli).unwrap_or(u32::MAX);
    let Some(rates) = shared.observed().of(issue.node).and_then(|seen| seen.rates(issue.model)).copied() else {
        return;
    };
    let bounded = within(shown, issue.batch, &rates);
    let refined = shared.observed().refine(issue.node, issue.model, issue.batch, bounded);
    if let Some(refined) = refined {
        shared.live().refined(issue.node, issue.model, refined, (issue.batch, shown), now);
    }
}

/// One client's word moves a rate only so far.
fn within(shown: u32, batch: u32, rates: &Rates) -> u32 {
    let expected = (1e6 / rates.step_ms(batch)) as u64;
    let (low, high) = REFINED_PERCENT;
    let bound = |percent: u32| u32::try_from(expected * u64::from(percent) / 100).unwrap_or(u32::MAX);
    shown.clamp(bound(low), bound(high))
}

/// A trial of our own that began at `begun_steady_ms` broke off: no proof by itself, for the machine may have been closed
/// over it. It counts as one failure, and the next trial follows, so that a node which fails them all is soon ejected
/// without another user's task. One that is ejected is tried when it is due.
pub(crate) fn trial_broke(shared: &Arc<Shared>, node: NodeId, model: ModelDigest, begun_steady_ms: u64) {
    let now = shared.now();
    if shared.live().is_excused(node, model, now) {
        return;
    }
    shared.counters.trials_failed.count();
    let (ejected, was_ejected) = {
        let mut live = shared.live();
        let was_ejected = live.record_of(node, model).is_ejected();
        (live.trial_broke(node, model, begun_steady_ms, now), was_ejected)
    };
    if ejected {
        shared.counters.ejections.count();
        shared.testimony().tried(node, false, now.steady_ms);
        shared.observed().canary(node, false);
        tracing::warn!(node = %node.short(), "it failed tasks of the orchestrator's own");
    }
    if ejected || was_ejected {
        return;
    }
    let owner = Arc::clone(shared);
    shared.spawn(async move {
        sleep(TRIED_AGAIN_AFTER).await;
        measuring::wish(&owner, node, model, Wish::Try);
    });
}

/// What a trial of our own found, if it found anything.
pub(crate) fn tried(shared: &Shared, node: NodeId, model: ModelDigest, passed: bool) {
    let now = shared.now();
    let counter = if passed { &shared.counters.trials_passed } else { &shared.counters.trials_failed };
    counter.count();
    shared.testimony().tried(node, passed, now.steady_ms);
    if passed {
        shared.grudges().second_chance(node);
    }
    shared.observed().canary(node, passed);
    gossip::tried(shared, node, model, passed);
    if shared.live().tried(node, model, passed, now) {
        shared.counters.ejections.count();
        tracing::warn!(node = %node.short(), "it failed a task of the orchestrator's own");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_task_moves_a_rate_only_so_far() {
        let rates = Rates { prefill_milli: 1, decode_milli: [100_000, 0, 0, 0] };
        assert_eq!([0, 90_000, u32::MAX].map(|shown| within(shown, 1, &rates)), [50_000, 90_000, 150_000]);
    }
}
