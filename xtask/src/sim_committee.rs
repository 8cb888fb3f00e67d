//! `cargo xtask sim-committee`: the simulated committees of CI with as many seeds as one has time for.

use crate::failure::Failure;
use crate::process::{cargo, run as run_command};
use crate::workspace::Workspace;

const SEEDS: u64 = 1_000;
const TEST: &str = "simulation::seeds::whatever_goes_wrong_the_committee_agrees_and_goes_on";

/// `cargo xtask sim-committee [--seeds N] [--seed S] [--trace]`
pub(crate) fn run(workspace: &Workspace, arguments: &[&str]) -> Result<(), Failure> {
    let (mut seeds, mut seed, mut is_traced) = (None, None, false);
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let value = match *argument {
            "--seeds" => &mut seeds,
            "--seed" => &mut seed,
            "--trace" => {
                is_traced = true;
                continue;
            }
            other => {
                return Err(Failure::new(format!("`sim-committee` does not know `{other}`")).hint("cargo xtask help"));
            }
        };
        let text = arguments.next().ok_or_else(|| Failure::new(format!("`{argument}` needs a number")))?;
        *value = Some(text.parse::<u64>().map_err(|_| Failure::new(format!("`{text}` is not a number")))?);
    }
    // A seed alone is that one.
    let seeds = seeds.unwrap_or(if seed.is_some() { 1 } else { SEEDS });
    let line = format!("test --release --locked -p committee --lib -- --exact {TEST} --nocapture");
    let mut test = cargo(workspace, &line);
    test.env("DARKBLOOM_SIM_SEEDS", seeds.to_string()).env("DARKBLOOM_SIM_SEED", seed.unwrap_or(0).to_string());
    if is_traced {
        test.env("DARKBLOOM_SIM_TRACE", "1");
    }
    run_command(&mut test)
}
