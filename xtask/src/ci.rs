//! `cargo xtask ci`: every check, cheap ones first.

mod code;
mod generated;
mod layers;
mod licences;
mod macos;
mod promises;
mod python;
mod sources;
mod testing;

use std::time::{Duration, Instant};

use crate::failure::Failure;
use crate::fuzz;
use crate::workspace::Workspace;

/// How a step that found nothing wrong has ended.
pub(crate) enum Outcome {
    /// It was checked; with a remark for the summary, or an empty one.
    Passed(String),
    /// It could *not* be checked here, and why. It does not fail the run, but the summary says it aloud.
    NotChecked(String),
}

impl Outcome {
    fn passed() -> Self {
        Self::Passed(String::new())
    }
}

/// One check.
struct Step {
    name: &'static str,
    about: &'static str,
    run: fn(&Workspace) -> Result<Outcome, Failure>,
}

/// Seconds that CI gives to each fuzz target.
const FUZZ_SECONDS: u32 = 5;

/// In the order in which they run: seconds first, then what must compile, then what must run.
const STEPS: &[Step] = &[
    Step { name: "format", about: "rustfmt has nothing to change", run: code::format },
    Step { name: "sources", about: "house rules on names, sizes and unfinished marks", run: sources::check },
    Step { name: "layers", about: "dependencies between our crates point down", run: layers::check },
    Step {
        name: "licences",
        about: "deny.toml allows every dependency, its licence and its source",
        run: licences::licences,
    },
    Step { name: "advisories", about: "no dependency has a known vulnerability", run: licences::advisories },
    Step { name: "build", about: "every binary, in the one profile", run: code::build },
    Step { name: "clippy", about: "no warning in any target", run: code::clippy },
    Step { name: "docs", about: "rustdoc without a warning", run: code::docs },
    Step { name: "generated", about: "the JSON schemas in docs/schemas are those of the code", run: generated::check },
    Step { name: "test-build", about: "the tests compile no dependency a second time", run: testing::build },
    Step { name: "promises", about: "SPEC.md names tests that exist, or says pending", run: promises::check },
    Step { name: "tests", about: "all tests, with the real default model and a real SDK", run: testing::run_all },
    Step { name: "fuzz", about: "every decoder, briefly", run: |workspace| fuzz::all(workspace, FUZZ_SECONDS) },
    Step { name: "macos", about: "the code for macOS type-checks", run: macos::check },
];

/// `cargo xtask ci [--list] [--only STEP]...`
pub(crate) fn run(workspace: &Workspace, arguments: &[&str]) -> Result<(), Failure> {
    let mut chosen = Vec::new();
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match *argument {
            "--list" => {
                STEPS.iter().for_each(|step| println!("{:<12} {}", step.name, step.about));
                return Ok(());
            }
            "--only" => {
                let name = *arguments.next().ok_or_else(|| Failure::new("`--only` needs the name of a step"))?;
                let step = STEPS.iter().find(|step| step.name == name);
                chosen.push(step.ok_or_else(|| {
                    Failure::new(format!("there is no step `{name}`")).hint("`cargo xtask ci --list` lists them")
                })?);
            }
            other => return Err(Failure::new(format!("`ci` does not know `{other}`")).hint("cargo xtask help")),
        }
    }
    if chosen.is_empty() {
        chosen = STEPS.iter().collect();
    }
    run_steps(workspace, &chosen)
}

fn run_steps(workspace: &Workspace, steps: &[&Step]) -> Result<(), Failure> {
    let start = Instant::now();
    let mut summary = Vec::new();
    let mut result = Ok(());
    for (position, step) in steps.iter().enumerate() {
        println!("\n=== {} ({}/{}): {}", step.name, position + 1, steps.len(), step.about);
        let step_start = Instant::now();
        let outcome = (step.run)(workspace);
        let time = seconds(step_start.elapsed());
        let line = match &outcome {
            Ok(Outcome::Passed(remark)) => format!("passed       {time}  {:<12} {remark}", step.name),
            Ok(Outcome::NotChecked(why)) => format!("NOT CHECKED  {time}  {:<12} {why}", step.name),
            Err(_) => format!("FAILED       {time}  {:<12}", step.name),
        };
        println!("{}", line.trim_end());
        summary.push(line);
        if let Err(failure) = outcome {
            summary.extend(steps[position + 1..].iter().map(|step| format!("not run               {}", step.name)));
            result = Err(failure);
            break;
        }
    }
    println!("\n=== summary");
    summary.iter().for_each(|line| println!("{}", line.trim_end()));
    println!("total        {}", seconds(start.elapsed()));
    result
}

fn seconds(time: Duration) -> String {
    format!("{:>6.1} s", time.as_secs_f64())
}
