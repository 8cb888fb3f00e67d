//! How an orchestrator's committee agrees, as `--json` prints it.

use super::rfc3339;
use orchestrator::{Standing, Votes};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a pool's committee agrees, as one of its orchestrators sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AgreementReport {
    /// Blocks that are final.
    pub height: u64,
    /// When the newest of them was made, RFC 3339.
    pub block_at: String,
    /// The epoch of the next block: with each the committee can change.
    pub epoch: u64,
    /// How many members have to agree.
    pub quorum: usize,
    /// The members, this one included.
    pub members: Vec<MemberReport>,
    /// By how many blocks this one is behind.
    pub lag: u64,
    /// Whether this one votes.
    pub votes: bool,
    /// Why it does not; missing where it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub votes_not_because: Option<String>,
    /// Why nothing becomes final; missing where something does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stands_still_because: Option<String>,
    /// Members that have sent what is not true, and what that was.
    pub liars: Vec<LiarReport>,
}

/// A member of the committee.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MemberReport {
    /// Its machine id.
    pub id: String,
    /// When it was heard last, RFC 3339; missing for this one itself, and for one that was never heard.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heard_at: Option<String>,
}

/// A member that has sent what is not true.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LiarReport {
    /// Its machine id.
    pub id: String,
    /// What was not true.
    pub lie: String,
}

impl From<Standing> for AgreementReport {
    fn from(standing: Standing) -> Self {
        let heard = |member| standing.heard.iter().find(|(id, _)| *id == member).and_then(|(_, heard)| *heard);
        let members = standing.committee.iter().flat_map(|committee| committee.members());
        let not_because = match standing.votes {
            Votes::Yes => None,
            Votes::NoMember => Some("it is no member of the committee".to_owned()),
            Votes::FromEpoch(epoch) => Some(format!(
                "it does not remember what it voted, so it votes again from epoch {epoch} on, in which it cannot have"
            )),
            Votes::Unknown => Some("it has yet to hear from the others whether it has voted before".to_owned()),
        };
        Self {
            height: standing.height,
            block_at: rfc3339(standing.unix_ms),
            epoch: standing.epoch,
            quorum: standing.quorum,
            members: members.map(|id| MemberReport { id: id.to_string(), heard_at: heard(*id).map(rfc3339) }).collect(),
            lag: standing.lag,
            votes: not_because.is_none(),
            votes_not_because: not_because,
            stands_still_because: standing.down.or(standing.stalled),
            liars: standing.liars.into_iter().map(|(id, lie)| LiarReport { id: id.to_string(), lie }).collect(),
        }
    }
}

impl AgreementReport {
    /// The report as lines for people.
    pub fn lines(&self) -> Vec<String> {
        let count = self.members.len();
        let behind = if self.lag > 0 { format!(", {} behind", self.lag) } else { String::new() };
        let mut lines = vec![format!(
            "agreed    block {}{behind}, epoch {}; {} of {count} orchestrators have to agree",
            self.height, self.epoch, self.quorum
        )];
        lines.extend(self.stands_still_because.iter().map(|why| format!("agreed    stands still: {why}")));
        lines.extend(self.votes_not_because.iter().map(|why| format!("agreed    this one does not vote: {why}")));
        lines.extend(self.liars.iter().map(|liar| format!("agreed    {} lies: {}", &liar.id[..10], liar.lie)));
        lines
    }
}
