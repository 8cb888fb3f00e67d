//! Facts of members: how they come and go, what is said and observed of them, and whose they are.

use crate::{
    Event, PoolError, Rejection,
    apply::pool,
    draft::Draft,
    keys, ledger,
    records::{AgreedEvidence, Member, Observed},
    roles,
};
use protocol::{
    ids::{AccountId, NodeId},
    limits,
    link::Role,
    market::AccountLink,
    pool::{Label, Redemption, Standing, are_valid},
    signed::Signed,
};
use trust::observations::Observations;

/// A member that was not removed.
fn member(draft: &Draft, node: NodeId) -> Result<Member, Rejection> {
    let member = draft.read(&keys::member(node)).ok_or(Rejection::UnknownMember)?;
    if member.removed_unix_ms.is_some() { Err(Rejection::Removed) } else { Ok(member) }
}

pub(crate) fn admit(draft: &mut Draft, node: NodeId, role: Role, at_unix_ms: u64) -> Result<(), Rejection> {
    let known = draft.read(&keys::member(node));
    let is_new = known.is_none();
    if is_new && draft.counts().members as usize >= limits::MEMBERS_MAX {
        return Err(Rejection::MembersFull);
    }
    let mut member = known.unwrap_or_else(|| Member::new(at_unix_ms));
    if member.removed_unix_ms.is_some() {
        return Err(Rejection::Removed);
    }
    if std::mem::replace(member.role(role), true) {
        return Ok(());
    }
    if is_new {
        // Who is in already does not wait again for a second role.
        member.is_pending = draft.read(&keys::policy()).is_some_and(|policy| policy.needs_approval);
        draft.count(|counts| counts.members += 1);
    }
    draft.happened(match member.is_pending {
        true => Event::ApprovalAwaited { node },
        false => Event::MemberAdmitted { node, role },
    });
    draft.write(keys::member(node), &member);
    Ok(())
}

pub(crate) fn join(draft: &mut Draft, author: AccountId, signed: &Signed<Redemption>) -> Result<(), Rejection> {
    let redemption = draft.open(signed, |redemption| redemption.pool)?;
    if !redemption.is_valid() {
        return Err(PoolError::Redemption.into());
    }
    let keys = &redemption.keys;
    // An orchestrator says it for the machine that it saw at the door.
    if !keys.iter().any(|(key, _)| author == (*key).into()) && !roles::is_orchestrator(draft, author) {
        return Err(Rejection::NotAllowed);
    }
    // Who is in already does not use the invite up.
    let has_role =
        |(key, role): &(NodeId, Role)| draft.read(&keys::member(*key)).is_some_and(|mut member| *member.role(*role));
    if keys.iter().all(has_role) {
        return keys.iter().try_for_each(|(key, _)| member(draft, *key).map(drop));
    }
    let reads_only = |standing: Standing| standing < Standing::Member;
    let is_auditor = |(key, _): &(NodeId, Role)| draft.read(&keys::standing((*key).into())) == Some(Standing::Auditor);
    let makes_more = draft.read(&keys::invite(signed.signer)).is_some_and(|invite| !reads_only(invite.standing));
    if !makes_more && keys.iter().all(is_auditor) {
        return Ok(());
    }
    let standing = pool::use_invite(draft, signed.signer)?;
    let now = draft.now();
    for (key, role) in keys {
        // Standing comes with the first joining: what was revoked since does not come back with a second role.
        let is_new = !draft.has(&keys::member(*key));
        if !reads_only(standing) {
            admit(draft, *key, *role, now)?;
            if is_new {
                let others = keys.iter().map(|(other, _)| *other).filter(|other| other != key);
                let mut member = member(draft, *key)?;
                member.household = others.collect();
                draft.write(keys::member(*key), &member);
            }
        } else if !is_new {
            // An auditor reads, and takes no part. Who takes part, or did, is none by an invite.
            return Err(Rejection::NotAllowed);
        }
        if is_new && !draft.has(&keys::standing((*key).into())) {
            if draft.counts().standings as usize >= limits::MEMBERS_MAX {
                return Err(PoolError::Full("accounts that stand in some way").into());
            }
            draft.count(|counts| counts.standings += 1);
            draft.write(keys::standing((*key).into()), &standing);
            draft.happened(Event::StandingSet { account: (*key).into(), standing: Some(standing) });
        }
    }
    Ok(())
}

/// Other keys that joined with a machine, and say so themselves: what one says of another is not enough.
fn household(draft: &Draft, node: NodeId) -> Vec<NodeId> {
    let of = |key| draft.read(&keys::member(key)).map(|member| member.household).unwrap_or_default();
    let mut others = of(node);
    others.retain(|other| of(*other).contains(&node));
    others
}

pub(crate) fn approve(draft: &mut Draft, node: NodeId) -> Result<(), Rejection> {
    approve_one(draft, node)?;
    for other in household(draft, node) {
        if member(draft, other).is_ok() {
            approve_one(draft, other)?;
        }
    }
    Ok(())
}

fn approve_one(draft: &mut Draft, node: NodeId) -> Result<(), Rejection> {
    let mut member = member(draft, node)?;
    if !std::mem::take(&mut member.is_pending) {
        return Ok(());
    }
    draft.write(keys::member(node), &member);
    for role in [Role::Node, Role::Client] {
        if member.has_role(role) {
            draft.happened(Event::MemberAdmitted { node, role });
        }
    }
    Ok(())
}

pub(crate) fn remove(draft: &mut Draft, author: AccountId, node: NodeId, at_unix_ms: u64) -> Result<(), Rejection> {
    remove_one(draft, author, node, at_unix_ms)?;
    for other in household(draft, node) {
        match remove_one(draft, author, other, at_unix_ms) {
            // Its account has risen since.
            Ok(()) | Err(Rejection::NotAllowed) => {}
            Err(rejection) => return Err(rejection),
        }
    }
    Ok(())
}

fn remove_one(draft: &mut Draft, author: AccountId, node: NodeId, at_unix_ms: u64) -> Result<(), Rejection> {
    let mut member = draft.read(&keys::member(node)).ok_or(Rejection::UnknownMember)?;
    if !may_remove(draft, author, [node.into(), member.account_of(node)]) {
        return Err(Rejection::NotAllowed);
    }
    if member.removed_unix_ms.is_some() {
        return Ok(());
    }
    // The account keeps what it has earned, and is paid for what was done before.
    member.removed_unix_ms = Some(at_unix_ms);
    draft.write(keys::member(node), &member);
    draft.erase(keys::observed(node));
    let own = draft.read(&keys::standing(node.into()));
    if own.is_some_and(|standing| standing < Standing::Administrator) {
        draft.erase(keys::standing(node.into()));
        draft.count(|counts| counts.standings -= 1);
        draft.happened(Event::StandingSet { account: node.into(), standing: None });
    }
    draft.happened(Event::MemberRemoved { node });
    Ok(())
}

/// Administrators remove nobody's machines who stands as they do or higher, their own apart: else any of them could put
/// the owner out.
fn may_remove(draft: &Draft, author: AccountId, accounts: [AccountId; 2]) -> bool {
    let stands = |account| draft.read(&keys::standing(account));
    roles::is_orchestrator(draft, author)
        || stands(author) == Some(Standing::Owner)
        || accounts.into_iter().all(|account| account == author || stands(account) < Some(Standing::Administrator))
}

pub(crate) fn observe(
    draft: &mut Draft,
    node: NodeId,
    epoch: u64,
    observations: &Observations,
) -> Result<(), Rejection> {
    member(draft, node)?;
    observations.check()?;
    if let Some(agreed) = draft.read(&keys::observed(node)) {
        if agreed.epoch == epoch && agreed.observations == *observations {
            return Ok(());
        }
        if agreed.epoch >= epoch {
            return Err(Rejection::EpochPassed { epoch: agreed.epoch });
        }
    }
    draft.write(keys::observed(node), &Observed { epoch, observations: observations.clone() });
    draft.happened(Event::Observed { node, epoch });
    Ok(())
}

pub(crate) fn label(
    draft: &mut Draft,
    node: NodeId,
    region: Option<&Label>,
    labels: &[Label],
) -> Result<(), Rejection> {
    if !are_valid(labels, limits::POOL_LABELS_MAX) || !region.is_none_or(Label::is_valid) {
        return Err(PoolError::Labels.into());
    }
    describe(draft, node, |member| {
        member.region = region.cloned();
        member.labels = labels.to_vec();
    })
}

pub(crate) fn agree_on_evidence(draft: &mut Draft, node: NodeId, evidence: AgreedEvidence) -> Result<(), Rejection> {
    describe(draft, node, |member| member.evidence = Some(evidence))
}

pub(crate) fn link(draft: &mut Draft, author: AccountId, signed: &Signed<AccountLink>) -> Result<(), Rejection> {
    let link = draft.open(signed, |link| link.pool)?;
    // Both say it: a machine gives its credits to nobody by accident, and nobody takes on a machine's debts.
    if link.account != author {
        return Err(Rejection::NotAllowed);
    }
    let node = signed.signer;
    let (before, account) = (member(draft, node)?, Some(author).filter(|account| *account != node.into()));
    if link.number <= before.link_number {
        let is_same = link.number == before.link_number && account == before.account;
        return if is_same { Ok(()) } else { Err(PoolError::LinkReplayed { last: before.link_number }.into()) };
    }
    // Whoever it belongs to can be paid, also after the link is undone.
    ledger::open(draft, author)?;
    ledger::open(draft, node.into())?;
    describe(draft, node, |member| (member.account, member.link_number) = (account, link.number))
}

/// The number of the link stays, so that the link does not count again.
pub(crate) fn unlink(draft: &mut Draft, author: AccountId, node: NodeId) -> Result<(), Rejection> {
    let mut member = draft.read(&keys::member(node)).ok_or(Rejection::UnknownMember)?;
    if member.account != Some(author) {
        return Err(Rejection::NotAllowed);
    }
    member.account = None;
    draft.write(keys::member(node), &member);
    draft.happened(Event::MemberDescribed { node });
    Ok(())
}

fn describe(draft: &mut Draft, node: NodeId, change: impl FnOnce(&mut Member)) -> Result<(), Rejection> {
    let before = member(draft, node)?;
    let mut after = before.clone();
    change(&mut after);
    if after != before {
        draft.write(keys::member(node), &after);
        draft.happened(Event::MemberDescribed { node });
    }
    Ok(())
}
