//! Credits move from one place to another, never otherwise: every posting takes from one what it gives to the other.

use crate::{LedgerError, draft::Draft, keys, records::Account};
use protocol::{ids::AccountId, limits, market::HoldId};

/// Where credits can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Nowhere yet: the pool issues them. The only place with a balance below zero, which is that of all others together.
    Issue,
    /// With an account, to be spent.
    Available(AccountId),
    /// With an account, held for its tasks.
    Held(AccountId),
}

/// One movement of credits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Posting {
    /// From where.
    pub from: Place,
    /// To where.
    pub to: Place,
    /// How much, in micro-credits.
    pub amount_micro: u64,
    /// For whose work on which task, if for one.
    pub hold: Option<HoldId>,
}

impl Place {
    fn account(self) -> Option<AccountId> {
        match self {
            Self::Issue => None,
            Self::Available(account) | Self::Held(account) => Some(account),
        }
    }

    fn balance(self, account: &mut Account) -> &mut u64 {
        match self {
            Self::Held(_) => &mut account.held_micro,
            Self::Issue | Self::Available(_) => &mut account.available_micro,
        }
    }
}

/// Moves credits, both sides or neither: nothing is written before both are known to hold.
pub(crate) fn post(draft: &mut Draft, posting: Posting) -> Result<(), LedgerError> {
    let Posting { from, to, amount_micro: amount, .. } = posting;
    if amount == 0 {
        return Ok(());
    }
    let mut changed: Vec<(AccountId, Account)> = Vec::with_capacity(2);
    if let Some(id) = from.account() {
        let mut account = draft.read(&keys::account(id)).unwrap_or_default();
        let balance = from.balance(&mut account);
        let short = LedgerError::Insufficient { available_micro: *balance, needed_micro: amount };
        *balance = balance.checked_sub(amount).ok_or(short)?;
        changed.push((id, account));
    }
    if let Some(id) = to.account() {
        // Both sides may be one account: then what the first side left is what the second starts from.
        let at = changed.iter().position(|(of, _)| *of == id).unwrap_or_else(|| {
            changed.push((id, draft.read(&keys::account(id)).unwrap_or_default()));
            changed.len() - 1
        });
        let balance = to.balance(&mut changed[at].1);
        *balance = balance.checked_add(amount).ok_or(LedgerError::Overflow)?;
        check_room(draft, id)?;
    }
    if from == Place::Issue {
        let mut totals = draft.read(&keys::totals()).unwrap_or_default();
        totals.issued_micro = totals.issued_micro.checked_add(amount).ok_or(LedgerError::Overflow)?;
        draft.write(keys::totals(), &totals);
    }
    for (id, account) in changed {
        write_account(draft, id, &account)?;
    }
    draft.happened(crate::Event::Posted(posting));
    Ok(())
}

fn check_room(draft: &Draft, id: AccountId) -> Result<(), LedgerError> {
    let is_full = draft.counts().accounts as usize >= limits::ACCOUNTS_MAX;
    if is_full && !draft.has(&keys::account(id)) { Err(LedgerError::AccountsFull) } else { Ok(()) }
}

/// Makes room for an account, so that it can be paid later.
pub(crate) fn open(draft: &mut Draft, id: AccountId) -> Result<(), LedgerError> {
    if draft.has(&keys::account(id)) { Ok(()) } else { write_account(draft, id, &Account::default()) }
}

/// Writes an account, and counts it if it is new.
pub(crate) fn write_account(draft: &mut Draft, id: AccountId, account: &Account) -> Result<(), LedgerError> {
    check_room(draft, id)?;
    if !draft.has(&keys::account(id)) {
        draft.count(|counts| counts.accounts += 1);
    }
    draft.write(keys::account(id), account);
    Ok(())
}
