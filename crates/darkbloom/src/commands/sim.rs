//! `darkbloom sim`: a pool in a simulation, under the scheduler that the orchestrator runs and under others.

use crate::{
    cli::{Preset, SimArguments},
    failure::Failure,
};
use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeValLike,
};
use sim::{
    catalogue::Catalogue,
    report,
    scenario::Scenario,
    simulate::{Contestant, Found, SimulateError, seed_table, simulate},
};
use std::process::ExitCode;

pub fn run(arguments: &SimArguments) -> Result<ExitCode, Failure> {
    let catalogue = match &arguments.machines {
        None => Catalogue::built_in(),
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .map_err(|error| Failure::new(format!("cannot read {}: {error}", path.display())))?;
            Catalogue::parse(&text).map_err(|error| Failure::new(format!("{}: {error}", path.display())))?
        }
    };
    let scenario = scenario(arguments);
    let before_s = cpu_s();
    let found = match arguments.preset {
        Some(Preset::SeedTable) => seed_table(&catalogue, &scenario),
        None => simulate(&catalogue, &scenario, &contestants(arguments)?),
    }
    .map_err(failure)?;
    pace(&found, cpu_s() - before_s);
    if let Some(path) = &arguments.html {
        std::fs::write(path, report::html(&found.report))
            .map_err(|error| Failure::new(format!("cannot write {}: {error}", path.display())))?;
        eprintln!("charts are in {}", path.display());
    }
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&found.report).expect("a report is plain data"));
    } else {
        print!("{}", report::table(&found.report));
    }
    Ok(ExitCode::SUCCESS)
}

fn scenario(arguments: &SimArguments) -> Scenario {
    Scenario {
        nodes: arguments.nodes,
        seed: arguments.seed,
        hours: arguments.hours,
        load: arguments.load,
        model: arguments.model.clone(),
        seed_rates: false,
        churn: !arguments.no_churn,
        sybils: arguments.sybil,
        black_holes: arguments.black_holes.unwrap_or_default(),
        liars: arguments.liars.unwrap_or_default(),
        crowd: arguments.flash_crowd,
        office: arguments.office,
        partition: arguments.partition,
    }
}

fn contestants(arguments: &SimArguments) -> Result<Vec<Contestant>, Failure> {
    if arguments.compare || arguments.policy == "all" {
        return Ok(Contestant::ALL.to_vec());
    }
    arguments.policy.parse().map(|contestant| vec![contestant]).map_err(Failure::new)
}

fn failure(error: SimulateError) -> Failure {
    Failure::new(error)
}

/// How fast it went is no part of the report: that has the same bytes for the same seed.
fn pace(found: &Found, cpu_s: f64) {
    eprintln!(
        "{:.0} simulated seconds, {} events, in {cpu_s:.2} CPU seconds: {:.0} times as fast as real time",
        found.simulated_s,
        found.events,
        found.simulated_s / cpu_s.max(1e-9)
    );
}

fn cpu_s() -> f64 {
    // It cannot fail for the process itself.
    getrusage(UsageWho::RUSAGE_SELF).map_or(0.0, |usage| usage.user_time().num_microseconds() as f64 / 1e6)
}
