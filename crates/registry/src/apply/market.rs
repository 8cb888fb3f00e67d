//! Facts that make a market: what machines ask, and who has nothing to do with whom.

use crate::{Event, LedgerError, PoolError, Rejection, draft::Draft, keys, ledger, records::Mark};
use protocol::{
    ids::{AccountId, ModelDigest, NodeId},
    limits,
    market::Price,
    pool::Standing,
};

pub(crate) fn ask(
    draft: &mut Draft,
    author: AccountId,
    node: NodeId,
    model: ModelDigest,
    price: Option<Price>,
) -> Result<(), Rejection> {
    let mut member = draft.read(&keys::member(node)).ok_or(Rejection::UnknownMember)?;
    if author != node.into() && author != member.account_of(node) {
        return Err(Rejection::NotAllowed);
    }
    if !member.is_active() {
        return Err(Rejection::Removed);
    }
    let key = keys::ask(node, model);
    let before = draft.read(&key);
    if before == price {
        return Ok(());
    }
    match price {
        Some(price) if !price.is_valid() => return Err(LedgerError::Price.into()),
        Some(_) if before.is_none() && member.priced_models as usize >= limits::MODELS_PER_NODE_MAX => {
            return Err(PoolError::Full("asks of this machine").into());
        }
        Some(price) => draft.write(key, &price),
        None => draft.erase(key),
    }
    member.priced_models = member.priced_models + u32::from(price.is_some()) - u32::from(before.is_some());
    draft.write(keys::member(node), &member);
    draft.happened(Event::AskSet { node, model });
    Ok(())
}

pub(crate) fn block(draft: &mut Draft, author: AccountId, other: AccountId, is_blocked: bool) -> Result<(), Rejection> {
    let key = keys::block(author, other);
    // Blocks of one that neither lends nor asks would cost everybody room and serve nobody.
    let is_machine = draft.read(&keys::member(author.into())).is_some_and(|member| member.is_active());
    let takes_part = is_machine || draft.read(&keys::standing(author)) >= Some(Standing::Member);
    if !takes_part && !draft.has(&key) {
        return Err(Rejection::NotAllowed);
    }
    if draft.has(&key) == is_blocked {
        return Ok(());
    }
    let mut account = draft.read(&keys::account(author)).unwrap_or_default();
    if is_blocked {
        if account.blocks >= limits::BLOCKS_MAX {
            return Err(LedgerError::BlocksFull.into());
        }
        if draft.counts().blocks >= limits::BLOCKS_PER_POOL_MAX {
            return Err(PoolError::Full("blocked accounts").into());
        }
        account.blocks += 1;
        draft.count(|counts| counts.blocks += 1);
        draft.write(key, &Mark);
    } else {
        account.blocks -= 1;
        draft.count(|counts| counts.blocks -= 1);
        draft.erase(key);
    }
    ledger::write_account(draft, author, &account)?;
    draft.happened(Event::BlockSet { account: author, other, is_blocked });
    Ok(())
}
