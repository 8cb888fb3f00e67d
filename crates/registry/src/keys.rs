//! Where everything stands in the state: one table of prefixes, and the key of each record.
//!
//! The first byte says what it is, the rest is ids as they are. A prefix is never given to something else.
//!
//! | byte | then | record |
//! |---|---|---|
//! | `00` | | [`Params`] |
//! | `01` | | [`Counts`] |
//! | `02` | | [`PoolPolicy`] |
//! | `03` | | [`Totals`] |
//! | `04` | | [`Clock`] |
//! | `05` | | [`Committee`]: who agrees in this epoch |
//! | `06` | | [`Committee`] of the next epoch, where it is another |
//! | `07` | | [`PastCommittee`]: who agreed before |
//! | `10` | node | [`Member`] |
//! | `11` | node | [`Observed`] |
//! | `12` | node, model | [`Price`]: its ask |
//! | `13` | account | [`Standing`] |
//! | `20` | account | [`Account`] |
//! | `21` | client, task, node | [`Hold`] |
//! | `22` | minute | number of holds to be looked at then |
//! | `23` | minute, number | one of them |
//! | `24` | account, other | [`Mark`]: the one blocks the other |
//! | `30` | number | digest of the model that came so |
//! | `31` | model | [`Model`] |
//! | `32` | name in lower case | digest of the model that it means |
//! | `33` | measurement | [`Mark`]: workers of it are allowed |
//! | `40` | invite | [`Invite`] |
//! | `50` | author | the last sequence number |
//! | `60` | member, epoch, kind | [`AgreedFault`] |

use crate::records::{
    Account, AgreedFault, Clock, Counts, Hold, Mark, Member, Model, Observed, Params, PastCommittee, Record, Totals,
};
use protocol::{
    fault::FaultKind,
    header::Committee,
    ids::{AccountId, ModelDigest, NodeId},
    market::{HoldId, Price},
    pool::{Invite, PoolPolicy, Standing},
    proof::{Digest, Finding, Proof, ProofError},
};
use std::marker::PhantomData;

pub(crate) const PARAMS: u8 = 0x00;
pub(crate) const POLICY: u8 = 0x02;
pub(crate) const COMMITTEE: u8 = 0x05;
pub(crate) const MEMBER: u8 = 0x10;
pub(crate) const OBSERVED: u8 = 0x11;
pub(crate) const ASK: u8 = 0x12;
pub(crate) const STANDING: u8 = 0x13;
pub(crate) const ACCOUNT: u8 = 0x20;
pub(crate) const HOLD: u8 = 0x21;
pub(crate) const BLOCK: u8 = 0x24;
const DUE_COUNT: u8 = 0x22;
const DUE: u8 = 0x23;
pub(crate) const MODEL: u8 = 0x31;
pub(crate) const MEASUREMENT: u8 = 0x33;
pub(crate) const INVITE: u8 = 0x40;
pub(crate) const FAULT: u8 = 0x60;

/// Whether a record says who has credits or pays whom: what is under these bytes is shown to those whom it concerns, and to
/// those who read the whole ledger.
pub fn is_of_ledger(key: &[u8]) -> bool {
    matches!(key.first(), Some(&(ACCOUNT | HOLD | DUE_COUNT | DUE | BLOCK)))
}

/// The key of a record of type `R`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key<R> {
    bytes: Vec<u8>,
    record: PhantomData<fn() -> R>,
}

/// A proof that shows no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// It proves nothing.
    #[error("{0}")]
    Proof(#[from] ProofError),
    /// What it proves is of a later version of this program.
    #[error("the record has a form that this program does not know: install a newer version")]
    Form,
}

impl<R: Record> Key<R> {
    fn new(prefix: u8, parts: &[&[u8]]) -> Self {
        let mut bytes = Vec::with_capacity(1 + parts.iter().map(|part| part.len()).sum::<usize>());
        bytes.push(prefix);
        parts.iter().for_each(|part| bytes.extend_from_slice(part));
        Self { bytes, record: PhantomData }
    }

    /// Its bytes, as they are hashed.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// What a proof shows under this key to one who trusts `root`: the record, or that there is none.
    pub fn check(&self, proof: &Proof, root: &Digest) -> Result<Option<R>, RecordError> {
        match proof.check(root, &self.bytes)? {
            Finding::Present(value) => R::decode(value).map(Some).ok_or(RecordError::Form),
            Finding::Absent => Ok(None),
        }
    }
}

macro_rules! keys {
    ($($(#[$doc:meta])* $visible:vis $name:ident($($argument:ident: $type:ty),*) -> $record:ty = $prefix:expr, [$($part:expr),*];)*) => {
        $($(#[$doc])* $visible fn $name($($argument: $type),*) -> Key<$record> {
            Key::new($prefix, &[$($part),*])
        })*

        /// Whether a value is one that can stand under a key: for what comes from elsewhere.
        pub(crate) fn is_valid(key: &[u8], value: &[u8]) -> bool {
            match key.first() {
                $(Some(prefix) if *prefix == $prefix => <$record as Record>::decode(value).is_some(),)*
                _ => false,
            }
        }
    };
}

keys! {
    /// The pool itself.
    pub params() -> Params = PARAMS, [];
    /// How many there are of what is bounded.
    pub counts() -> Counts = 0x01, [];
    /// The pool's policy.
    pub policy() -> PoolPolicy = POLICY, [];
    /// What was issued.
    pub totals() -> Totals = 0x03, [];
    /// The time that was agreed on last.
    pub clock() -> Clock = 0x04, [];
    /// Who agrees in this epoch.
    pub committee() -> Committee = COMMITTEE, [];
    /// Who agrees in the next epoch, where it is another committee.
    pub next_committee() -> Committee = 0x06, [];
    /// Who agreed before the committee changed last.
    pub past_committee() -> PastCommittee = 0x07, [];
    /// A machine.
    pub member(node: NodeId) -> Member = MEMBER, [&node.0];
    /// What was observed of it.
    pub observed(node: NodeId) -> Observed = OBSERVED, [&node.0];
    /// What it asks for its work with a model.
    pub ask(node: NodeId, model: ModelDigest) -> Price = ASK, [&node.0, &model.0];
    /// How an account stands.
    pub standing(account: AccountId) -> Standing = STANDING, [&account.0];
    /// What an account has.
    pub account(account: AccountId) -> Account = ACCOUNT, [&account.0];
    /// Credits held for a node's work on a task. By its asker too, so that nobody can take another's task id.
    pub hold(id: HoldId) -> Hold = HOLD, [&id.client.0, &id.task.0, &id.node.0];
    pub(crate) due_count(minute: u64) -> u32 = DUE_COUNT, [&minute.to_be_bytes()];
    pub(crate) due(minute: u64, number: u32) -> HoldId = DUE, [&minute.to_be_bytes(), &number.to_be_bytes()];
    /// Whether one account blocks another.
    pub block(account: AccountId, other: AccountId) -> Mark = BLOCK, [&account.0, &other.0];
    /// The model that came in this place; the first is the default.
    pub model_place(place: u32) -> ModelDigest = 0x30, [&place.to_be_bytes()];
    /// A model.
    pub model(digest: ModelDigest) -> Model = MODEL, [&digest.0];
    /// The model that a name means, which is in lower case here.
    pub model_name(folded: &str) -> ModelDigest = 0x32, [folded.as_bytes()];
    /// Whether workers of this measurement are allowed.
    pub measurement(measurement: &[u8; 32]) -> Mark = MEASUREMENT, [measurement];
    /// An invite that is not used up.
    pub invite(id: NodeId) -> Invite = INVITE, [&id.0];
    /// The sequence number of an author's last bundle.
    pub sequence(author: AccountId) -> u64 = 0x50, [&author.0];
    /// That a member of a committee has contradicted itself.
    pub fault(member: NodeId, epoch: u64, kind: FaultKind) -> AgreedFault = FAULT,
        [&member.0, &epoch.to_be_bytes(), &[kind.number()]];
}
