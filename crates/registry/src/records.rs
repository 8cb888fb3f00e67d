//! What stands in the state, as values: a version byte, then the record's encoding.

use crate::Genesis;
use protocol::{
    codec,
    fault::FaultKind,
    grant::Tier,
    header::Committee,
    ids::{AccountId, ModelDigest, NodeId, PoolId},
    limits,
    link::{ModelEntry, Role},
    market::{HoldId, Price},
    pool::{Invite, Label, PoolPolicy, Standing},
    proof::Digest,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use trust::observations::Observations;

const VERSION: u8 = 1;

/// Something that stands in the state.
pub trait Record: Serialize + DeserializeOwned {
    /// As a value. `None` where it is longer than [`limits::STATE_VALUE_BYTES_MAX`], which no record is that passed the
    /// checks of its fact.
    fn encode(&self) -> Option<Vec<u8>> {
        let mut value = vec![VERSION];
        value.extend(codec::encode(self, limits::STATE_VALUE_BYTES_MAX - 1).ok()?);
        Some(value)
    }

    /// Of a value. `None` where the value is of another form.
    fn decode(value: &[u8]) -> Option<Self> {
        let (version, record) = value.split_first()?;
        (*version == VERSION).then(|| codec::decode(record, limits::STATE_VALUE_BYTES_MAX).ok()).flatten()
    }
}

/// The pool itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Params {
    /// Its id.
    pub pool: PoolId,
    /// How it began.
    pub genesis: Genesis,
}

/// How many there are of what is bounded: beside the limits, so that nothing has to be counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Machines that are or were members.
    pub members: u32,
    /// Models that were not removed.
    pub models: u32,
    /// Models, those that were removed included.
    pub models_ever: u32,
    /// Allowed measurements.
    pub measurements: u32,
    /// Invites that are not used up.
    pub invites: u32,
    /// Accounts that stand in some way.
    pub standings: u32,
    /// Owners among them.
    pub owners: u32,
    /// Accounts that have, or had, credits.
    pub accounts: u32,
    /// Orders that have not run out.
    pub holds: u32,
    /// Times at which one is to be looked at.
    pub dues: u32,
    /// Keys that have said something.
    pub authors: u32,
    /// Accounts that accounts block.
    pub blocks: u32,
    /// Faults of members of committees.
    pub faults: u32,
}

/// What was issued, in micro-credits. All accounts together have as much.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// To accounts when they began.
    pub issued_micro: u64,
}

/// The time that was agreed on last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clock {
    /// Blocks so far.
    pub height: u64,
    /// Of the last block.
    pub epoch: u64,
    /// In milliseconds since 1970.
    pub unix_ms: u64,
    /// The first minute of which not everything that was due has been done.
    pub(crate) minute: u64,
}

/// A machine that is or was part of the pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Since when, in milliseconds since 1970.
    pub admitted_unix_ms: u64,
    /// It may lend itself.
    pub lends: bool,
    /// It may ask.
    pub asks: bool,
    /// It waits for an administrator's approval.
    pub is_pending: bool,
    /// When it was removed, in milliseconds since 1970.
    pub removed_unix_ms: Option<u64>,
    /// Whose it is, where it is not its own.
    pub account: Option<AccountId>,
    /// The number of its last link to an account.
    pub link_number: u64,
    /// Where it is, as the pool says.
    pub region: Option<Label>,
    /// What else the pool says of it, ascending.
    pub labels: Vec<Label>,
    /// The evidence that the pool agreed on.
    pub evidence: Option<AgreedEvidence>,
    /// Models for which it has an ask.
    pub priced_models: u32,
    /// Other keys of the same home, which joined with it by one use of an invite: approved and removed with it.
    pub household: Vec<NodeId>,
}

impl Member {
    pub(crate) fn new(admitted_unix_ms: u64) -> Self {
        Self {
            admitted_unix_ms,
            lends: false,
            asks: false,
            is_pending: false,
            removed_unix_ms: None,
            account: None,
            link_number: 0,
            region: None,
            labels: Vec::new(),
            evidence: None,
            priced_models: 0,
            household: Vec::new(),
        }
    }

    pub(crate) fn role(&mut self, role: Role) -> &mut bool {
        match role {
            Role::Node => &mut self.lends,
            Role::Client => &mut self.asks,
        }
    }

    /// Whether it takes part: it was neither removed, nor does it wait for approval.
    pub fn is_active(&self) -> bool {
        self.removed_unix_ms.is_none() && !self.is_pending
    }

    /// Whether it may take part in this role.
    pub fn has_role(&self, role: Role) -> bool {
        self.is_active()
            && match role {
                Role::Node => self.lends,
                Role::Client => self.asks,
            }
    }

    /// Who earns and spends for it.
    pub fn account_of(&self, node: NodeId) -> AccountId {
        self.account.unwrap_or(node.into())
    }
}

/// Evidence of a worker, as agreed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgreedEvidence {
    /// What backs it.
    pub tier: Tier,
    /// BLAKE3 of the evidence as it was signed (`trust::evidence::digest`).
    pub digest: [u8; 32],
    /// Until when it counts, in milliseconds since 1970.
    pub until_unix_ms: u64,
}

/// What was observed of a member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// Up to which epoch.
    pub epoch: u64,
    /// What.
    pub observations: Observations,
}

/// A model and its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Model {
    /// Models that came before it.
    pub place: u32,
    /// The model, under the names that it got.
    pub entry: ModelEntry,
    /// It was removed: for good, and its names mean nothing else ever.
    pub is_removed: bool,
}

/// What an account has, in micro-credits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// To be spent.
    pub available_micro: u64,
    /// Held for tasks: the sum of what is left of its holds.
    pub held_micro: u64,
    /// Its orders that have not run out.
    pub holds: u32,
    /// Accounts that it blocks.
    pub blocks: u32,
    /// It was given what accounts are given when they begin.
    pub has_started: bool,
    /// The day on which it held something last: days since 1970 (UTC).
    pub day: u64,
    /// What it has held on that day, without what has returned of that.
    pub day_micro: u64,
}

/// Credits held for one node's work on one task.
///
/// It is a promise of the payer to that node: what the asker has signed for, up to the amount, at prices up to the
/// ceiling, is paid to the node and to nobody else, however it comes by it (a receipt of both, or a claim). Other nodes of
/// the task, and other machines of the payer, have no part in it. The payer can have the rest back early ([`Close`]), but
/// not before the node had time to say what is its due. What the asker has not signed for is nobody's: a node that goes on
/// without acknowledgements does so at its own risk.
///
/// It stays until its order has run out, even when nothing is left of it: so an order counts once, and a node is paid once
/// for a task, without a memory of all tasks that ever were.
///
/// [`Close`]: protocol::market::Close
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Which order holds: what else the asker signs about this hold names it.
    pub order: Digest,
    /// Who pays.
    pub payer: AccountId,
    /// What was held, in micro-credits.
    pub amount_micro: u64,
    /// What is left, in micro-credits; a claim that waits is part of it.
    pub rest_micro: u64,
    /// The highest price.
    pub ceiling: Price,
    /// The day on which it was placed: days since 1970 (UTC).
    pub day: u64,
    /// When the rest returns, in milliseconds since 1970. Nothing more is settled from then on, a waiting claim apart.
    pub releases_unix_ms: u64,
    /// When the order runs out, in milliseconds since 1970.
    pub until_unix_ms: u64,
    /// The minute in which it is looked at next.
    pub(crate) due_minute: u64,
    /// What the node gets, as far as is known.
    pub share: Option<Share>,
}

impl Hold {
    /// What a waiting claim comes to, in micro-credits.
    pub fn claimed_micro(&self) -> u64 {
        match self.share {
            Some(Share::Claimed { amount_micro, .. }) => amount_micro,
            Some(Share::Paid { .. }) | None => 0,
        }
    }

    /// What is left and not claimed, in micro-credits.
    pub fn free_micro(&self) -> u64 {
        self.rest_micro.saturating_sub(self.claimed_micro())
    }
}

/// What one node gets for one task, in micro-credits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Share {
    /// It claims this much, and will be paid unless a receipt says otherwise.
    Claimed {
        /// How much.
        amount_micro: u64,
        /// When it is paid, in milliseconds since 1970.
        due_unix_ms: u64,
    },
    /// It was paid.
    Paid {
        /// How much.
        amount_micro: u64,
        /// BLAKE3 of the receipt's line; zeros: on a claim, without one.
        receipt: [u8; 32],
    },
}

/// The committee before the present one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastCommittee {
    /// Who it was.
    pub committee: Committee,
    /// The first epoch that was its.
    pub since_epoch: u64,
    /// The first epoch that is the present committee's.
    pub until_epoch: u64,
}

/// That a member of a committee has contradicted itself, as agreed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgreedFault {
    /// Who.
    pub member: NodeId,
    /// In which epoch.
    pub epoch: u64,
    /// In which round of it.
    pub view: u64,
    /// How.
    pub kind: FaultKind,
    /// BLAKE3 of the evidence, which is in the block.
    pub evidence: Digest,
    /// When it was agreed, in milliseconds since 1970.
    pub agreed_unix_ms: u64,
}

/// It is so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark;

impl Record for Params {}
impl Record for Counts {}
impl Record for Totals {}
impl Record for Clock {}
impl Record for Committee {}
impl Record for Member {}
impl Record for Observed {}
impl Record for Model {}
impl Record for Account {}
impl Record for Hold {}
impl Record for Mark {}
impl Record for PoolPolicy {}
impl Record for Standing {}
impl Record for Invite {}
impl Record for Price {}
impl Record for ModelDigest {}
impl Record for HoldId {}
impl Record for PastCommittee {}
impl Record for AgreedFault {}
impl Record for u32 {}
impl Record for u64 {}
