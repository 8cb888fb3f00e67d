//! Who may say what: one table.

use crate::{Fact, draft::Draft, keys};
use protocol::{ids::AccountId, pool::Standing};

/// In what capacity somebody says something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authority {
    /// An orchestrator of the pool.
    Orchestrator,
    /// An account that stands so.
    Standing(Standing),
    /// The machine, or the account, that the fact is about.
    Subject,
    /// Anybody: signatures within the fact decide.
    Anybody,
}

use Authority::{Anybody, Orchestrator, Subject};

const OWNER: Authority = Authority::Standing(Standing::Owner);
const ADMINISTRATOR: Authority = Authority::Standing(Standing::Administrator);

/// Who may say a fact of this kind. An auditor and a member as such may say nothing: what a member says is about itself.
pub fn authorities(fact: &Fact) -> &'static [Authority] {
    match fact {
        // Founds the pool outside of any bundle; nobody founds it again.
        Fact::Genesis(_) => &[],
        // What orchestrators see at the door, measure, and verify.
        Fact::MemberAdmitted { .. }
        | Fact::ModelAdded(_)
        | Fact::Observed { .. }
        | Fact::EvidenceAgreed { .. }
        | Fact::StarterGranted { .. } => &[Orchestrator],
        // Members of the committee see it first; who votes for the block has verified it.
        Fact::Fault { .. } => &[Orchestrator],
        // An orchestrator removes what breaks the protocol, people remove whom they want. Whom an administrator may
        // remove is seen when it is done.
        Fact::MemberRemoved { .. } => &[Orchestrator, OWNER, ADMINISTRATOR],
        Fact::PolicySet(_)
        | Fact::InviteIssued(_)
        | Fact::InviteRevoked { .. }
        | Fact::Approved { .. }
        | Fact::Labelled { .. }
        | Fact::MeasurementAllowed { .. }
        | Fact::MeasurementRevoked { .. }
        | Fact::ModelRemoved { .. } => &[OWNER, ADMINISTRATOR],
        // Who agrees is what the pool is; an administrator could make it theirs.
        Fact::CommitteeChanged { .. } => &[OWNER],
        // Administrators do not make administrators; whom they may revoke is seen when it is done.
        Fact::StandingGranted { standing: Standing::Owner | Standing::Administrator, .. } => &[OWNER],
        Fact::StandingGranted { .. } | Fact::StandingRevoked { .. } => &[OWNER, ADMINISTRATOR],
        Fact::Joined { .. } => &[Orchestrator, Subject],
        Fact::AccountLinked { .. } | Fact::AccountUnlinked { .. } | Fact::AskSet { .. } | Fact::BlockSet { .. } => {
            &[Subject]
        }
        Fact::HoldPlaced { .. } | Fact::Settled(_) | Fact::ClaimFiled { .. } | Fact::HoldClosed { .. } => &[Anybody],
    }
}

/// Whether this author may say this fact. Who the subject of a fact is, the fact itself is asked when it is applied.
pub(crate) fn may_say(draft: &Draft, author: AccountId, fact: &Fact) -> bool {
    authorities(fact).iter().any(|authority| match authority {
        Orchestrator => is_orchestrator(draft, author),
        Authority::Standing(standing) => draft.read(&keys::standing(author)) == Some(*standing),
        Subject | Anybody => true,
    })
}

pub(crate) fn is_orchestrator(draft: &Draft, author: AccountId) -> bool {
    draft.read(&keys::committee()).is_some_and(|committee| committee.contains(author.into()))
}
