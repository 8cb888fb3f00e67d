//! Facts that make a market: what machines ask, and who has nothing to do with whom.

use crate::{Event, LedgerError, PoolError, Rejection, draft::Draft, keys, ledger, records::Mark};
use protocol::{
    ids::{AccountId, ModelDigest, NodeId},
    limits,
    market::Price,
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
    // A stranger's blocks would cost everybody room and serve nobody.
    let mut account = match draft.read(&keys::account(author)) {
        Some(account) => account,
        None if draft.has(&keys::member(author.into())) || draft.has(&keys::standing(author)) => Default::default(),
        None => return Err(Rejection::NotAllowed),
    };
    let key = keys::block(author, other);
    if draft.has(&key) == is_blocked {
        return Ok(());
    }
    if is_blocked {
        if account.blocks >= limits::BLOCKS_MAX {
            return Err(LedgerError::BlocksFull.into());
        }
        account.blocks += 1;
        draft.write(key, &Mark);
    } else {
        account.blocks -= 1;
        draft.erase(key);
    }
    ledger::write_account(draft, author, &account)?;
    draft.happened(Event::BlockSet { account: author, other, is_blocked });
    Ok(())
}
