//! Now and then somebody's answer is checked by others.
//!
//! * **Whose.** Where a node is due that gets no users' tasks (it is ejected, or on probation), it is tried beside a
//!   task: by the same client, with a canary. It knows that canaries are its only work. Of a node that serves users the
//!   audited answer is one that it gives to a user, so it cannot tell which: its task, its permit and its asker are those
//!   of any other task. The dice fall when the task is granted, and only for the node that is named first.
//! * **How often.** Two of a hundred grants are drawn without an occasion; besides, the node that serves is drawn when no
//!   answer of it was checked for an hour.
//! * **How much.** What others read or write for a check, at most about two tasks, is paid for from a budget of 5 % of
//!   what is granted: each grant adds a twentieth, each check takes two.
//! * **For nothing.** Nobody pays for a check: what a node does for the pool's health it does like the others, and seldom.
//! * **Never in the way.** Nothing is checked where more than 80 % of the places for the model are taken.
//!
//! **Who reads a user's answer** is named when the answer is there, and the client asks: nobody's place or permit is held
//! for the length of an answer, and a node that is named is one that is there. The client gives the task alone; whom it
//! was drawn for stands here ([`crate::issued`]), and is forgotten when it is asked about. So a client chooses not
//! who reads; whom it gets it can steer by excluding others, as with any task. What else it can do is to ask about none, which it could at any time, or about some only, which
//! the dice bound. A permit for a referee is worth one task, and is paid for by the budget whether it is asked for or not:
//! a client cannot roll again by leaving draws unused.

use crate::{
    anchor::Anchored,
    issued::{DrawnAnswer, Issue, Part},
    live::{Drawn, Granted, Named, Tried},
    shared::Shared,
};
use protocol::{
    grant::{Audit, Canary, Errand, Locality, MatchRequest, Reading},
    ids::{ModelDigest, NodeId, TaskId},
    limits,
};
use scheduler::{Budget, Now};

/// One grant in so many is drawn without an occasion.
const ONE_IN: u64 = 50;
/// What a grant adds to the budget, in thousandths of a task, and what of it is held at most.
const SHARE_MILLI: u64 = 50;
const HELD_MAX: u64 = 4;
/// What a check costs: a canary and its reading, or two readings.
pub(crate) const COST: u32 = 2;

/// The budget for checks.
pub(crate) fn budget() -> Budget {
    Budget::new(SHARE_MILLI, 0, HELD_MAX)
}

/// What is to be checked by this grant, if it is time for it.
pub(super) fn draw(
    shared: &Shared,
    anchored: &Anchored,
    client: NodeId,
    request: &MatchRequest,
    granted: &Granted,
    now: Now,
) -> Option<Audit> {
    let entropy = super::entropy();
    let mut budget = shared.audits();
    budget.deposit();
    let mut after = *budget;
    if !(0..COST).all(|_| after.withdraw(now.steady_ms)) {
        return None;
    }
    let anyway = entropy.is_multiple_of(ONE_IN);
    let drawn = shared.live().draw(granted, says_enough(request), anyway, now, entropy.rotate_left(32))?;
    *budget = after;
    drop(budget);
    shared.counters.audits.count();
    Some(match drawn {
        Drawn::Answer => {
            let mut named = granted.candidates.iter().map(|named| named.reachable.node);
            let subject = named.next()?;
            let drawn = DrawnAnswer { subject, model: granted.model, others: named.collect() };
            shared.issued().draw(client, request.task, drawn, now.steady_ms);
            Audit::Answer
        }
        Drawn::Canary(Tried { subject, referees }) => {
            let subject = errand(shared, anchored, client, granted.model, subject, Part::Subject, now)?;
            let referees = readers(shared, anchored, client, granted.model, referees, now);
            Audit::Canary(Box::new(Canary { subject, referees }))
        }
    })
}

/// Whether the answer can be long enough to be judged. What generates no text has one token.
fn says_enough(request: &MatchRequest) -> bool {
    // What is not for the pool is not for a reader in it.
    if request.policy.locality != Locality::Pool {
        return false;
    }
    request.answer_bucket_tokens == 0 || request.answer_bucket_tokens as usize >= trust::canary::TOKENS_MIN
}

/// Who reads the answer to a task of `client`, if that was drawn.
pub(crate) fn reading(shared: &Shared, client: NodeId, task: TaskId) -> Option<Reading> {
    let now = shared.now();
    let anchored = shared.anchors.current()?;
    let DrawnAnswer { subject, model, others } = shared.issued().take_drawn(client, task, now.steady_ms)?;
    let referees = {
        let mut live = shared.live();
        if !live.has_spare(model) {
            return None;
        }
        live.readers(model, subject, &others, now, super::entropy())
    };
    if referees.is_empty() {
        return None;
    }
    let task = TaskId::random();
    let number = shared.issued().number();
    let issue = Issue { node: subject, model, part: Part::Subject, batch: 1, number, started: false };
    shared.issued().give(client, task, &[issue], now.steady_ms);
    let referees = readers(shared, &anchored, client, model, referees, now);
    let measurements = super::measurements(referees.iter().map(|errand| &errand.candidate));
    Some(Reading { task, subject, witness: anchored.witness(&measurements), referees })
}

fn readers(
    shared: &Shared,
    anchored: &Anchored,
    client: NodeId,
    model: ModelDigest,
    named: Vec<Named>,
    now: Now,
) -> Vec<Errand> {
    let errand = |named| errand(shared, anchored, client, model, named, Part::Referee, now);
    named.into_iter().filter_map(errand).collect()
}

/// `None`: the client would refuse the node.
fn errand(
    shared: &Shared,
    anchored: &Anchored,
    client: NodeId,
    model: ModelDigest,
    named: Named,
    part: Part,
    now: Now,
) -> Option<Errand> {
    let shown = anchored.shown(&named, model, now.unix_ms).ok()?;
    let task = TaskId::random();
    let issue = super::issue(&named, model, part, shared.issued().number());
    shared.issued().give(client, task, &[issue], now.steady_ms);
    let node = named.reachable.node;
    let mut candidate = super::candidate(shared, client, task, model, named, (Some(shown), None), now);
    if part == Part::Referee {
        // A second one is asked when the first has read, and need not take the task for a user's.
        let expires_unix_ms = now.unix_ms.saturating_add(limits::PERMIT_LIFETIME_MS + limits::CLOCK_SKEW_MS_MAX);
        candidate.permit = super::permit_until(shared, client, task, node, model, None, expires_unix_ms);
    }
    Some(Errand { task, candidate })
}
