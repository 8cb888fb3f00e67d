//! What a pool has agreed on, as `--json` prints it.

use super::rfc3339;
use crate::amount::Amount;
use protocol::{
    grant::{Locality, Tier},
    ids::{ModelDigest, NodeId},
    pool::{Invite, Label, PoolPolicy, Standing},
};
use registry::Member;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Output of `darkbloom pool show --json`. All of it is proven.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PoolReport {
    /// The pool, in base 32.
    pub id: String,
    /// When it was founded, RFC 3339.
    pub founded_at: String,
    /// The accounts that own it, in base 32.
    pub owners: Vec<String>,
    /// This home's own account, in base 32.
    pub own_account: String,
    /// How that stands in the pool; missing where it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub own_standing: Option<String>,
    /// Blocks that were agreed on.
    pub height: u64,
    /// When the newest was made, RFC 3339.
    pub block_at: String,
    /// The epoch: the committee can change with each.
    pub epoch: u64,
    /// Machine ids of the orchestrators.
    pub orchestrators: Vec<String>,
    /// And of those from the next epoch on, where they are others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_orchestrators: Option<Vec<String>>,
    /// Its policy.
    pub policy: PolicyReport,
    /// Machines that are or were members.
    pub members: u32,
    /// Models.
    pub models: u32,
    /// Invites that still count, that of the shared ticket included.
    pub invites: u32,
    /// Allowed programs of workers.
    pub measurements: u32,
    /// Whether the ticket that everybody shares still admits.
    pub shared_ticket: bool,
}

/// Output of `darkbloom pool policy --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyReport {
    /// The least tier of a worker.
    pub min_tier: String,
    /// How far tasks may travel: `device`, `pool`, `network`.
    pub locality: String,
    /// Digests of the only models that may be used; missing: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub models: Option<Vec<String>>,
    /// The only regions whose machines may serve; empty: all.
    pub regions: Vec<String>,
    /// What is kept of prompts and answers: `none`, or `members`, who keep what they want.
    pub retention: String,
    /// Only workers whose program is allowed may serve.
    pub measured_only: bool,
    /// Who joins waits for an approval.
    pub approval: bool,
    /// What an account gets when its first machine joins, in micro-credits.
    pub starter_micro: u64,
    /// What the pool gives to all accounts together, in micro-credits.
    pub issue_micro_max: u64,
    /// What one account may hold for tasks on one day, in micro-credits; missing: what it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub day_micro_max: Option<u64>,
    /// Orders of one account that have not run out.
    pub holds_per_account_max: u32,
    /// How old what is shown of the pool may be, in seconds.
    pub root_age_s_max: u64,
}

/// Output of `darkbloom pool members --json`. Each entry is proven; that none is left out is an orchestrator's word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PoolMembersReport {
    /// Machines that are or were members, by their ids.
    pub members: Vec<PoolMemberReport>,
    /// Accounts that stand in some way.
    pub accounts: Vec<AccountReport>,
}

/// A machine that is or was a member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PoolMemberReport {
    /// Its machine id.
    pub id: String,
    /// What people call it, where it lends and an orchestrator knows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `member`, `awaits-approval` or `removed`.
    pub state: String,
    /// It may lend itself.
    pub lends: bool,
    /// It may ask.
    pub asks: bool,
    /// Since when it is known, RFC 3339.
    pub since: String,
    /// When it was removed, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub removed_at: Option<String>,
    /// The account that it belongs to, in base 32.
    pub account: String,
    /// Where it is, as the pool says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// What else the pool says of it.
    pub labels: Vec<String>,
    /// Other keys of the same home, that joined with it by an invite.
    pub household: Vec<String>,
}

/// An account that stands in some way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AccountReport {
    /// The account, in base 32.
    pub account: String,
    /// `auditor`, `member`, `administrator` or `owner`.
    pub standing: String,
}

/// Output of `darkbloom pool invite --json`, and one entry of `darkbloom pool invites --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InviteReport {
    /// Its id.
    pub id: String,
    /// How whoever uses it stands afterwards.
    pub role: String,
    /// How often it can still be used; missing: any number of times.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uses: Option<u32>,
    /// Until when it counts, RFC 3339; missing: until it is revoked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// Whether it is the one of the ticket that everybody shares.
    pub shared_ticket: bool,
    /// The line to hand out. Whoever has it can use the invite: treat it as a password. Only where it was just made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ticket: Option<String>,
}

/// Output of a `darkbloom pool` command that changes something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeReport {
    /// What was agreed on.
    pub done: String,
    /// How much that changed; 0: all was so already.
    pub changes: u32,
    /// From which block on it counts, where that is not at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_height: Option<u64>,
}

/// The word for a standing.
pub fn standing(standing: Standing) -> &'static str {
    match standing {
        Standing::Auditor => "auditor",
        Standing::Member => "member",
        Standing::Administrator => "administrator",
        Standing::Owner => "owner",
    }
}

fn words(labels: &[Label]) -> Vec<String> {
    labels.iter().map(|label| label.as_str().to_owned()).collect()
}

impl From<&PoolPolicy> for PolicyReport {
    fn from(policy: &PoolPolicy) -> Self {
        let locality = match policy.locality_max {
            Locality::Device => "device",
            Locality::Pool => "pool",
            Locality::Network => "network",
        };
        let min_tier = match policy.tier_min {
            Tier::SelfSigned => "self-signed",
            _ => "of a later version",
        };
        Self {
            min_tier: min_tier.to_owned(),
            locality: locality.to_owned(),
            models: policy.models.as_ref().map(|models| models.iter().map(ModelDigest::to_string).collect()),
            regions: words(&policy.regions),
            retention: if policy.retains_nothing { "none" } else { "members" }.to_owned(),
            measured_only: policy.measured_only,
            approval: policy.needs_approval,
            starter_micro: policy.starter_micro,
            issue_micro_max: policy.issue_micro_max,
            day_micro_max: policy.day_micro_max,
            holds_per_account_max: policy.holds_per_account_max,
            root_age_s_max: policy.root_age_ms_max / 1000,
        }
    }
}

impl PolicyReport {
    /// The report as lines for people.
    pub fn lines(&self) -> Vec<String> {
        let all = |list: &[String]| if list.is_empty() { "all".to_owned() } else { list.join(", ") };
        let models = match self.models.as_deref() {
            Some([]) => "none".to_owned(),
            models => all(models.unwrap_or_default()),
        };
        let day = self.day_micro_max.map_or_else(|| "unlimited".to_owned(), |micro| Amount(micro).to_string());
        vec![
            format!("tier      at least {}", self.min_tier),
            format!("locality  {}", self.locality),
            format!("models    {models}"),
            format!("regions   {}", all(&self.regions)),
            format!("retention {}", self.retention),
            format!("programs  {}", if self.measured_only { "allowed ones only" } else { "all" }),
            format!("approval  {}", if self.approval { "needed to join" } else { "not needed" }),
            format!(
                "credits   starter {}, in all {}, a day {day}",
                Amount(self.starter_micro),
                Amount(self.issue_micro_max)
            ),
        ]
    }
}

impl PoolMemberReport {
    /// Of a machine, by what people call it if that is known.
    pub fn of(node: NodeId, member: &Member, name: Option<String>) -> Self {
        let state = match (member.removed_unix_ms, member.is_pending) {
            (Some(_), _) => "removed",
            (None, true) => "awaits-approval",
            (None, false) => "member",
        };
        Self {
            id: node.to_string(),
            name,
            state: state.to_owned(),
            lends: member.lends,
            asks: member.asks,
            since: rfc3339(member.admitted_unix_ms),
            removed_at: member.removed_unix_ms.map(rfc3339),
            account: member.account_of(node).to_string(),
            region: member.region.as_ref().map(|region| region.as_str().to_owned()),
            labels: words(&member.labels),
            household: member.household.iter().map(NodeId::to_string).collect(),
        }
    }

    /// The report as a line for people.
    pub fn line(&self) -> String {
        let roles = match (self.lends, self.asks) {
            (true, true) => "lends, asks",
            (true, false) => "lends",
            (false, true) => "asks",
            (false, false) => "nothing",
        };
        let mut line = format!("{} {:<15} {roles:<11}", &self.id[..10], self.state);
        for text in self.name.iter().chain(&self.region).chain(&self.labels) {
            line.push_str("  ");
            line.push_str(text);
        }
        line.trim_end().to_owned()
    }
}

impl InviteReport {
    /// Of an invite.
    pub fn of(invite: &Invite, shared_ticket: bool, ticket: Option<String>) -> Self {
        Self {
            id: invite.id.to_string(),
            role: standing(invite.standing).to_owned(),
            uses: invite.uses,
            until: invite.until_unix_ms.map(rfc3339),
            shared_ticket,
            ticket,
        }
    }

    /// The report as a line for people.
    pub fn line(&self) -> String {
        let uses = self.uses.map_or_else(|| "any number of uses".to_owned(), |uses| format!("{uses} uses left"));
        let until = self.until.as_ref().map_or_else(String::new, |until| format!(", until {until}"));
        let shared = if self.shared_ticket { " (the ticket that everybody shares)" } else { "" };
        format!("{} {} {uses}{until}{shared}", &self.id[..10], self.role)
    }
}
