//! What `darkbloom credits` prints.

use super::rfc3339;
use protocol::{
    ids::{AccountId, NodeId},
    statement::{Movement, MovementKind},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Output of `darkbloom credits balance --json`: what this home's accounts have. Amounts are in micro-credits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Balances {
    /// Each of its accounts.
    pub accounts: Vec<AccountReport>,
    /// What all of them can spend.
    pub available_micro: u64,
    /// What is held for tasks of theirs that are not settled.
    pub held_micro: u64,
    /// What the pool has issued to all accounts of all its members.
    pub issued_micro: u64,
    /// Of which block this is, as the pool's committee has agreed.
    pub height: u64,
}

/// One account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AccountReport {
    /// Its id.
    pub account: String,
    /// Whose: `account` is the home's own, others are of machines that are not linked to it, or were not always.
    pub of: String,
    /// What it can spend.
    pub available_micro: u64,
    /// What is held for its tasks.
    pub held_micro: u64,
}

/// A line of `darkbloom credits history --json`: how credits moved, as one orchestrator saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MovementReport {
    /// When, RFC 3339.
    pub at: String,
    /// In which block.
    pub height: u64,
    /// `started`, `held`, `returned` or `paid`.
    pub kind: String,
    /// From which account; missing where the pool issued it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// To which.
    pub to: String,
    /// How much, in micro-credits.
    pub amount_micro: u64,
    /// For which task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// Which machine asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// Which machine served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// With which model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Tokens read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_tokens: Option<u32>,
    /// Tokens generated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_tokens: Option<u32>,
}

/// A line of `darkbloom credits statement --json`: what one machine earned or spent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StatementLine {
    /// The machine.
    pub machine: String,
    /// Whether it `earned` or `spent`.
    pub side: String,
    /// Tasks that were paid.
    pub tasks: u64,
    /// Tokens read, as far as there are receipts.
    pub prompt_tokens: u64,
    /// Tokens generated, as far as there are receipts.
    pub output_tokens: u64,
    /// How much, in micro-credits.
    pub amount_micro: u64,
}

fn kind(kind: MovementKind) -> &'static str {
    match kind {
        MovementKind::Started => "started",
        MovementKind::Held => "held",
        MovementKind::Returned => "returned",
        MovementKind::Paid => "paid",
    }
}

impl From<&Movement> for MovementReport {
    fn from(movement: &Movement) -> Self {
        let (hold, line) = (movement.hold, movement.line.as_ref());
        Self {
            at: rfc3339(movement.unix_ms),
            height: movement.height,
            kind: kind(movement.kind).to_owned(),
            from: movement.from.map(|account| account.to_string()),
            to: movement.to.to_string(),
            amount_micro: movement.amount_micro,
            task: hold.map(|hold| hold.task.to_string()),
            client: hold.map(|hold| hold.client.to_string()),
            node: hold.map(|hold| hold.node.to_string()),
            model: line.map(|line| line.model.to_string()),
            prompt_tokens: line.map(|line| line.prompt_tokens),
            output_tokens: line.map(|line| line.output_tokens),
        }
    }
}

impl MovementReport {
    /// The names of the columns of [`MovementReport::csv`].
    pub const COLUMNS: &'static str =
        "at,height,kind,from,to,amount_micro,task,client,node,model,prompt_tokens,output_tokens";

    /// As a line of a table. No field has a comma or a quote.
    pub fn csv(&self) -> String {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let number = |number: Option<u32>| number.map_or_else(String::new, |number| number.to_string());
        [
            self.at.clone(),
            self.height.to_string(),
            self.kind.clone(),
            text(&self.from),
            self.to.clone(),
            self.amount_micro.to_string(),
            text(&self.task),
            text(&self.client),
            text(&self.node),
            text(&self.model),
            number(self.prompt_tokens),
            number(self.output_tokens),
        ]
        .join(",")
    }
}

impl StatementLine {
    /// The names of the columns of [`StatementLine::csv`].
    pub const COLUMNS: &'static str = "machine,side,tasks,prompt_tokens,output_tokens,amount_micro";

    /// As a line of a table.
    pub fn csv(&self) -> String {
        let Self { machine, side, tasks, prompt_tokens, output_tokens, amount_micro } = self;
        format!("{machine},{side},{tasks},{prompt_tokens},{output_tokens},{amount_micro}")
    }
}

/// What each machine earned and spent: of payments to and from these accounts, or of all.
pub fn statement(movements: &[Movement], accounts: Option<&[AccountId]>) -> Vec<StatementLine> {
    let mut lines: BTreeMap<(NodeId, &str), StatementLine> = BTreeMap::new();
    let is_ours = |account: AccountId| accounts.is_none_or(|accounts| accounts.contains(&account));
    for movement in movements.iter().filter(|movement| movement.kind == MovementKind::Paid) {
        let Some(hold) = movement.hold else { continue };
        let sides =
            [(hold.node, "earned", is_ours(movement.to)), (hold.client, "spent", movement.from.is_some_and(is_ours))];
        for (machine, side, counts) in sides {
            if !counts {
                continue;
            }
            let line = lines.entry((machine, side)).or_insert_with(|| StatementLine {
                machine: machine.to_string(),
                side: side.to_owned(),
                tasks: 0,
                prompt_tokens: 0,
                output_tokens: 0,
                amount_micro: 0,
            });
            line.tasks += 1;
            line.amount_micro = line.amount_micro.saturating_add(movement.amount_micro);
            if let Some(of) = &movement.line {
                line.prompt_tokens += u64::from(of.prompt_tokens);
                line.output_tokens += u64::from(of.output_tokens);
            }
        }
    }
    lines.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::{ids::TaskId, market::HoldId};

    #[test]
    fn each_machine_has_a_line_for_what_it_earned_and_one_for_what_it_spent() {
        let (client, node, other) = (NodeId([1; 32]), NodeId([2; 32]), NodeId([3; 32]));
        let paid = |node: NodeId, task, amount_micro| Movement {
            height: 1,
            unix_ms: 5,
            kind: MovementKind::Paid,
            from: Some(client.into()),
            to: node.into(),
            amount_micro,
            hold: Some(HoldId { client, task: TaskId([task; 16]), node }),
            line: None,
        };
        let held = Movement { kind: MovementKind::Held, ..paid(node, 1, 100) };
        let movements = [held, paid(node, 1, 7), paid(node, 2, 5), paid(other, 1, 3)];
        let lines = statement(&movements, Some(&[node.into()]));
        assert_eq!(lines.iter().map(StatementLine::csv).collect::<Vec<_>>(), [format!("{node},earned,2,0,0,12")]);
        let all = statement(&movements, None);
        let sums: Vec<_> = all.iter().map(|line| (line.side.as_str(), line.amount_micro)).collect();
        assert_eq!(sums, [("spent", 15), ("earned", 12), ("earned", 3)]);
        let report = MovementReport::from(&movements[1]);
        assert_eq!(report.csv().split(',').count(), MovementReport::COLUMNS.split(',').count());
    }
}
