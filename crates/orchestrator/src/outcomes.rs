//! How tasks ended, in the words of their clients: what of it is believed, and what follows.
//!
//! **Whose word.** Only that of the client which the permit was given to, once for each task and node
//! ([`crate::issued`]). Everything else is counted and forgotten.
//!
//! **How much.** A client may lie, and what it says changes what others get. So:
//! * A failure turns the node away from the client that reports it ([`crate::grudges`]): this needs no proof, because
//!   it costs nobody else. A node that fails everything gets at most five tasks of one client by that rule alone.
//! * In the node's own record, which is everybody's, failures of one client count [`FAILURES_PER_CLIENT`] times an hour
//!   at most, and a success that any other client reports ends the row. Words bring a node to the edge of ejection; over
//!   it, only those of three clients, and not where a trial has just passed.
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

use crate::{
    issued::{Errand, Issue},
    live::Wish,
    matching, measuring,
    shared::Shared,
};
use protocol::{
    ids::{ModelDigest, NodeId},
    link::{AuditVerdict, End, Outcome},
};
use scheduler::{Ended, Now};
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::time::sleep;
use trust::observations::Rates;

/// Failures in a row of one client that count against a node for everybody.
const FAILURES_PER_CLIENT: u32 = 2;
/// What a client said is forgotten after this time, and it has a say again.
const FAILURES_KEPT_MS: u64 = 60 * 60 * 1000;
/// Clients whose words together eject a node without a trial.
const CLIENTS_TO_EJECT: usize = 3;
/// For so long after a passed trial no words eject.
const TRIAL_HOLDS_MS: u64 = 5 * 60 * 1000;
/// Nodes and clients that are kept in mind; a node that is forgotten begins anew.
const NODES_MAX: usize = 1 << 14;
const CLIENTS_PER_NODE_MAX: usize = 64;
/// A report may come a little after the outcome that it goes with.
const JUDGED_AFTER_PROBE: Duration = Duration::from_millis(200);
/// A node whose trial broke off is tried again after this time: what froze may thaw.
const TRIED_AGAIN_AFTER: Duration = Duration::from_secs(4);
/// An answer shorter than this says little about speed.
const TIMED_TOKENS_MIN: u32 = 16;
/// One task moves a rate by what lies within these bounds of it, in percent.
const REFINED_PERCENT: (u32, u32) = (50, 150);

/// What clients hold against each node since it last did well.
#[derive(Default)]
pub(crate) struct Testimony {
    nodes: HashMap<NodeId, Against>,
}

#[derive(Default)]
struct Against {
    // Of each client, how many and since when.
    failures: HashMap<NodeId, (u32, u64)>,
    accused_by: Option<NodeId>,
    passed_steady_ms: Option<u64>,
}

impl Against {
    fn passed_lately(&self, now_steady_ms: u64) -> bool {
        self.passed_steady_ms.is_some_and(|at| now_steady_ms.saturating_sub(at) < TRIAL_HOLDS_MS)
    }
}

/// What one more failure that a client reports does to the node's record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Weight {
    /// Nothing: the client has said enough.
    None,
    /// It counts, and ejects nobody: too few say so, or a trial has just shown otherwise.
    Word,
    /// It counts like what is seen.
    Full,
}

impl Testimony {
    fn of(&mut self, node: NodeId) -> &mut Against {
        if self.nodes.len() >= NODES_MAX && !self.nodes.contains_key(&node) {
            self.nodes.clear();
        }
        self.nodes.entry(node).or_default()
    }

    /// What one more failure that this client reports is for everybody.
    fn failed(&mut self, node: NodeId, client: NodeId, now_steady_ms: u64) -> Weight {
        let against = self.of(node);
        let passed_lately = against.passed_lately(now_steady_ms);
        let failures = &mut against.failures;
        failures.retain(|_, (_, since)| now_steady_ms.saturating_sub(*since) < FAILURES_KEPT_MS);
        if failures.len() >= CLIENTS_PER_NODE_MAX && !failures.contains_key(&client) {
            return Weight::None;
        }
        let (own, _) = failures.entry(client).or_insert((0, now_steady_ms));
        *own = own.saturating_add(1);
        match *own <= FAILURES_PER_CLIENT {
            false => Weight::None,
            true if passed_lately || failures.len() < CLIENTS_TO_EJECT => Weight::Word,
            true => Weight::Full,
        }
    }

    /// A task went well. That a client takes back its own failures is its right; another's are taken back by others.
    fn success(&mut self, node: NodeId, client: NodeId) {
        if let Some(against) = self.nodes.get_mut(&node) {
            let others = against.failures.keys().any(|other| *other != client);
            let own = against.failures.remove(&client).is_some();
            if others && !own {
                against.failures.clear();
            }
        }
    }

    /// An audit failed. Whether a second client says so, and no trial has just shown otherwise.
    fn accused(&mut self, node: NodeId, client: NodeId, now_steady_ms: u64) -> bool {
        let against = self.of(node);
        let second = against.accused_by.replace(client).is_some_and(|first| first != client);
        second && !against.passed_lately(now_steady_ms)
    }

    /// A trial of our own showed how the node is. What clients have said already still counts as said: a trial that
    /// passes gives nobody a new say.
    fn tried(&mut self, node: NodeId, passed: bool, now_steady_ms: u64) {
        let against = self.of(node);
        against.accused_by = None;
        against.passed_steady_ms = passed.then_some(now_steady_ms);
    }
}

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
    match (issue.errand, outcome.audit) {
        (Errand::Subject, Some(verdict)) => audited(shared, client, &issue, verdict, now),
        // The odd one out may be the referee. That it scores as others do proves nothing of what it generates.
        (Errand::Referee, Some(verdict)) if !verdict.passed => audited(shared, client, &issue, verdict, now),
        (errand, _) => {
            if errand == Errand::Subject {
                shared.live().audited(issue.node, false, now);
                // Without a verdict it is no success: it may have been anything.
                if outcome.end == End::Completed {
                    shared.live().ended(issue.node, issue.model, Ended::Without, now);
                    return;
                }
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
        sleep(owner.timings.probe_max + JUDGED_AFTER_PROBE).await;
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
    shared.grudges().failed(client, node, now.steady_ms);
    let weight = shared.testimony().failed(node, client, now.steady_ms);
    let ejected = match weight {
        Weight::None => shared.live().ended(node, issue.model, Ended::Without, now),
        Weight::Word => {
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
        live.audited(node, issue.errand == Errand::Subject, now);
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

/// A trial of our own broke off: no proof by itself, for the machine may have been closed over it. It counts as one
/// failure, and the next trial follows, so that a node which fails them all is soon ejected without another user's
/// task.
pub(crate) fn trial_broke(shared: &Arc<Shared>, node: NodeId, model: ModelDigest) {
    let now = shared.now();
    if shared.live().is_excused(node, model, now) {
        return;
    }
    shared.counters.trials_failed.count();
    if shared.live().trial_broke(node, model, now) {
        shared.counters.ejections.count();
        shared.testimony().tried(node, false, now.steady_ms);
        shared.observed().canary(node, false);
        tracing::warn!(node = %node.short(), "it failed tasks of the orchestrator's own");
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
    if shared.live().tried(node, model, passed, now) {
        shared.counters.ejections.count();
        tracing::warn!(node = %node.short(), "it failed a task of the orchestrator's own");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = NodeId([1; 32]);
    const LIAR: NodeId = NodeId([2; 32]);
    const OTHER: NodeId = NodeId([3; 32]);

    #[test]
    fn one_client_s_failures_count_twice_and_another_s_success_ends_them() {
        let mut testimony = Testimony::default();
        let counted = (0..100).filter(|_| testimony.failed(NODE, LIAR, 0) != Weight::None).count();
        assert_eq!(counted, FAILURES_PER_CLIENT as usize);
        assert_eq!(testimony.failed(NODE, OTHER, 0), Weight::Word);
        testimony.success(NODE, LIAR);
        assert_eq!(testimony.failed(NODE, OTHER, 0), Weight::Word, "taking back one's own leaves the others'");
        assert_eq!(testimony.failed(NODE, OTHER, 0), Weight::None);
        testimony.success(NODE, NodeId([4; 32]));
        assert_eq!([LIAR, OTHER].map(|client| testimony.failed(NODE, client, 0)), [Weight::Word; 2]);
    }

    #[test]
    fn three_voices_eject_unless_a_trial_has_just_passed() {
        let mut testimony = Testimony::default();
        let clients = [LIAR, OTHER, NodeId([4; 32])];
        let say = |testimony: &mut Testimony, now| clients.map(|client| testimony.failed(NODE, client, now));
        assert_eq!(say(&mut testimony, 0), [Weight::Word, Weight::Word, Weight::Full]);
        testimony.tried(NODE, true, 1);
        assert_eq!(say(&mut testimony, 2), [Weight::Word; 3]);
        assert_eq!(say(&mut testimony, TRIAL_HOLDS_MS + 1), [Weight::None; 3], "a trial gives no new say");
        assert_eq!(say(&mut testimony, FAILURES_KEPT_MS), [Weight::Word, Weight::Word, Weight::Full]);
    }

    #[test]
    fn an_accusation_needs_a_second_voice() {
        let mut testimony = Testimony::default();
        assert!((0..100).all(|_| !testimony.accused(NODE, LIAR, 0)));
        assert!(testimony.accused(NODE, OTHER, 0));
        testimony.tried(NODE, true, 0);
        assert!(!testimony.accused(NODE, OTHER, 1));
        assert!(!testimony.accused(NODE, LIAR, 1), "a trial has just shown otherwise");
        assert!(testimony.accused(NODE, OTHER, TRIAL_HOLDS_MS));
    }

    #[test]
    fn one_task_moves_a_rate_only_so_far() {
        let rates = Rates { prefill_milli: 1, decode_milli: [100_000, 0, 0, 0] };
        assert_eq!([0, 90_000, u32::MAX].map(|shown| within(shown, 1, &rates)), [50_000, 90_000, 150_000]);
    }
}
