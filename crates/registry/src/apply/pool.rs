//! Facts of the pool as a whole: its beginning, its policy, who stands how, and who is invited.

use crate::{
    Event, Genesis, GenesisError, PoolError, Rejection,
    draft::Draft,
    keys,
    records::{Clock, Counts, Mark, Params, Totals},
};
use protocol::{
    ids::{AccountId, NodeId},
    limits,
    pool::{Invite, PoolPolicy, Standing},
};

pub(crate) fn found(draft: &mut Draft, genesis: &Genesis) -> Result<(), Rejection> {
    if let Some(params) = draft.read(&keys::params()) {
        return if params.genesis == *genesis { Ok(()) } else { Err(Rejection::FoundedDifferently) };
    }
    let pool = genesis.pool()?;
    draft.write(keys::params(), &Params { pool, genesis: genesis.clone() });
    draft.write(keys::policy(), &PoolPolicy::default());
    draft.write(keys::totals(), &Totals::default());
    draft.write(keys::clock(), &Clock::default());
    let mut counts = Counts::default();
    draft.write(keys::standing(genesis.owner), &Standing::Owner);
    (counts.standings, counts.owners) = (1, 1);
    draft.write(keys::committee(), &genesis.committee().map_err(GenesisError::from)?);
    // The secret that all tickets share is an invite without end, until it is revoked. No key has this id: it admits
    // only those whom an orchestrator saw show the secret.
    let id = NodeId(genesis.secret_hash);
    draft.write(keys::invite(id), &Invite { id, standing: Standing::Member, uses: None, until_unix_ms: None });
    counts.invites = 1;
    draft.write(keys::counts(), &counts);
    draft.happened(Event::Founded { pool });
    Ok(())
}

pub(crate) fn set_policy(draft: &mut Draft, policy: &PoolPolicy) -> Result<(), Rejection> {
    if !policy.is_valid() {
        return Err(PoolError::Policy.into());
    }
    if draft.read(&keys::policy()).as_ref() != Some(policy) {
        draft.write(keys::policy(), policy);
        draft.happened(Event::PolicySet);
    }
    Ok(())
}

pub(crate) fn grant(
    draft: &mut Draft,
    author: AccountId,
    account: AccountId,
    standing: Standing,
) -> Result<(), Rejection> {
    set_standing(draft, author, account, Some(standing))
}

pub(crate) fn revoke(draft: &mut Draft, author: AccountId, account: AccountId) -> Result<(), Rejection> {
    set_standing(draft, author, account, None)
}

fn set_standing(
    draft: &mut Draft,
    author: AccountId,
    account: AccountId,
    standing: Option<Standing>,
) -> Result<(), Rejection> {
    let before = draft.read(&keys::standing(account));
    let by_owner = draft.read(&keys::standing(author)) == Some(Standing::Owner);
    if before >= Some(Standing::Administrator) && !by_owner {
        return Err(Rejection::NotAllowed);
    }
    if before == standing {
        return Ok(());
    }
    let mut counts = draft.counts();
    if before == Some(Standing::Owner) {
        // A pool without an owner could never have administrators again.
        counts.owners = counts.owners.checked_sub(1).filter(|left| *left > 0).ok_or(PoolError::LastOwner)?;
    }
    counts.owners += u32::from(standing == Some(Standing::Owner));
    if before.is_none() && counts.standings as usize >= limits::MEMBERS_MAX {
        return Err(PoolError::Full("accounts that stand in some way").into());
    }
    counts.standings = counts.standings + u32::from(standing.is_some()) - u32::from(before.is_some());
    draft.write(keys::counts(), &counts);
    match standing {
        Some(standing) => draft.write(keys::standing(account), &standing),
        None => draft.erase(keys::standing(account)),
    }
    draft.happened(Event::StandingSet { account, standing });
    Ok(())
}

pub(crate) fn invite(draft: &mut Draft, invite: &Invite) -> Result<(), Rejection> {
    if invite.standing >= Standing::Administrator || invite.uses == Some(0) {
        return Err(PoolError::Invite.into());
    }
    if invite.until_unix_ms.is_some_and(|until| until <= draft.now()) {
        return Err(PoolError::InviteExpired.into());
    }
    match draft.read(&keys::invite(invite.id)) {
        Some(issued) if issued == *invite => return Ok(()),
        // Otherwise an invite would get its uses back.
        Some(_) => return Err(PoolError::Invite.into()),
        None => {}
    }
    if draft.counts().invites as usize >= limits::INVITES_MAX {
        return Err(PoolError::Full("invites").into());
    }
    draft.count(|counts| counts.invites += 1);
    draft.write(keys::invite(invite.id), invite);
    draft.happened(Event::InviteIssued { invite: invite.id });
    Ok(())
}

pub(crate) fn revoke_invite(draft: &mut Draft, id: NodeId) -> Result<(), Rejection> {
    if draft.has(&keys::invite(id)) {
        end_invite(draft, id);
    }
    Ok(())
}

/// Takes one use of an invite: how its user stands by it.
pub(crate) fn use_invite(draft: &mut Draft, id: NodeId) -> Result<Standing, Rejection> {
    let mut invite = draft.read(&keys::invite(id)).ok_or(PoolError::UnknownInvite)?;
    if invite.until_unix_ms.is_some_and(|until| until <= draft.now()) {
        return Err(PoolError::InviteExpired.into());
    }
    match &mut invite.uses {
        None => {}
        Some(1) => end_invite(draft, id),
        Some(uses) => {
            *uses -= 1;
            draft.write(keys::invite(id), &invite);
        }
    }
    Ok(invite.standing)
}

fn end_invite(draft: &mut Draft, id: NodeId) {
    draft.erase(keys::invite(id));
    draft.count(|counts| counts.invites -= 1);
    draft.happened(Event::InviteEnded { invite: id });
}

pub(crate) fn measure(draft: &mut Draft, measurement: &[u8; 32], is_allowed: bool) -> Result<(), Rejection> {
    let key = keys::measurement(measurement);
    if draft.has(&key) == is_allowed {
        return Ok(());
    }
    if is_allowed {
        if draft.counts().measurements as usize >= limits::MEASUREMENTS_MAX {
            return Err(PoolError::Full("allowed measurements").into());
        }
        draft.write(key, &Mark);
        draft.count(|counts| counts.measurements += 1);
    } else {
        draft.erase(key);
        draft.count(|counts| counts.measurements -= 1);
    }
    draft.happened(Event::MeasurementSet { measurement: *measurement, is_allowed });
    Ok(())
}
