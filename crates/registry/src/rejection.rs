//! Why a fact is none.

use crate::GenesisError;
use protocol::{header::CommitteeError, limits};
use trust::observations::ObservationsError;

/// Why a fact is none. Nothing has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// There is no pool yet.
    #[error("the log does not begin with a genesis")]
    NotFounded,
    /// There is another pool already.
    #[error("the log has another genesis")]
    FoundedDifferently,
    /// The genesis founds nothing.
    #[error("{0}")]
    Genesis(#[from] GenesisError),
    /// The machine was removed, which is for good: it would need a new identity and a ticket.
    #[error("this machine was removed from the pool")]
    Removed,
    /// No such member.
    #[error("this machine is no member of the pool")]
    UnknownMember,
    /// More than [`limits::MEMBERS_MAX`].
    #[error("the pool has {} members, more than that it cannot have", limits::MEMBERS_MAX)]
    MembersFull,
    /// The model is not one that a pool can have.
    #[error("{0}")]
    Model(#[from] ModelError),
    /// More than [`limits::MODELS_MAX`], or than [`limits::MODELS_EVER_MAX`] with those that were removed.
    #[error("the pool has {} models, or has had {}: it cannot have more", limits::MODELS_MAX, limits::MODELS_EVER_MAX)]
    ModelsFull,
    /// Something else was agreed on for this epoch, or a later one.
    #[error("observations of this machine up to epoch {epoch} are agreed on already")]
    EpochPassed {
        /// Up to which.
        epoch: u64,
    },
    /// The observations are none.
    #[error("{0}")]
    Observations(#[from] ObservationsError),
    /// Who says it may not say it.
    #[error("this may not be said by its author")]
    NotAllowed,
    /// A signature in it does not hold, or is over something else.
    #[error("a signature in it does not hold")]
    Signature,
    /// The bundle that it came in is none.
    #[error("{0}")]
    Bundle(#[from] BundleError),
    /// The time does not follow the time that was agreed on before.
    #[error("time goes backwards")]
    Time,
    /// A matter of the pool.
    #[error("{0}")]
    Pool(#[from] PoolError),
    /// A matter of money.
    #[error("{0}")]
    Ledger(#[from] LedgerError),
}

/// A bundle of facts that counts for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// It was not signed by its author, or changed.
    #[error("the signature of a bundle does not hold")]
    Signature,
    /// It is for another pool.
    #[error("the bundle is for another pool")]
    OtherPool,
    /// It has no facts, or too many.
    #[error("a bundle has 1 to {} facts", limits::BUNDLE_FACTS_MAX)]
    Size,
    /// One of its facts is longer than [`limits::FACT_BYTES_MAX`].
    #[error("a fact has at most {} bytes", limits::FACT_BYTES_MAX)]
    FactTooLong,
    /// Its author has said this, or something later, before.
    #[error("a bundle with sequence number {last} counts already: the next one needs a higher number")]
    Replayed {
        /// The last number.
        last: u64,
    },
    /// It came too late, or is good for too long.
    #[error("the bundle has run out, or is to hold for more than ten minutes: check the clock of this machine")]
    Expired,
}

/// A matter of the pool that cannot be so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PoolError {
    /// The policy is not in its one form, or beyond its limits.
    #[error("a policy names its models and regions once, in ascending order, and keeps to the limits")]
    Policy,
    /// Nobody would be left to name administrators.
    #[error("a pool needs an owner: name another one first")]
    LastOwner,
    /// The invite gives what an invite cannot give.
    #[error("an invite is for members and auditors, and for at least one use")]
    Invite,
    /// No such invite, or it was used up or revoked.
    #[error("this invite does not count, or no more: ask for a new one")]
    UnknownInvite,
    /// It names no keys, too many, one twice, or two that lend.
    #[error(
        "an invite is used by one home: by at most {} of its keys, of which one lends",
        limits::REDEMPTION_KEYS_MAX
    )]
    Redemption,
    /// Its time is over.
    #[error("this invite has run out: ask for a new one")]
    InviteExpired,
    /// Labels are not in their one form.
    #[error("labels are named once, in ascending order, at most {}", limits::POOL_LABELS_MAX)]
    Labels,
    /// More than the limit.
    #[error("the pool cannot have more {0}")]
    Full(&'static str),
    /// A later link of the machine counts already, or counted until it was undone.
    #[error("link {last} of this machine counts already, or was undone: the machine signs one with a higher number")]
    LinkReplayed {
        /// The last number.
        last: u64,
    },
    /// The machines are no committee.
    #[error("{0}")]
    Committee(#[from] CommitteeError),
    /// One is to come and to go.
    #[error("an orchestrator is to be added and removed at once")]
    BothWays,
    /// More than may change at once.
    #[error("of this committee {max} may come or go at once: let that take over, then change more")]
    TooManyChanges {
        /// How many may.
        max: usize,
    },
    /// The machine was in no committee of that epoch, or the epoch is too long ago, or has not begun.
    #[error("this machine was no orchestrator in that epoch, as far as is known")]
    NotInCommittee,
    /// None, or too long.
    #[error("the evidence of a fault has 1 to {} bytes", limits::FAULT_EVIDENCE_BYTES_MAX)]
    Evidence,
}

/// A matter of money that cannot be so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// Less than is needed.
    #[error("the account has {available_micro} micro-credits, {needed_micro} are needed")]
    Insufficient {
        /// What it has.
        available_micro: u64,
        /// What it needs.
        needed_micro: u64,
    },
    /// More than 64 bits, which no sum of issued credits reaches.
    #[error("the amount is beyond what can be counted")]
    Overflow,
    /// The pool gives no more.
    #[error("the pool has given all the credits that its policy lets it give")]
    QuotaUsed,
    /// The account has held on this day what the policy allows.
    #[error("the account can spend {left_micro} more micro-credits today (UTC): wait for tomorrow")]
    DayUsed {
        /// What it can still spend.
        left_micro: u64,
    },
    /// The account has as many orders as the policy allows.
    #[error("the account has {max} orders that have not run out: wait for one to do so")]
    HoldsFull {
        /// How many.
        max: u32,
    },
    /// An order over nothing.
    #[error("an order is for at least one micro-credit")]
    Nothing,
    /// The order ends in the past, or too late.
    #[error("credits are held for {} hours at most, and not into the past", limits::HOLD_LIFETIME_MS / 3_600_000)]
    HoldTime,
    /// The machine does not lend itself, or no more.
    #[error("this machine does not lend itself in the pool: order from another")]
    NoLender,
    /// There is another order.
    #[error("credits are held for this node's work on this task already")]
    HoldExists,
    /// Nothing is held for it, or no more.
    #[error("no credits are held for this node's work on this task")]
    NoHold,
    /// What was signed is about another order.
    #[error("credits are held for this, but under another order than was signed for")]
    OtherOrder,
    /// The time to settle is over.
    #[error("the time to settle this task is over")]
    Released,
    /// The node was paid.
    #[error("this node was paid for this task already")]
    AlreadySettled,
    /// A later acknowledgement is claimed already.
    #[error("this node claims as much or more for this task already")]
    AlreadyClaimed,
    /// Higher than prices can be, or than the order's ceiling.
    #[error("the price is above the ceiling")]
    Price,
    /// More than [`limits::ACCOUNTS_MAX`].
    #[error("the pool has {} accounts, more than that it cannot have", limits::ACCOUNTS_MAX)]
    AccountsFull,
    /// More than one account may block.
    #[error("an account blocks {} others at most", limits::BLOCKS_MAX)]
    BlocksFull,
}

/// A model that no pool can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// Empty, too long, or with characters beyond visible ASCII.
    #[error("a model's name has 1 to {} visible ASCII characters", limits::MODEL_NAME_CHARS_MAX)]
    Name,
    /// Another model has the name, and also the name with this model's digest behind it.
    #[error("another model has this name")]
    NameTaken,
    /// Too long, or with control characters.
    #[error("a licence's name has at most {} bytes and no control characters", limits::LICENCE_BYTES_MAX)]
    Licence,
    /// The pool has never had it.
    #[error("the pool has no such model")]
    Unknown,
    /// The pool does not want it.
    #[error("this model was removed from the pool")]
    Removed,
}
