//! Facts of money: what is given, held, settled, claimed and returned.

use crate::{
    LedgerError, Rejection,
    apply::expiry,
    draft::Draft,
    event::Event,
    keys,
    ledger::{self, Place, Posting},
    records::{Hold, Share},
};
use protocol::{
    ids::{AccountId, NodeId},
    limits,
    link::Role,
    market::{Ack, Claim, Close, Countersigned, Order, Price, Receipt},
    signed::Signed,
};

/// Gives an account what accounts are given when they begin: once, and for a machine that takes part.
pub(crate) fn start(draft: &mut Draft, node: NodeId) -> Result<(), Rejection> {
    let member = draft.read(&keys::member(node)).ok_or(Rejection::UnknownMember)?;
    if !member.is_active() {
        return Err(Rejection::Removed);
    }
    let id = member.account_of(node);
    let policy = draft.read(&keys::policy()).unwrap_or_default();
    // A machine that comes under another account brings nothing more: its own account remembers.
    for account in [id, node.into()] {
        if draft.read(&keys::account(account)).is_some_and(|account| account.has_started) {
            return Ok(());
        }
    }
    if policy.starter_micro == 0 {
        return Ok(());
    }
    let issued = draft.read(&keys::totals()).unwrap_or_default().issued_micro;
    if issued.checked_add(policy.starter_micro).is_none_or(|sum| sum > policy.issue_micro_max) {
        return Err(LedgerError::QuotaUsed.into());
    }
    for started in [node.into(), id] {
        let mut account = draft.read(&keys::account(started)).unwrap_or_default();
        account.has_started = true;
        ledger::write_account(draft, started, &account)?;
    }
    let to = Place::Available(id);
    ledger::post(draft, Posting { from: Place::Issue, to, amount_micro: policy.starter_micro, task: None })?;
    Ok(())
}

/// Holds credits of the asker's account.
pub(crate) fn hold(draft: &mut Draft, signed: &Signed<Order>) -> Result<(), Rejection> {
    let order = draft.open(signed, |order| order.pool)?;
    let (client, task, now) = (signed.signer, order.task, draft.now());
    let asker = draft.read(&keys::member(client)).ok_or(Rejection::UnknownMember)?;
    if let Some(held) = draft.read(&keys::hold(client, task)) {
        let order = (order.amount_micro, order.ceiling, order.until_unix_ms);
        let is_same = order == (held.amount_micro, held.ceiling, held.until_unix_ms);
        return if is_same { Ok(()) } else { Err(LedgerError::HoldExists.into()) };
    }
    if !asker.has_role(Role::Client) {
        return Err(Rejection::NotAllowed);
    }
    if order.amount_micro == 0 {
        return Err(LedgerError::Nothing.into());
    }
    if !order.ceiling.is_valid() {
        return Err(LedgerError::Price.into());
    }
    if order.until_unix_ms <= now || order.until_unix_ms > now.saturating_add(limits::HOLD_LIFETIME_MS) {
        return Err(LedgerError::HoldTime.into());
    }
    let payer = asker.account_of(client);
    let max = draft.read(&keys::policy()).unwrap_or_default().holds_per_account_max;
    if draft.read(&keys::account(payer)).unwrap_or_default().holds >= max {
        return Err(LedgerError::HoldsFull { max }.into());
    }
    if draft.counts().holds as usize >= limits::HOLDS_MAX {
        return Err(crate::PoolError::Full("tasks that hold credits").into());
    }
    let (from, to) = (Place::Available(payer), Place::Held(payer));
    ledger::post(draft, Posting { from, to, amount_micro: order.amount_micro, task: Some((client, task)) })?;
    let mut account = draft.read(&keys::account(payer)).unwrap_or_default();
    account.holds += 1;
    ledger::write_account(draft, payer, &account)?;
    draft.count(|counts| counts.holds += 1);
    let mut hold = Hold {
        payer,
        amount_micro: order.amount_micro,
        rest_micro: order.amount_micro,
        claimed_micro: 0,
        ceiling: order.ceiling,
        releases_unix_ms: order.until_unix_ms,
        until_unix_ms: order.until_unix_ms,
        due_minute: 0,
        shares: Vec::new(),
    };
    expiry::keep(draft, client, task, &mut hold);
    Ok(())
}

/// Pays a node what it and its asker have signed.
pub(crate) fn settle(draft: &mut Draft, countersigned: &Countersigned) -> Result<(), Rejection> {
    let receipt: Receipt = countersigned.open(draft.verifier).ok_or(Rejection::Signature)?;
    if draft.pool() != Some(receipt.pool) {
        return Err(Rejection::Signature);
    }
    let Receipt { client, task, node, .. } = receipt;
    let mut hold = draft.read(&keys::hold(client, task)).ok_or(LedgerError::NoHold)?;
    let digest = *blake3::hash(&countersigned.receipt.payload).as_bytes();
    let is_released = draft.now() >= hold.releases_unix_ms;
    let claimed = match hold.share(node) {
        Some(Share::Paid { receipt, .. }) if receipt == digest => return Ok(()),
        Some(Share::Paid { .. }) => return Err(LedgerError::AlreadySettled.into()),
        // The claim has held its part back, so that there is something to settle even after the release.
        Some(Share::Claimed { amount_micro, .. }) => amount_micro,
        None if is_released => return Err(LedgerError::Released.into()),
        None => 0,
    };
    let free = if is_released { 0 } else { hold.free_micro() };
    let amount_micro = due(draft, &hold, node, receipt.price, (receipt.prompt_tokens, receipt.output_tokens))?;
    let amount_micro = amount_micro.min(free.saturating_add(claimed));
    hold.claimed_micro -= claimed;
    set_share(&mut hold, node, Share::Paid { amount_micro, receipt: digest })?;
    pay(draft, &mut hold, (client, task), node, amount_micro)?;
    expiry::keep(draft, client, task, &mut hold);
    Ok(())
}

/// Moves a share from the hold to the node's account.
pub(super) fn pay(
    draft: &mut Draft,
    hold: &mut Hold,
    (client, task): (NodeId, protocol::ids::TaskId),
    node: NodeId,
    amount_micro: u64,
) -> Result<(), LedgerError> {
    let to = Place::Available(account_of(draft, node));
    ledger::post(draft, Posting { from: Place::Held(hold.payer), to, amount_micro, task: Some((client, task)) })?;
    hold.rest_micro -= amount_micro;
    draft.happened(Event::Settled { client, task, node, amount_micro });
    Ok(())
}

/// Notes what an asker has acknowledged to a node that has no receipt. It is paid after [`limits::CLAIM_WINDOW_MS`], in
/// which a receipt, or a later acknowledgement, goes before it.
pub(crate) fn claim(draft: &mut Draft, signed: &Signed<Claim>) -> Result<(), Rejection> {
    let claim = signed.open(draft.verifier).ok_or(Rejection::Signature)?;
    let ack: Ack = draft.open(&claim.ack, |ack| ack.pool)?;
    let (client, node, task) = (claim.ack.signer, signed.signer, ack.task);
    if ack.node != node {
        return Err(Rejection::Signature);
    }
    let mut hold = draft.read(&keys::hold(client, task)).ok_or(LedgerError::NoHold)?;
    let now = draft.now();
    let (before, due_unix_ms) = match hold.share(node) {
        Some(Share::Paid { .. }) => return Err(LedgerError::AlreadySettled.into()),
        Some(Share::Claimed { amount_micro, due_unix_ms }) => (Some(amount_micro), due_unix_ms),
        None => (None, now.saturating_add(limits::CLAIM_WINDOW_MS)),
    };
    if now >= hold.releases_unix_ms {
        return Err(LedgerError::Released.into());
    }
    let amount_micro = due(draft, &hold, node, ack.price, (ack.prompt_tokens, ack.output_tokens))?;
    let amount_micro = amount_micro.min(hold.free_micro().saturating_add(before.unwrap_or(0)));
    match before {
        Some(before) if before == amount_micro => return Ok(()),
        Some(before) if before > amount_micro => return Err(LedgerError::AlreadyClaimed.into()),
        _ => {}
    }
    hold.claimed_micro = hold.claimed_micro - before.unwrap_or(0) + amount_micro;
    set_share(&mut hold, node, Share::Claimed { amount_micro, due_unix_ms })?;
    draft.happened(Event::Claimed { client, task, node, amount_micro });
    expiry::keep(draft, client, task, &mut hold);
    Ok(())
}

/// Lets the rest of a hold return early: not at once, because a node of the task may be about to settle.
pub(crate) fn close(draft: &mut Draft, signed: &Signed<Close>) -> Result<(), Rejection> {
    let close = draft.open(signed, |close| close.pool)?;
    let (client, task) = (signed.signer, close.task);
    let mut hold = draft.read(&keys::hold(client, task)).ok_or(LedgerError::NoHold)?;
    let releases_unix_ms = draft.now().saturating_add(limits::CLAIM_WINDOW_MS);
    if hold.releases_unix_ms < hold.until_unix_ms || releases_unix_ms >= hold.releases_unix_ms {
        // Closed before, or it ends by itself before that.
        return Ok(());
    }
    hold.releases_unix_ms = releases_unix_ms;
    draft.happened(Event::TaskClosed { client, task });
    expiry::keep(draft, client, task, &mut hold);
    Ok(())
}

/// What so many tokens of a node cost its asker: nothing where both are of one account.
fn due(draft: &Draft, hold: &Hold, node: NodeId, price: Price, tokens: (u32, u32)) -> Result<u64, Rejection> {
    if !draft.has(&keys::member(node)) {
        return Err(Rejection::UnknownMember);
    }
    if !price.is_within(hold.ceiling) {
        return Err(LedgerError::Price.into());
    }
    let is_own = account_of(draft, node) == hold.payer;
    Ok(if is_own { 0 } else { price.of(tokens.0, tokens.1) })
}

fn account_of(draft: &Draft, node: NodeId) -> AccountId {
    draft.read(&keys::member(node)).map_or(node.into(), |member| member.account_of(node))
}

fn set_share(hold: &mut Hold, node: NodeId, share: Share) -> Result<(), LedgerError> {
    let at = hold.shares.iter().position(|(of, _)| *of == node);
    match at {
        Some(at) => hold.shares[at].1 = share,
        None if hold.shares.len() >= limits::PAID_NODES_MAX => return Err(LedgerError::TooManyNodes),
        None => hold.shares.push((node, share)),
    }
    Ok(())
}
