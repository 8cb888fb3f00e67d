//! What an orchestrator shows of the ledger, and to whom: an account's balance and movements to those who can sign for it,
//! and everything to the pool's auditors and administrators.

use crate::{
    header::Anchor,
    ids::{AccountId, NodeId, PoolId},
    market::{Countersigned, HoldId, ReceiptLine},
    proof::Proof,
    signed::Signable,
    witness::Proofs,
};
use serde::{Deserialize, Serialize};

/// A question about the ledger. Whoever signs it is who asks: a machine for the account that it belongs to, or an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerQuestion {
    /// Of which pool.
    pub pool: PoolId,
    /// On whose link it is asked: on another it is no question.
    pub client: NodeId,
    /// When it was signed, in milliseconds since 1970.
    pub asked_unix_ms: u64,
    /// What is asked.
    pub about: About,
}

impl Signable for LedgerQuestion {
    const CONTEXT: &'static str = "darkbloom/ledger-question/1";
}

/// What can be asked about a ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum About {
    /// What does an account have? Of what everybody may read, [`crate::link::Question::Prove`] shows it.
    Account(AccountId),
    /// How did credits move?
    Movements {
        /// To or from this account; `None`: of all.
        account: Option<AccountId>,
        /// In which time.
        span: Span,
    },
    /// What was paid, and what shows it?
    Settlements(Span),
}

/// A part of a ledger's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// From this time on, in milliseconds since 1970.
    pub from_unix_ms: u64,
    /// Before this time.
    pub to_unix_ms: u64,
    /// Where the answer before said that the next begins; at first 0.
    pub position: u64,
}

/// What an orchestrator shows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum LedgerAnswer {
    /// Of what the account has, what was issued to all, and the pool's policy, in this order.
    Account(Box<Proofs>),
    /// Movements in their order: at most [`crate::limits::MOVEMENTS_MAX`].
    Movements {
        /// They themselves.
        movements: Vec<Movement>,
        /// Where the rest begins, if there is more.
        next: Option<u64>,
    },
    /// Settlements in their order: at most [`crate::limits::SETTLEMENTS_SHOWN_MAX`].
    Settlements {
        /// They themselves.
        settlements: Vec<Settlement>,
        /// Where the rest begins, if there is more.
        next: Option<u64>,
    },
    /// Not to whoever asks, or not now, and why.
    Refused(String),
}

/// Why credits moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MovementKind {
    /// An account was given what accounts are given when they begin.
    Started,
    /// Held for a task.
    Held,
    /// Back from a hold.
    Returned,
    /// From the asker's hold to the node's account.
    Paid,
}

/// One movement of credits, as an orchestrator saw it when a block became final.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Movement {
    /// The block.
    pub height: u64,
    /// Its time, in milliseconds since 1970.
    pub unix_ms: u64,
    /// Why.
    pub kind: MovementKind,
    /// From which account; `None`: issued.
    pub from: Option<AccountId>,
    /// To which.
    pub to: AccountId,
    /// How much, in micro-credits.
    pub amount_micro: u64,
    /// For whose work on which task.
    pub hold: Option<HoldId>,
    /// What the work was, where it was paid on a receipt.
    pub line: Option<ReceiptLine>,
}

/// That both sides of a task have signed what was done, and that the pool has agreed to pay it: which task ran where, on
/// which evidence, under which policy, and nothing of the content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settlement {
    /// Signed by both.
    pub receipt: Countersigned,
    /// A final block in whose state it is paid.
    pub anchor: Anchor,
    /// Of the hold of each line, in their order.
    pub holds: Vec<Proof>,
    /// Of the policy at that time.
    pub policy: Proof,
}
