//! `darkbloom status`: what runs in this home, and why anything does not.

use crate::{
    cli::OutputArguments,
    control,
    failure::Failure,
    home::Home,
    report::{self, Reason, Status},
};
use jiff::{Timestamp, tz::TimeZone};
use std::process::ExitCode;

pub async fn run(home: &Home, arguments: &OutputArguments) -> Result<ExitCode, Failure> {
    let running = control::ask(home, control::Question::Status).await?;
    let code = if running.is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    let status = running.unwrap_or_else(|| Status {
        home: home.path().display().to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..Status::default()
    });
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&status).expect("a status is plain data"));
    } else if status.running {
        print!("{}", text(&status));
    } else {
        return Err(Failure::new(format!("nothing runs in {}", status.home))
            .hint("start a pool with `darkbloom up`, or lend this machine with `darkbloom join TICKET`"));
    }
    Ok(code)
}

fn text(status: &Status) -> String {
    let mut lines = vec![format!(
        "{} in {} (process {}, since {})",
        status.roles.join(", "),
        status.home,
        status.process_id.unwrap_or_default(),
        status.started_at.as_deref().unwrap_or("unknown"),
    )];
    if let Some(pool) = &status.pool {
        lines.push(format!("pool      {pool}"));
    }
    if let Some(base_url) = &status.base_url {
        let link = if status.connected == Some(true) { "" } else { "  (no orchestrator answers)" };
        lines.push(format!("base URL  {base_url}{link}"));
    }
    if let Some(ticket) = &status.ticket {
        lines.push(format!("ticket    {ticket}"));
    }
    lines.extend(status.agreement.iter().flat_map(report::AgreementReport::lines));
    if let Some(worker) = &status.worker {
        let slots = worker.slots.map_or_else(String::new, |slots| format!(", {slots} at once"));
        lines.push(format!("serving   {}{slots}", worker.model));
        lines.push(format!("tasks     {}", status.active_tasks.unwrap_or_default()));
        match status.held_back_by.as_deref() {
            Some([]) | None => lines.push("work      taken".to_owned()),
            Some(reasons) => lines.extend(reasons.iter().map(|reason| held("work      held back", reason))),
        }
    }
    for unwatched in status.unwatched.iter().flatten() {
        lines.push(format!("unwatched {}: {}", unwatched.rule, unwatched.why));
    }
    for model in status.models.iter().flatten() {
        let default = if model.default { " (default)" } else { "" };
        lines.push(format!("model     {}{default}: {} ready", model.name, nodes(model.ready_nodes)));
    }
    for node in status.nodes.iter().flatten() {
        let id = &node.id[..10];
        let (label, tasks, slots) = (&node.label, node.active_tasks, node.slots);
        let head = format!("node      {id} {label} {tasks}/{slots} tasks, trust {:.2}", node.score.total);
        if node.routable {
            lines.push(head);
        } else {
            lines.extend(
                node.reasons.iter().map(|reason| held(&format!("{head}, no work since {}", node.since), reason)),
            );
        }
    }
    lines.join("\n") + "\n"
}

fn held(what: &str, reason: &Reason) -> String {
    let remedy = reason.remedy.as_ref().map_or_else(String::new, |remedy| format!(" (hint: {remedy})"));
    let lifts = reason.lifts_at.as_ref().map_or_else(String::new, |at| format!(", until {} as things are", local(at)));
    format!("{what}: {}{lifts}{remedy}", reason.message)
}

/// A time as the clock on the wall shows it.
fn local(rfc3339: &str) -> String {
    match rfc3339.parse::<Timestamp>() {
        Ok(at) => at.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string(),
        Err(_) => rfc3339.to_owned(),
    }
}

fn nodes(count: u32) -> String {
    if count == 1 { "1 node".to_owned() } else { format!("{count} nodes") }
}
