//! Now and then a node is tried beside a task: by the same client, as if it were one more task of its own.
//!
//! * **How often.** Two of a hundred grants name whichever node is drawn. Besides, a node that was not named for an
//!   hour, is ejected or on probation is named when it is due.
//! * **How much.** What a trial costs, about one task and its reading by a referee, is paid for from a budget of 5 % of
//!   what is granted: each grant adds a twentieth, each trial takes two.
//! * **Never in the way.** Nothing is tried where more than 80 % of the places for the model are taken.
//!
//! The task ids are fresh, and the permits like any other, so a node cannot tell.

use crate::{
    issued::Errand as Purpose,
    live::{Granted, Named, Tried},
    shared::Shared,
};
use protocol::{
    grant::{Audit, Errand},
    ids::{ModelDigest, NodeId, TaskId},
    limits,
};
use scheduler::{Budget, Now};

/// One grant in so many is audited without an occasion.
const ONE_IN: u64 = 50;
/// What a grant adds to the budget, in thousandths of a task, and what of it is held at most.
const SHARE_MILLI: u64 = 50;
const HELD_MAX: u64 = 4;
/// What a trial costs: the subject's task, and what its referees read.
pub(crate) const COST: u32 = 2;

/// The budget for trials.
pub(crate) fn budget() -> Budget {
    Budget::new(SHARE_MILLI, 0, HELD_MAX)
}

/// A trial to go with this grant, if it is time for one.
pub(super) fn beside(shared: &Shared, client: NodeId, granted: &Granted, now: Now) -> Option<Box<Audit>> {
    let entropy = super::entropy();
    let mut budget = shared.audits();
    budget.deposit();
    let mut after = *budget;
    if !(0..COST).all(|_| after.withdraw(now.steady_ms)) {
        return None;
    }
    let tried = shared.live().try_beside(granted, entropy.is_multiple_of(ONE_IN), now, entropy.rotate_left(32))?;
    *budget = after;
    drop(budget);
    shared.counters.audits.count();
    let Tried { subject, referees } = tried;
    let subject = errand(shared, client, granted.model, subject, Purpose::Subject, now);
    let referees =
        referees.into_iter().map(|named| errand(shared, client, granted.model, named, Purpose::Referee, now));
    Some(Box::new(Audit { subject, referees: referees.collect() }))
}

fn errand(shared: &Shared, client: NodeId, model: ModelDigest, named: Named, purpose: Purpose, now: Now) -> Errand {
    let task = TaskId::random();
    shared.issued().give(client, task, &[super::issue(&named, model, purpose)], now.steady_ms);
    let node = named.reachable.node;
    let mut candidate = super::candidate(shared, client, task, model, named, now);
    if purpose == Purpose::Referee {
        // It is asked when the subject has answered, and need not take the task for a user's.
        let expires_unix_ms = now.unix_ms.saturating_add(limits::PERMIT_LIFETIME_MS + limits::CLOCK_SKEW_MS_MAX);
        candidate.permit = super::permit_until(shared, client, task, node, model, expires_unix_ms);
    }
    Errand { task, candidate }
}
