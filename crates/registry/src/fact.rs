//! What can be agreed.

use crate::{AgreedEvidence, Genesis};
use protocol::{
    codec::{self, CodecError},
    fault::FaultKind,
    ids::{AccountId, ModelDigest, NodeId},
    limits,
    link::{ModelEntry, Role},
    market::{AccountLink, Claim, Close, Countersigned, Order, Price},
    pool::{Invite, Label, PoolPolicy, Redemption, Standing},
    signed::Signed,
};
use serde::{Deserialize, Serialize};
use trust::observations::Observations;

/// One entry of a pool's log. Logs are kept: variants are added at the end only, and never change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Fact {
    /// The pool begins. The first fact of every log, and only that.
    Genesis(Genesis),
    /// A machine may take part in a role.
    MemberAdmitted {
        /// Which.
        node: NodeId,
        /// As what.
        role: Role,
        /// When, in milliseconds since 1970.
        at_unix_ms: u64,
    },
    /// The pool has a model. Its default is the one that came first of those that it has.
    ModelAdded(ModelEntry),
    /// A machine may take part no more, in any role, whatever ticket it shows.
    MemberRemoved {
        /// Which.
        node: NodeId,
        /// When, in milliseconds since 1970.
        at_unix_ms: u64,
    },
    /// What was observed of a member up to an epoch; replaces what was before.
    Observed {
        /// Of which.
        node: NodeId,
        /// Up to which epoch: hours since 1970 ([`trust::observations::EPOCH_MS`]).
        epoch: u64,
        /// What.
        observations: Observations,
    },
    /// The pool has this policy from now on.
    PolicySet(PoolPolicy),
    /// An account stands so from now on.
    StandingGranted {
        /// Which.
        account: AccountId,
        /// How.
        standing: Standing,
    },
    /// An account stands in no way any more.
    StandingRevoked {
        /// Which.
        account: AccountId,
    },
    /// Whoever has the invite's secret half may join.
    InviteIssued(Invite),
    /// An invite counts no more.
    InviteRevoked {
        /// Its id.
        invite: NodeId,
    },
    /// A machine joins with an invite.
    Joined {
        /// Signed with the invite's key.
        redemption: Signed<Redemption>,
    },
    /// A machine that waits may take part.
    Approved {
        /// Which.
        node: NodeId,
    },
    /// What the pool says of a machine. A machine's own claim is no fact.
    Labelled {
        /// Which.
        node: NodeId,
        /// Where it is.
        region: Option<Label>,
        /// What else is known of it, ascending.
        labels: Vec<Label>,
    },
    /// Workers of this measurement are allowed.
    MeasurementAllowed {
        /// BLAKE3 of the worker's program file.
        measurement: [u8; 32],
    },
    /// They are no more.
    MeasurementRevoked {
        /// BLAKE3 of the worker's program file.
        measurement: [u8; 32],
    },
    /// Evidence of a machine was verified.
    EvidenceAgreed {
        /// Which machine.
        node: NodeId,
        /// What evidence.
        evidence: AgreedEvidence,
    },
    /// A machine belongs to an account, which is the author.
    AccountLinked {
        /// Signed by the machine.
        link: Signed<AccountLink>,
    },
    /// What a machine asks for its work.
    AskSet {
        /// Which.
        node: NodeId,
        /// With which model.
        model: ModelDigest,
        /// For how much; `None`: it asks nothing.
        price: Option<Price>,
    },
    /// The author's account has nothing to do with another.
    BlockSet {
        /// Which other.
        other: AccountId,
        /// Whether it is so.
        is_blocked: bool,
    },
    /// A machine's account gets what accounts get when they begin, once.
    StarterGranted {
        /// Which machine.
        node: NodeId,
    },
    /// Credits are held for a node's work on a task.
    HoldPlaced {
        /// Signed by the asker's machine.
        order: Signed<Order>,
    },
    /// A node is paid for its work on some tasks. Each line counts for itself; where no line is new, and one does not count,
    /// the receipt is rejected for that.
    Settled(Countersigned),
    /// A node wants to be paid without a receipt.
    ClaimFiled {
        /// Signed by the node; the acknowledgement in it by the asker's machine.
        claim: Signed<Claim>,
    },
    /// A node works on a task no more.
    HoldClosed {
        /// Signed by the asker's machine.
        close: Signed<Close>,
    },
    /// The committee of the next epoch is the one that was planned for it, with these changes.
    ///
    /// It may differ from the present one in as many members (those that come and those that go together) as the present
    /// one can do without, [`Committee::faults`], or in one where it can do without nobody. Then those that stay are a
    /// quorum of the present committee, and so know what was agreed on last; and a quorum of the next one, and so go on
    /// even where none of the new ones ever comes, and can take the change back. A committee of one to three can do
    /// neither: it stands still without any of its members, so who adds one there sees first that it runs.
    ///
    /// [`Committee::faults`]: protocol::header::Committee::faults
    CommitteeChanged {
        /// Who comes.
        add: Vec<NodeId>,
        /// Who goes.
        remove: Vec<NodeId>,
    },
    /// A member of a committee has contradicted itself. Who votes on a block with this has verified the evidence: the
    /// registry knows no votes, and remembers of it only the hash.
    Fault {
        /// Who.
        member: NodeId,
        /// In which epoch.
        epoch: u64,
        /// In which round of it.
        view: u64,
        /// How.
        kind: FaultKind,
        /// Two votes that contradict each other; at most [`limits::FAULT_EVIDENCE_BYTES_MAX`].
        evidence: Vec<u8>,
    },
    /// The pool has a model no more, and never again: orchestrators add what members serve, so that a removal that did
    /// not stay would be none. Its names mean nothing else from then on.
    ModelRemoved {
        /// Which.
        digest: ModelDigest,
    },
    /// A machine does not belong to the author's account any more, but to itself.
    AccountUnlinked {
        /// Which.
        node: NodeId,
    },
}

impl Fact {
    /// The form in which logs keep it.
    pub fn encode(&self) -> Result<Vec<u8>, CodecError> {
        codec::encode(self, limits::FACT_BYTES_MAX)
    }

    /// Reads a fact of a log.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode(bytes, limits::FACT_BYTES_MAX)
    }
}
