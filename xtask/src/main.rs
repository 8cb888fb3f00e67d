//! The developer's commands: `cargo xtask ci` is what CI runs, step by step, and everything else here is one of its
//! parts or a measurement.
//!
//! The crate has no dependencies on purpose: it is the first thing that a fresh clone compiles, and building it alone
//! must not resolve a library's features differently from the workspace.

mod bench;
mod chaos;
mod ci;
mod failure;
mod fuzz;
mod process;
mod sim_committee;
mod workspace;

use std::process::ExitCode;

use failure::Failure;
use workspace::Workspace;

const USAGE: &str = "\
The developer's commands.

Usage: cargo xtask COMMAND

Commands:
  ci                       Runs every check, cheap ones first; stops at the first failure
  ci --list                Lists the steps
  ci --only STEP           Runs one step (may be given several times)
  fuzz [--seconds N] [T]   Runs the fuzz targets, or target T alone, N seconds each (default 60)
  chaos [--blows N] [--seed N]
                           Kills, freezes and drains nodes while answers stream from them (default 1000 blows)
  sim-committee [--seeds N] [--seed S] [--trace]
                           Simulates whole committees, one for each seed from S on (default 1000 from 0)
  bench [--only NAME]      Measures; every number of SPEC.md names its benchmark
  help                     Prints this text";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[&str]) -> Result<(), Failure> {
    let workspace = Workspace::locate()?;
    match arguments {
        ["ci", rest @ ..] => ci::run(&workspace, rest),
        ["fuzz", rest @ ..] => fuzz::run(&workspace, rest),
        ["chaos", rest @ ..] => chaos::run(&workspace, rest),
        ["sim-committee", rest @ ..] => sim_committee::run(&workspace, rest),
        ["bench", rest @ ..] => bench::run(&workspace, rest),
        [] | ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            Ok(())
        }
        [other, ..] => {
            Err(Failure::new(format!("there is no command `{other}`")).hint("`cargo xtask help` lists them"))
        }
    }
}
