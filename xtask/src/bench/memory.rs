//! Memory of each role without a model: orchestrator, daemon and gateway, each a process of its own.

use super::Settings;
use super::processes;
use super::report::{Goal, Row};
use super::server::{self, Running, darkbloom, lending};
use super::stream::{Question, ask};
use crate::failure::{Failure, on_path};
use crate::workspace::Workspace;

const REQUESTS: usize = 50;
const ANSWER_TOKENS: usize = 8;
const GOAL_MIB: f64 = 60.0;

pub(super) fn measure(workspace: &Workspace, settings: &Settings) -> Result<Vec<Row>, Failure> {
    let start = |name, mut command: std::process::Command| {
        Running::start(settings, name, &mut command).map_err(on_path(command.get_program().as_ref()))
    };
    let mut orchestrator = start("orchestrate", darkbloom(workspace, settings, "orchestrate"))?;
    let ticket = orchestrator.line("ticket:")?;
    let mut join = lending(darkbloom(workspace, settings, "join"), settings);
    join.arg(&ticket);
    let mut node = start("join", join)?;
    node.line("lending")?;
    let gateway = server::gateway(workspace, settings, &ticket)?;
    for request in 0..REQUESTS {
        let prompt = format!("Story number {request}:");
        ask(gateway.address, &Question::Completion(&prompt), ANSWER_TOKENS).map_err(|error| gateway.failure(&error))?;
    }
    let roles = [("orchestrate", &orchestrator), ("join, without its worker", &node), ("serve", &gateway.process)];
    roles.into_iter().map(|(role, process)| row(role, process.id())).collect()
}

fn row(role: &str, id: u32) -> Result<Row, Failure> {
    let memory = processes::memory(id)
        .ok_or_else(|| Failure::new(format!("the memory of process {id} (`darkbloom {role}`) could not be read")))?;
    let mib = |kib: u64| kib as f64 / 1024.0;
    let known = |kib: Option<u64>| kib.map_or("unknown".to_owned(), |kib| format!("{:.1} MiB", mib(kib)));
    Ok(Row {
        benchmark: "memory",
        name: format!("resident, `{role}`"),
        unit: "MiB",
        value: mib(memory.rss_kib),
        goal: Goal::AtMost(GOAL_MIB),
        detail: format!(
            "proportional {}, not backed by a file {}; after {REQUESTS} requests",
            known(memory.pss_kib),
            known(memory.anonymous_kib)
        ),
    })
}
