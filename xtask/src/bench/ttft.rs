//! What the private path adds to the time to first token: through the gateway, and straight into an engine of the same
//! options in a process of its own, taking turns.

use std::io::Write;
use std::process::Stdio;

use super::http::Connection;
use super::report::{Goal, Row};
use super::server::{self, Running};
use super::statistics::quantile;
use super::stream::{Question, ask_over};
use super::{CONTEXT_TOKENS, SLOTS, Settings};
use crate::failure::{Failure, on_path};
use crate::process::command;
use crate::workspace::Workspace;

/// An example of the crate `engine`: linking llama.cpp into these commands would make every one of them slow to build.
pub(super) const DIRECT_PROGRAM: &str = "examples/first_token";

/// Fewer tokens than the smallest step reads, so that both ways read it in one step; and neither keeps what it has read
/// for the next request.
const PROMPT: &str = "The capital of France is";
const WARM_UP: usize = 10;

pub(super) fn measure(workspace: &Workspace, settings: &Settings) -> Result<Vec<Row>, Failure> {
    let mut direct = start_direct(workspace, settings)?;
    let pool = server::pool(workspace, settings)?;
    let fail = |error| pool.failure(&error);
    let mut connection = Connection::open(pool.address).map_err(fail)?;
    let mut through_gateway = || {
        let answer = ask_over(&mut connection, &Question::Completion(PROMPT), 1).map_err(fail)?;
        Ok::<f64, Failure>(answer.time_to_first_token().as_secs_f64() * 1e3)
    };
    let (mut private, mut bare) = (Vec::new(), Vec::new());
    for request in 0..WARM_UP + settings.requests {
        let (ours, engine) = if request % 2 == 0 {
            let ours = through_gateway()?;
            (ours, ask_direct(&mut direct)?)
        } else {
            let engine = ask_direct(&mut direct)?;
            (through_gateway()?, engine)
        };
        if request >= WARM_UP {
            private.push(ours);
            bare.push(engine);
        }
    }
    let added: Vec<f64> = private.iter().zip(&bare).map(|(private, bare)| private - bare).collect();
    Ok([(0.5, "p50", 4.0), (0.99, "p99", 20.0)]
        .map(|(share, name, goal)| {
            let (private, bare) = (quantile(&private, share), quantile(&bare, share));
            let paired = quantile(&added, share);
            Row {
                benchmark: "ttft",
                name: format!("added to first token, {name}"),
                unit: "ms",
                value: private - bare,
                goal: Goal::AtMost(goal),
                detail: format!("{private:.2} - {bare:.2} ms; {name} of the differences of pairs {paired:.2} ms"),
            }
        })
        .into())
}

fn start_direct(workspace: &Workspace, settings: &Settings) -> Result<Running, Failure> {
    let program = workspace.binary(DIRECT_PROGRAM);
    let mut command = command(workspace, &program);
    command.arg(&settings.model).args([settings.threads, SLOTS, CONTEXT_TOKENS].map(|number| number.to_string()));
    let mut direct =
        Running::start(settings, "first_token", command.stdin(Stdio::piped())).map_err(on_path(&program))?;
    direct.line("ready")?;
    Ok(direct)
}

/// Milliseconds to the first token.
fn ask_direct(direct: &mut Running) -> Result<f64, Failure> {
    let asked = writeln!(direct.input(), "{PROMPT}");
    asked.map_err(|error| Failure::new(format!("the bare engine ended: {error}")))?;
    let line = direct.line("")?;
    let micros: f64 = line.parse().map_err(|_| Failure::new(format!("the bare engine said `{line}`")))?;
    Ok(micros / 1e3)
}
