//! What time does to holds: claims are paid, the rest returns, and what has run out is forgotten.
//!
//! Holds are found by the minute in which they are looked at next. What counts is the time in the hold, which every fact
//! reads; when a block gets to it only decides when the credits are seen to move.

use crate::{
    Event, Rejection,
    apply::ledger::pay,
    draft::Draft,
    keys,
    ledger::{self, Place, Posting},
    records::{Clock, Hold, PastCommittee, Share},
    state::BlockContext,
};
use protocol::{header::Committee, market::HoldId};

const MINUTE_MS: u64 = 60_000;
/// Holds that one block looks at.
const HOLDS_PER_BLOCK_MAX: usize = 64;
/// Minutes that one block passes: after a long silence the next blocks catch up.
const MINUTES_PER_BLOCK_MAX: usize = 1_024;

/// Begins a block: sets the time, and does what is due by it.
pub(crate) fn begin(draft: &mut Draft, context: &BlockContext) -> Result<(), Rejection> {
    let BlockContext { height, epoch, unix_ms } = *context;
    let Some(mut clock) = draft.read(&keys::clock()) else { return Err(Rejection::NotFounded) };
    if unix_ms < clock.unix_ms || height <= clock.height || epoch < clock.epoch {
        return Err(Rejection::Time);
    }
    if epoch > clock.epoch
        && let Some(next) = draft.read(&keys::next_committee())
    {
        change_over(draft, epoch, next);
    }
    clock = Clock { height, epoch, unix_ms, ..clock };
    draft.write(keys::clock(), &clock);
    let (mut holds, mut minutes) = (0, 0);
    let last = unix_ms / MINUTE_MS;
    while draft.counts().dues > 0 && clock.minute <= last && holds < HOLDS_PER_BLOCK_MAX {
        match draft.read(&keys::due_count(clock.minute)) {
            Some(number) => {
                holds += 1;
                look(draft, clock.minute, number - 1);
            }
            None if minutes >= MINUTES_PER_BLOCK_MAX => break,
            None => {
                minutes += 1;
                clock.minute += 1;
            }
        }
    }
    if draft.counts().dues == 0 {
        // Nothing is due in any minute: none has to be passed one by one.
        clock.minute = clock.minute.max(last);
    }
    draft.write(keys::clock(), &clock);
    Ok(())
}

/// The next committee takes over; of those before, the last one is remembered.
fn change_over(draft: &mut Draft, epoch: u64, next: Committee) {
    let since_epoch = draft.read(&keys::past_committee()).map_or(0, |past| past.until_epoch);
    if let Some(committee) = draft.read(&keys::committee()) {
        draft.write(keys::past_committee(), &PastCommittee { committee, since_epoch, until_epoch: epoch });
    }
    draft.erase(keys::next_committee());
    draft.write(keys::committee(), &next);
    draft.happened(Event::CommitteeChanged { epoch, committee: next.digest() });
}

/// Takes one entry of a minute, the last one, and does what is due.
fn look(draft: &mut Draft, minute: u64, number: u32) {
    let due = draft.read(&keys::due(minute, number));
    draft.erase(keys::due(minute, number));
    match number {
        0 => draft.erase(keys::due_count(minute)),
        left => draft.write(keys::due_count(minute), &left),
    }
    draft.count(|counts| counts.dues -= 1);
    let Some(id) = due else { return };
    // A hold that was put forward since, or is gone, has left its entry behind.
    if let Some(mut hold) = draft.read(&keys::hold(id)).filter(|hold| hold.due_minute == minute) {
        hold.due_minute = 0;
        keep(draft, id, &mut hold);
    }
}

/// Does what is due for a hold, and writes it: with the next time at which it is looked at, or not at all.
pub(crate) fn keep(draft: &mut Draft, id: HoldId, hold: &mut Hold) {
    let now = draft.now();
    if let Some(Share::Claimed { amount_micro, due_unix_ms }) = hold.share
        && due_unix_ms <= now
        // Whom credits are held for has an account, so this pays; if it did not, they would return.
        && pay(draft, id, hold, amount_micro, [0; 32]).is_err()
    {
        hold.share = Some(Share::Paid { amount_micro: 0, receipt: [0; 32] });
    }
    let free = hold.free_micro();
    if now >= hold.releases_unix_ms && free > 0 {
        let (from, to) = (Place::Held(hold.payer), Place::Available(hold.payer));
        let posting = Posting { from, to, amount_micro: free, hold: Some(id) };
        ledger::post(draft, posting).expect("an account holds what its holds have left, and exists");
        hold.rest_micro -= free;
        unspend(draft, hold, free);
    }
    match next(hold, now) {
        Some(next_unix_ms) => {
            let minute = next_unix_ms.div_ceil(MINUTE_MS);
            if hold.due_minute == 0 || minute < hold.due_minute {
                hold.due_minute = minute;
                let number = draft.read(&keys::due_count(minute)).unwrap_or(0);
                draft.write(keys::due(minute, number), &id);
                draft.write(keys::due_count(minute), &(number + 1));
                draft.count(|counts| counts.dues += 1);
            }
            draft.write(keys::hold(id), hold);
        }
        None => {
            draft.erase(keys::hold(id));
            draft.count(|counts| counts.holds -= 1);
            let mut account = draft.read(&keys::account(hold.payer)).unwrap_or_default();
            account.holds -= 1;
            draft.write(keys::account(hold.payer), &account);
        }
    }
}

/// What returns on the day on which it was held was not spent on it.
fn unspend(draft: &mut Draft, hold: &Hold, returned_micro: u64) {
    let mut account = draft.read(&keys::account(hold.payer)).unwrap_or_default();
    if account.day == hold.day {
        account.day_micro = account.day_micro.saturating_sub(returned_micro);
        draft.write(keys::account(hold.payer), &account);
    }
}

/// When something is due for a hold, if anything still is: always after `now`.
fn next(hold: &Hold, now: u64) -> Option<u64> {
    let claim_unix_ms = match hold.share {
        Some(Share::Claimed { due_unix_ms, .. }) => Some(due_unix_ms),
        Some(Share::Paid { .. }) | None => None,
    };
    [hold.releases_unix_ms, hold.until_unix_ms].into_iter().chain(claim_unix_ms).filter(|at| *at > now).min()
}
