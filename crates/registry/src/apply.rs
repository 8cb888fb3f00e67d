//! What each fact does.

pub(crate) mod committee;
pub(crate) mod expiry;
pub(crate) mod ledger;
pub(crate) mod market;
pub(crate) mod members;
pub(crate) mod models;
pub(crate) mod pool;

use crate::{Fact, Rejection, draft::Draft, keys, roles};
use protocol::ids::AccountId;

/// Applies one fact of this author.
pub(crate) fn fact(draft: &mut Draft, author: AccountId, fact: &Fact) -> Result<(), Rejection> {
    if !draft.has(&keys::params()) {
        return Err(Rejection::NotFounded);
    }
    if !roles::may_say(draft, author, fact) {
        return Err(Rejection::NotAllowed);
    }
    match fact {
        // Nobody may say it; who founds the pool does not get here.
        Fact::Genesis(_) => Err(Rejection::NotAllowed),
        Fact::MemberAdmitted { node, role, at_unix_ms } => members::admit(draft, *node, *role, *at_unix_ms),
        Fact::ModelAdded(entry) => models::add(draft, entry),
        Fact::MemberRemoved { node, at_unix_ms } => members::remove(draft, author, *node, *at_unix_ms),
        Fact::Observed { node, epoch, observations } => members::observe(draft, *node, *epoch, observations),
        Fact::PolicySet(policy) => pool::set_policy(draft, policy),
        Fact::StandingGranted { account, standing } => pool::grant(draft, author, *account, *standing),
        Fact::StandingRevoked { account } => pool::revoke(draft, author, *account),
        Fact::InviteIssued(invite) => pool::invite(draft, invite),
        Fact::InviteRevoked { invite } => pool::revoke_invite(draft, *invite),
        Fact::Joined { redemption } => members::join(draft, author, redemption),
        Fact::Approved { node } => members::approve(draft, *node),
        Fact::Labelled { node, region, labels } => members::label(draft, *node, region.as_ref(), labels),
        Fact::MeasurementAllowed { measurement } => pool::measure(draft, measurement, true),
        Fact::MeasurementRevoked { measurement } => pool::measure(draft, measurement, false),
        Fact::EvidenceAgreed { node, evidence } => members::agree_on_evidence(draft, *node, *evidence),
        Fact::AccountLinked { link } => members::link(draft, author, link),
        Fact::AskSet { node, model, price } => market::ask(draft, author, *node, *model, *price),
        Fact::BlockSet { other, is_blocked } => market::block(draft, author, *other, *is_blocked),
        Fact::StarterGranted { node } => ledger::start(draft, *node),
        Fact::HoldPlaced { order } => ledger::hold(draft, order),
        Fact::Settled(countersigned) => ledger::settle(draft, countersigned),
        Fact::ClaimFiled { claim } => ledger::claim(draft, claim),
        Fact::HoldClosed { close } => ledger::close(draft, close),
        Fact::CommitteeChanged { add, remove } => committee::change(draft, add, remove),
        Fact::Fault { member, epoch, view, kind, evidence } => {
            committee::fault(draft, (*member, *epoch, *kind), *view, evidence)
        }
        Fact::ModelRemoved { digest } => models::remove(draft, *digest),
        Fact::AccountUnlinked { node } => members::unlink(draft, author, *node),
    }
}
