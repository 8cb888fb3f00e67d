//! Facts of money: what is given, held, settled, claimed and returned.

use crate::{
    LedgerError, PoolError, Rejection,
    apply::expiry,
    draft::Draft,
    event::Event,
    keys,
    ledger::{self, Place, Posting},
    records::{Account, Hold, Share},
};
use protocol::{
    codec,
    ids::{AccountId, NodeId},
    limits,
    link::Role,
    market::{Ack, Claim, Close, Countersigned, HoldId, Order, Price, Receipt, ReceiptLine},
    proof::Digest,
    signed::Signed,
};

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

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
    ledger::post(draft, Posting { from: Place::Issue, to, amount_micro: policy.starter_micro, hold: None })?;
    Ok(())
}

/// Holds credits of the asker's account for one node.
pub(crate) fn hold(draft: &mut Draft, signed: &Signed<Order>) -> Result<(), Rejection> {
    let order = draft.open(signed, |order| order.pool)?;
    let (id, now) = (HoldId { client: signed.signer, task: order.task, node: order.node }, draft.now());
    let asker = draft.read(&keys::member(id.client)).ok_or(Rejection::UnknownMember)?;
    if let Some(held) = draft.read(&keys::hold(id)) {
        return if held.order == signed.digest() { Ok(()) } else { Err(LedgerError::HoldExists.into()) };
    }
    if !asker.has_role(Role::Client) {
        return Err(Rejection::NotAllowed);
    }
    let lender = draft.read(&keys::member(id.node)).filter(|node| node.has_role(Role::Node));
    let payee = lender.ok_or(LedgerError::NoLender)?.account_of(id.node);
    check(&order, now)?;
    if draft.counts().holds as usize >= limits::HOLDS_MAX {
        return Err(PoolError::Full("orders that have not run out").into());
    }
    // What is promised can be paid, however many accounts there are by then.
    ledger::open(draft, payee)?;
    let (payer, day) = (asker.account_of(id.client), now / DAY_MS);
    let (from, to) = (Place::Available(payer), Place::Held(payer));
    ledger::post(draft, Posting { from, to, amount_micro: order.amount_micro, hold: Some(id) })?;
    let mut account = draft.read(&keys::account(payer)).unwrap_or_default();
    spend(draft, &mut account, day, order.amount_micro)?;
    ledger::write_account(draft, payer, &account)?;
    draft.count(|counts| counts.holds += 1);
    let mut hold = Hold {
        order: signed.digest(),
        payer,
        amount_micro: order.amount_micro,
        rest_micro: order.amount_micro,
        ceiling: order.ceiling,
        day,
        releases_unix_ms: order.until_unix_ms,
        until_unix_ms: order.until_unix_ms,
        due_minute: 0,
        share: None,
    };
    expiry::keep(draft, id, &mut hold);
    Ok(())
}

/// Whether an order is one by itself.
fn check(order: &Order, now: u64) -> Result<(), LedgerError> {
    if order.amount_micro == 0 {
        return Err(LedgerError::Nothing);
    }
    if !order.ceiling.is_valid() {
        return Err(LedgerError::Price);
    }
    if order.until_unix_ms <= now || order.until_unix_ms > now.saturating_add(limits::HOLD_LIFETIME_MS) {
        return Err(LedgerError::HoldTime);
    }
    Ok(())
}

/// Counts an order against the quotas of its payer.
fn spend(draft: &Draft, account: &mut Account, day: u64, amount_micro: u64) -> Result<(), LedgerError> {
    let policy = draft.read(&keys::policy()).unwrap_or_default();
    if account.holds >= policy.holds_per_account_max {
        return Err(LedgerError::HoldsFull { max: policy.holds_per_account_max });
    }
    if account.day != day {
        (account.day, account.day_micro) = (day, 0);
    }
    let day_micro = account.day_micro.checked_add(amount_micro).ok_or(LedgerError::Overflow)?;
    if let Some(max) = policy.day_micro_max
        && day_micro > max
    {
        return Err(LedgerError::DayUsed { left_micro: max.saturating_sub(account.day_micro) });
    }
    (account.holds, account.day_micro) = (account.holds + 1, day_micro);
    Ok(())
}

/// Pays a node what it and its asker have signed, line by line.
pub(crate) fn settle(draft: &mut Draft, countersigned: &Countersigned) -> Result<(), Rejection> {
    let receipt: Receipt = countersigned.open(draft.verifier).ok_or(Rejection::Signature)?;
    if draft.pool() != Some(receipt.pool) {
        return Err(Rejection::Signature);
    }
    let (mut is_any_new, mut refused) = (false, Vec::new());
    for line in &receipt.lines {
        let hold = HoldId { client: receipt.client, task: line.task, node: receipt.node };
        match settle_line(draft, hold, line) {
            Ok(is_new) => is_any_new |= is_new,
            Err(why) => refused.push((hold, why)),
        }
    }
    match refused.first() {
        Some((_, why)) if !is_any_new => Err((*why).into()),
        _ => {
            refused.into_iter().for_each(|(hold, why)| draft.happened(Event::LineRefused { hold, why }));
            Ok(())
        }
    }
}

/// Pays for one task; says whether it was not paid before. An error has changed nothing.
fn settle_line(draft: &mut Draft, id: HoldId, line: &ReceiptLine) -> Result<bool, LedgerError> {
    let mut hold = held(draft, id, &line.order)?;
    let receipt = line_digest(line);
    let is_released = draft.now() >= hold.releases_unix_ms;
    let at_most = match hold.share {
        Some(Share::Paid { receipt: paid, .. }) if paid == receipt => return Ok(false),
        Some(Share::Paid { .. }) => return Err(LedgerError::AlreadySettled),
        // The claim has held its part back, so that there is something to settle even after the release.
        Some(Share::Claimed { amount_micro, .. }) if is_released => amount_micro,
        None if is_released => return Err(LedgerError::Released),
        Some(Share::Claimed { .. }) | None => hold.rest_micro,
    };
    let amount_micro = due(draft, id, &hold, line.price, (line.prompt_tokens, line.output_tokens))?.min(at_most);
    pay(draft, id, &mut hold, amount_micro, receipt)?;
    expiry::keep(draft, id, &mut hold);
    Ok(true)
}

/// BLAKE3 of a line of a receipt, as the hold that it is paid from remembers it.
pub fn line_digest(line: &ReceiptLine) -> Digest {
    let bytes = codec::encode(line, limits::FACT_BYTES_MAX).expect("a line has fewer than 200 bytes");
    *blake3::hash(&bytes).as_bytes()
}

/// Credits that are held, under the order that what was signed is about.
fn held(draft: &Draft, id: HoldId, order: &Digest) -> Result<Hold, LedgerError> {
    let hold = draft.read(&keys::hold(id)).ok_or(LedgerError::NoHold)?;
    if hold.order == *order { Ok(hold) } else { Err(LedgerError::OtherOrder) }
}

/// Moves a node's share from the hold to its account. That is all that it gets for the task: the rest returns with the next
/// look at the hold.
pub(super) fn pay(
    draft: &mut Draft,
    id: HoldId,
    hold: &mut Hold,
    amount_micro: u64,
    receipt: Digest,
) -> Result<(), LedgerError> {
    let (from, to) = (Place::Held(hold.payer), Place::Available(account_of(draft, id.node)));
    ledger::post(draft, Posting { from, to, amount_micro, hold: Some(id) })?;
    hold.rest_micro -= amount_micro;
    hold.share = Some(Share::Paid { amount_micro, receipt });
    hold.releases_unix_ms = hold.releases_unix_ms.min(draft.now());
    draft.happened(Event::Settled { hold: id, amount_micro });
    Ok(())
}

/// Notes what an asker has acknowledged to a node that has no receipt. It is paid after [`limits::CLAIM_WINDOW_MS`], in
/// which a receipt, or a later acknowledgement, goes before it.
pub(crate) fn claim(draft: &mut Draft, signed: &Signed<Claim>) -> Result<(), Rejection> {
    let claim = signed.open(draft.verifier).ok_or(Rejection::Signature)?;
    let ack: Ack = draft.open(&claim.ack, |ack| ack.pool)?;
    if ack.node != signed.signer {
        return Err(Rejection::Signature);
    }
    let id = HoldId { client: claim.ack.signer, task: ack.task, node: ack.node };
    let mut hold = held(draft, id, &ack.order)?;
    let now = draft.now();
    let due_unix_ms = match hold.share {
        Some(Share::Paid { .. }) => return Err(LedgerError::AlreadySettled.into()),
        Some(Share::Claimed { due_unix_ms, .. }) => due_unix_ms,
        None => now.saturating_add(limits::CLAIM_WINDOW_MS),
    };
    if now >= hold.releases_unix_ms {
        return Err(LedgerError::Released.into());
    }
    let amount_micro = due(draft, id, &hold, ack.price, (ack.prompt_tokens, ack.output_tokens))?.min(hold.rest_micro);
    let before = hold.claimed_micro();
    if amount_micro < before {
        return Err(LedgerError::AlreadyClaimed.into());
    }
    // A claim of nothing would keep others from nothing, and change no balance.
    if amount_micro == before {
        return Ok(());
    }
    hold.share = Some(Share::Claimed { amount_micro, due_unix_ms });
    draft.happened(Event::Claimed { hold: id, amount_micro });
    expiry::keep(draft, id, &mut hold);
    Ok(())
}

/// Lets the rest of a hold return early: not at once, because its node may be about to settle.
pub(crate) fn close(draft: &mut Draft, signed: &Signed<Close>) -> Result<(), Rejection> {
    let close = draft.open(signed, |close| close.pool)?;
    let id = HoldId { client: signed.signer, task: close.task, node: close.node };
    let mut hold = held(draft, id, &close.order)?;
    let releases_unix_ms = draft.now().saturating_add(limits::CLAIM_WINDOW_MS);
    if hold.releases_unix_ms < hold.until_unix_ms || releases_unix_ms >= hold.releases_unix_ms {
        // Closed or settled before, or it ends by itself before that.
        return Ok(());
    }
    hold.releases_unix_ms = releases_unix_ms;
    draft.happened(Event::HoldClosed { hold: id });
    expiry::keep(draft, id, &mut hold);
    Ok(())
}

/// What so many tokens of a node cost its asker: nothing where both are of one account.
fn due(draft: &Draft, id: HoldId, hold: &Hold, price: Price, tokens: (u32, u32)) -> Result<u64, LedgerError> {
    if !price.is_within(hold.ceiling) {
        return Err(LedgerError::Price);
    }
    let is_own = account_of(draft, id.node) == hold.payer;
    Ok(if is_own { 0 } else { price.of(tokens.0, tokens.1) })
}

fn account_of(draft: &Draft, node: NodeId) -> AccountId {
    draft.read(&keys::member(node)).map_or(node.into(), |member| member.account_of(node))
}
