//! What was measured, for people and for programs.

use std::fmt::Write;

use super::processes::load_average;
use super::{CONTEXT_TOKENS, SLOTS, Settings};

/// What a number should be.
#[derive(Debug, Clone, Copy)]
pub(super) enum Goal {
    AtLeast(f64),
    AtMost(f64),
    /// Told to explain another.
    None,
}

/// One number.
pub(super) struct Row {
    pub(super) benchmark: &'static str,
    pub(super) name: String,
    pub(super) unit: &'static str,
    pub(super) value: f64,
    pub(super) goal: Goal,
    /// What it was made of.
    pub(super) detail: String,
}

impl Row {
    fn verdict(&self) -> &'static str {
        match self.goal {
            Goal::AtLeast(goal) if self.value >= goal => "met",
            Goal::AtMost(goal) if self.value <= goal => "met",
            Goal::AtLeast(_) | Goal::AtMost(_) => "MISSED",
            Goal::None => "",
        }
    }
}

/// Everything that one run says.
pub(super) struct Report {
    facts: Vec<(&'static str, String)>,
    load_before: f64,
    pub(super) rows: Vec<Row>,
}

impl Report {
    /// Notes how the run began; the settings of models where there are any.
    pub(super) fn begin(arguments: &[&str], models: Option<&Settings>) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let words: Vec<String> = arguments
            .iter()
            .map(|word| if word.contains(' ') { format!("\"{word}\"") } else { (*word).into() })
            .collect();
        let mut facts = vec![("command", format!("cargo xtask bench {}", words.join(" ")).trim().to_owned())];
        if let Some(Settings { model, threads, .. }) = models {
            facts.push(("model", model.display().to_string()));
            facts.push(("servers", format!("{threads} threads, {SLOTS} slots of {CONTEXT_TOKENS} tokens")));
        }
        facts.push(("machine", format!("{} {}, {cores} cores", std::env::consts::OS, std::env::consts::ARCH)));
        Self { facts, load_before: load_average().unwrap_or(0.0), rows: Vec::new() }
    }

    fn load(&self) -> String {
        format!("{:.2} before, {:.2} after", self.load_before, load_average().unwrap_or(0.0))
    }

    /// For people.
    pub(super) fn table(&self) -> String {
        let mut text = String::new();
        for (name, value) in &self.facts {
            let _ = writeln!(text, "{name:<9} {value}");
        }
        let _ = writeln!(text, "{:<9} {}\n", "load", self.load());
        let _ = writeln!(text, "{:<9} {:<42} {:>9} {:>9} {:<6}  detail", "", "number", "goal", "value", "");
        for row in &self.rows {
            let goal = match row.goal {
                Goal::AtLeast(goal) => format!("≥ {goal}"),
                Goal::AtMost(goal) => format!("≤ {goal}"),
                Goal::None => String::new(),
            };
            let name = if row.unit.is_empty() { row.name.clone() } else { format!("{}, {}", row.name, row.unit) };
            let (benchmark, value, verdict, detail) = (row.benchmark, row.value, row.verdict(), &row.detail);
            let line = format!("{benchmark:<9} {name:<42} {goal:>9} {value:>9.3} {verdict:<6}  {detail}");
            let _ = writeln!(text, "{}", line.trim_end());
        }
        text
    }

    /// For programs: the same, in one object.
    pub(super) fn json(&self) -> String {
        let mut text = String::from("{\n");
        for (name, value) in &self.facts {
            let _ = writeln!(text, "  \"{name}\": {},", quoted(value));
        }
        let _ = writeln!(text, "  \"load\": {},\n  \"numbers\": [", quoted(&self.load()));
        for (index, row) in self.rows.iter().enumerate() {
            let (kind, goal) = match row.goal {
                Goal::AtLeast(goal) => ("at_least", goal.to_string()),
                Goal::AtMost(goal) => ("at_most", goal.to_string()),
                Goal::None => ("none", "null".to_owned()),
            };
            let met =
                if let Goal::None = row.goal { "null" } else { ["false", "true"][usize::from(row.verdict() == "met")] };
            let _ = writeln!(
                text,
                "    {{\"benchmark\": {}, \"name\": {}, \"unit\": {}, \"value\": {:.4}, \"goal\": {goal}, \
                 \"goal_kind\": \"{kind}\", \"met\": {met}, \"detail\": {}}}{}",
                quoted(row.benchmark),
                quoted(&row.name),
                quoted(row.unit),
                row.value,
                quoted(&row.detail),
                if index + 1 < self.rows.len() { "," } else { "" }
            );
        }
        text + "  ]\n}\n"
    }
}

/// A JSON string; see RFC 8259, section 7.
fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            character if character < ' ' => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(character));
            }
            character => quoted.push(character),
        }
    }
    quoted + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(value: f64, goal: Goal) -> Row {
        Row { benchmark: "decode", name: "ratio".to_owned(), unit: "", value, goal, detail: "a \"b\"\n".to_owned() }
    }

    #[test]
    fn verdicts_follow_the_goals() {
        assert_eq!(row(0.95, Goal::AtLeast(0.95)).verdict(), "met");
        assert_eq!(row(0.94, Goal::AtLeast(0.95)).verdict(), "MISSED");
        assert_eq!(row(4.1, Goal::AtMost(4.0)).verdict(), "MISSED");
        assert_eq!(row(4.1, Goal::None).verdict(), "");
    }

    #[test]
    fn json_is_escaped() {
        let rows = vec![row(0.5, Goal::AtLeast(0.95)), row(1.0, Goal::None)];
        let report = Report { facts: vec![("command", "x".to_owned())], load_before: 0.0, rows };
        let json = report.json();
        assert!(json.contains(r#""value": 0.5000, "goal": 0.95, "goal_kind": "at_least", "met": false"#), "{json}");
        assert!(
            json.contains(r#""goal": null, "goal_kind": "none", "met": null, "detail": "a \"b\"\u000a"}"#),
            "{json}"
        );
    }
}
