//! What facts change.

use crate::{LedgerError, ledger::Posting};
use protocol::{
    fault::FaultKind,
    ids::{AccountId, ModelDigest, NodeId, PoolId},
    link::Role,
    market::HoldId,
    pool::Standing,
    proof::Digest,
};

/// What a fact changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The pool exists.
    Founded {
        /// Its id.
        pool: PoolId,
    },
    /// A machine may take part.
    MemberAdmitted {
        /// Which.
        node: NodeId,
        /// As what.
        role: Role,
    },
    /// The pool has a new model; names that others had before it are not among its names.
    ModelAdded {
        /// Which.
        digest: ModelDigest,
    },
    /// A machine may take part no more.
    MemberRemoved {
        /// Which.
        node: NodeId,
    },
    /// There are newer observations of a member.
    Observed {
        /// Of which.
        node: NodeId,
        /// Up to which epoch.
        epoch: u64,
    },
    /// The pool has another policy.
    PolicySet,
    /// An account stands differently.
    StandingSet {
        /// Which.
        account: AccountId,
        /// How; `None`: in no way.
        standing: Option<Standing>,
    },
    /// Others may join.
    InviteIssued {
        /// With which invite.
        invite: NodeId,
    },
    /// An invite counts no more: it was revoked, or used for the last time.
    InviteEnded {
        /// Which.
        invite: NodeId,
    },
    /// A machine wants to take part, and waits for an administrator.
    ApprovalAwaited {
        /// Which.
        node: NodeId,
    },
    /// The pool says something else of a machine: its labels, its evidence, or whose it is.
    MemberDescribed {
        /// Which.
        node: NodeId,
    },
    /// Workers of a measurement are allowed, or no more.
    MeasurementSet {
        /// Which.
        measurement: [u8; 32],
        /// Whether they are.
        is_allowed: bool,
    },
    /// A machine asks another price.
    AskSet {
        /// Which.
        node: NodeId,
        /// For which model.
        model: ModelDigest,
    },
    /// One account blocks another, or no more.
    BlockSet {
        /// Which.
        account: AccountId,
        /// Which other.
        other: AccountId,
        /// Whether it does.
        is_blocked: bool,
    },
    /// Credits moved.
    Posted(Posting),
    /// A node's work on a task is settled.
    Settled {
        /// Whose for whom.
        hold: HoldId,
        /// How much it was paid, in micro-credits; 0 between machines of one account.
        amount_micro: u64,
    },
    /// A node claims its share without a receipt.
    Claimed {
        /// Whose for whom.
        hold: HoldId,
        /// How much it will be paid, in micro-credits.
        amount_micro: u64,
    },
    /// A line of a receipt does not count, while others of it do. Nothing has changed by it.
    LineRefused {
        /// Whose for whom.
        hold: HoldId,
        /// Why.
        why: LedgerError,
    },
    /// A node works on a task no more: what is left of its hold will return.
    HoldClosed {
        /// Whose for whom.
        hold: HoldId,
    },
    /// Another committee will take over with the next epoch, or the present one stays after all.
    NextCommitteeSet {
        /// The digest of the committee of the next epoch.
        committee: Digest,
    },
    /// Another committee has taken over.
    CommitteeChanged {
        /// From which epoch on.
        epoch: u64,
        /// Its digest.
        committee: Digest,
    },
    /// A member of a committee has contradicted itself.
    Faulted {
        /// Who.
        member: NodeId,
        /// In which epoch.
        epoch: u64,
        /// How.
        kind: FaultKind,
    },
    /// The pool has a model no more.
    ModelRemoved {
        /// Which.
        digest: ModelDigest,
    },
}
