//! What `--json` prints. The schemas in `docs/schemas` are generated from these types.

mod agreement;
pub mod credits;
mod pool;
mod trust;

pub use self::agreement::AgreementReport;
pub use self::pool::{
    AccountReport, ChangeReport, InviteReport, PolicyReport, PoolMemberReport, PoolMembersReport, PoolReport, standing,
};
pub use self::trust::{RateReport, ScoreReport};

use jiff::Timestamp;
use node::NodeStatus;
use owner::{
    Verdict as OwnerVerdict,
    rules::{Broken, MissingSensor},
};
use protocol::{
    hold::Hold,
    link::{ModelOffer, NodeRow},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Output of `darkbloom status --json`: what runs in a home. Fields of a role are there where the role is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Status {
    /// Whether a daemon runs in this home.
    pub running: bool,
    /// The home directory.
    pub home: String,
    /// What it runs: `orchestrator`, `node`, `gateway`.
    pub roles: Vec<String>,
    /// Version of the program.
    pub version: String,
    /// Its process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process_id: Option<u32>,
    /// Since when it runs, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// The pool, in base 32.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,

    /// Orchestrator: the line that lets others join. Whoever has it can: treat it as a password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ticket: Option<String>,
    /// Orchestrator: its machine id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub orchestrator_id: Option<String>,
    /// Orchestrator: how its committee agrees.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agreement: Option<AgreementReport>,
    /// Orchestrator: the nodes that it knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nodes: Option<Vec<NodeReport>>,
    /// Orchestrator: the models of the pool, the default first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub models: Option<Vec<ModelReport>>,

    /// Node: its machine id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_id: Option<String>,
    /// Node: what people call it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Node: tasks that it runs or that wait for a slot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active_tasks: Option<u32>,
    /// Node: whether it takes work now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub takes_work: Option<bool>,
    /// Node: what holds it back; empty where nothing does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_back_by: Option<Vec<Reason>>,
    /// Node: rules of its owner that nothing on this machine can watch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unwatched: Option<Vec<UnwatchedRule>>,
    /// Node: its worker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker: Option<WorkerReport>,
    /// Node: its links to orchestrators.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub links: Option<Vec<LinkReport>>,

    /// Gateway: base URL for an OpenAI client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_url: Option<String>,
    /// Gateway: whether its link to an orchestrator is up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connected: Option<bool>,
}

/// Why something does not happen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reason {
    /// For programs, stable.
    pub code: String,
    /// For people.
    pub message: String,
    /// What can be done, where something can.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// The rule of `[lend]` in `config.toml`, where it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// When it ends if nothing happens until then, RFC 3339, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lifts_at: Option<String>,
}

/// A rule of the owner's that cannot be watched here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UnwatchedRule {
    /// The rule of `[lend]` in `config.toml`.
    pub rule: String,
    /// Why it cannot be watched.
    pub why: String,
}

/// A node as an orchestrator sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NodeReport {
    /// Its machine id.
    pub id: String,
    /// What people call it.
    pub label: String,
    /// Names of the models that it serves.
    pub models: Vec<String>,
    /// Tasks that it runs or that wait for a slot.
    pub active_tasks: u32,
    /// Tasks that it runs at once.
    pub slots: u32,
    /// Whether tasks are matched to it.
    pub routable: bool,
    /// Why not; at least one where `routable` is false.
    pub reasons: Vec<Reason>,
    /// Since when it is in this condition, RFC 3339.
    pub since: String,
    /// How far it is trusted, and why.
    pub score: ScoreReport,
    /// What was measured of its workers.
    pub rates: Vec<RateReport>,
}

/// A model of the pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelReport {
    /// Its name.
    pub name: String,
    /// Other names.
    pub aliases: Vec<String>,
    /// BLAKE3 of its file, in hexadecimal.
    pub digest: String,
    /// Size of its file.
    pub bytes: u64,
    /// Its licence.
    pub licence: String,
    /// Tokens of context that the best ready node gives; 0 where none is ready.
    pub context_tokens: u32,
    /// Nodes that can serve it now.
    pub ready_nodes: u32,
    /// Whether `default` means it.
    pub default: bool,
}

/// A node's worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WorkerReport {
    /// Name of its model.
    pub model: String,
    /// Whether it takes tasks.
    pub ready: bool,
    /// Its process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process_id: Option<u32>,
    /// Tasks at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slots: Option<u32>,
    /// Tokens of context for one task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context_tokens: Option<u32>,
    /// Its sandbox, layer by layer, as the worker reported it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<serde_json::Value>,
}

/// A node's link to an orchestrator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LinkReport {
    /// Its machine id.
    pub orchestrator: String,
    /// Whether the link is up.
    pub connected: bool,
    /// Why not, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Output of `darkbloom doctor --json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Doctor {
    /// Whether nothing failed.
    pub healthy: bool,
    /// Every check.
    pub checks: Vec<Check>,
    /// What the worker's sandbox denies on this kernel, as tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<serde_json::Value>,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// What was looked at.
    pub name: String,
    /// How it stands.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What to do about it, where something is to be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// How a check stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Works, with a limit that the owner should know.
    Warning,
    /// Does not work.
    Failed,
}

/// Output of `darkbloom run --json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// The whole answer.
    pub text: String,
    /// The model that gave it.
    pub model: String,
    /// The machine that its worker runs on.
    pub node: String,
    /// The task's id.
    pub task: String,
    /// Why it ended: `stop` or `length`.
    pub finish_reason: String,
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Tokens of the answer.
    pub completion_tokens: u32,
}

/// Output of `darkbloom models ls --json`: one for each model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CatalogueModel {
    /// Its name.
    pub name: String,
    /// Other names.
    pub aliases: Vec<String>,
    /// One line for people.
    pub description: String,
    /// Its licence.
    pub licence: String,
    /// Size of its file, in bytes.
    pub bytes: u64,
    /// Least memory of a machine that serves it, in bytes.
    pub memory_bytes_min: u64,
    /// Where its file can be had.
    pub origins: Vec<String>,
    /// BLAKE3 of its file, where it is pinned or has been learned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Whether its file is in this home.
    pub here: bool,
}

impl From<&Hold> for Reason {
    fn from(hold: &Hold) -> Self {
        let lifts_unix_ms = match hold {
            Hold::Paused { until_unix_ms } => *until_unix_ms,
            Hold::Owner { lifts_unix_ms, .. } => *lifts_unix_ms,
            _ => None,
        };
        Self {
            code: hold.code().to_owned(),
            message: hold.to_string(),
            remedy: hold.remedy().map(str::to_owned),
            rule: None,
            lifts_at: lifts_unix_ms.map(rfc3339),
        }
    }
}

/// A rule of the owner's, with what the owner alone may see.
fn broken(broken: &Broken) -> Reason {
    let hold = Hold::Owner { rule: broken.rule.public().to_owned(), lifts_unix_ms: broken.lifts_unix_ms };
    let rule = Some(broken.rule.field().to_owned());
    Reason { message: format!("{hold}: {}", broken.found), rule, ..Reason::from(&hold) }
}

/// A time that was given in milliseconds since 1970.
pub fn rfc3339(unix_ms: u64) -> String {
    let time = i64::try_from(unix_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    time.unwrap_or_default().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

impl From<NodeRow> for NodeReport {
    fn from(row: NodeRow) -> Self {
        Self {
            id: row.node.to_string(),
            label: row.label,
            models: row.models,
            active_tasks: row.active_tasks,
            slots: row.slots,
            routable: row.hold.is_none(),
            reasons: row.hold.iter().map(Reason::from).collect(),
            since: rfc3339(row.since_unix_ms),
            score: row.score.into(),
            rates: row.rates.into_iter().map(RateReport::from).collect(),
        }
    }
}

/// The models of a pool, the default first.
pub fn models(offers: Vec<ModelOffer>) -> Vec<ModelReport> {
    let report = |(at, offer): (usize, ModelOffer)| ModelReport {
        name: offer.entry.name,
        aliases: offer.entry.aliases,
        digest: offer.entry.digest.to_string(),
        bytes: offer.entry.bytes,
        licence: offer.entry.licence,
        context_tokens: offer.context_tokens,
        ready_nodes: offer.ready_nodes,
        default: at == 0,
    };
    offers.into_iter().enumerate().map(report).collect()
}

impl Status {
    /// Adds the fields of a node.
    pub fn add_node(&mut self, node: NodeStatus, verdict: &OwnerVerdict) {
        self.roles.push("node".to_owned());
        self.node_id = Some(node.id.to_string());
        self.label = Some(node.label);
        self.active_tasks = Some(node.active_tasks);
        let mut reasons: Vec<Reason> = match &node.hold {
            Some(Hold::Owner { .. }) if !verdict.broken.is_empty() => verdict.broken.iter().map(broken).collect(),
            hold => hold.iter().map(Reason::from).collect(),
        };
        for reason in reasons.iter_mut().filter(|reason| reason.code == Hold::Draining.code()) {
            reason.remedy = Some("`darkbloom resume` takes tasks again".to_owned());
        }
        let unwatched =
            |missing: &MissingSensor| UnwatchedRule { rule: missing.field.to_owned(), why: missing.why.clone() };
        self.unwatched = Some(verdict.missing.iter().map(unwatched).collect());
        if !node.links.iter().any(|link| link.known) {
            reasons.push(Reason {
                code: "no-orchestrator".to_owned(),
                message: "no orchestrator of the pool answers".to_owned(),
                remedy: Some("is the pool running? it is tried again every few seconds".to_owned()),
                rule: None,
                lifts_at: None,
            });
        } else if reasons.is_empty() && !node.links.iter().any(|link| link.known && link.hold.is_none()) {
            // What an orchestrator holds against a node that thinks itself well.
            reasons.extend(node.links.iter().filter_map(|link| link.hold.as_ref()).map(Reason::from));
        }
        self.takes_work = Some(reasons.is_empty());
        self.held_back_by = Some(reasons);
        self.worker = Some(WorkerReport {
            model: node.worker.model,
            ready: node.worker.ready,
            process_id: node.worker.process_id,
            slots: node.worker.facts.as_ref().map(|facts| facts.slots),
            context_tokens: node.worker.facts.as_ref().map(|facts| facts.context_tokens),
            sandbox: node.worker.sandbox_json.and_then(|text| serde_json::from_str(&text).ok()),
        });
        let link = |link: node::LinkStatus| LinkReport {
            orchestrator: link.orchestrator.to_string(),
            connected: link.connected,
            error: link.error,
        };
        self.links = Some(node.links.into_iter().map(link).collect());
    }
}
