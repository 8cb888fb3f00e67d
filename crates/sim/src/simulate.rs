//! Scenarios under rules, and the seed table.

use crate::{
    catalogue::{Catalogue, CatalogueError},
    fleet::Fleet,
    policy::{ClientRules, Darkbloom, Rival, Rule},
    report::{Report, RunReport, ScenarioReport, SeedRow},
    scenario::{Scenario, ScenarioError},
    world::{self, Ran},
};
use std::str::FromStr;

/// A rule with its clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contestant {
    /// The project's own.
    Darkbloom,
    /// Anybody with a free slot.
    Random,
    /// One after another.
    RoundRobin,
    /// Who has the fewest tasks.
    LeastLoaded,
    /// d-inference as published.
    DInference,
    /// d-inference's matching, with the failover of this project.
    DInferenceWithFailover,
}

/// No such rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "no policy is named `{0}`: it is one of `darkbloom`, `random`, `round-robin`, `least-loaded`, `d-inference`, `d-inference+failover`"
)]
pub struct UnknownContestant(String);

impl Contestant {
    /// Every one, the project's own first.
    pub const ALL: [Self; 6] = [
        Self::Darkbloom,
        Self::Random,
        Self::RoundRobin,
        Self::LeastLoaded,
        Self::DInference,
        Self::DInferenceWithFailover,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Darkbloom => "darkbloom",
            Self::Random => "random",
            Self::RoundRobin => "round-robin",
            Self::LeastLoaded => "least-loaded",
            Self::DInference => "d-inference",
            Self::DInferenceWithFailover => "d-inference+failover",
        }
    }

    /// Runs a scenario under it.
    pub fn run(self, catalogue: &Catalogue, scenario: &Scenario, fleet: &Fleet) -> Ran {
        /// The failover of this project; hedging takes an expectation, which these rules do not have.
        const FAILOVER: ClientRules = ClientRules { resume: true, hedge: false, tries_max: 9 };
        /// As published.
        const THREE_ATTEMPTS: ClientRules = ClientRules { resume: false, hedge: false, tries_max: 3 };
        let rival = |rule, clients| world::run(catalogue, scenario, fleet, Rival::new(rule, clients, scenario.seed));
        match self {
            Self::Darkbloom => {
                let rate = scenario.load * fleet.capacity.with_prompts / fleet.task_means.1;
                world::run(catalogue, scenario, fleet, Darkbloom::new(scenario.seed, rate))
            }
            Self::Random => rival(Rule::Random, FAILOVER),
            Self::RoundRobin => rival(Rule::RoundRobin, FAILOVER),
            Self::LeastLoaded => rival(Rule::LeastLoaded, FAILOVER),
            Self::DInference => rival(Rule::DInference, THREE_ATTEMPTS),
            Self::DInferenceWithFailover => rival(Rule::DInference, FAILOVER),
        }
    }
}

impl FromStr for Contestant {
    type Err = UnknownContestant;

    fn from_str(text: &str) -> Result<Self, UnknownContestant> {
        let named = Self::ALL.into_iter().find(|contestant| contestant.name() == text);
        named.ok_or_else(|| UnknownContestant(text.to_owned()))
    }
}

/// Why nothing was simulated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SimulateError {
    /// The inputs.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    /// The scenario.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
}

/// What was found, and how long it was in the simulated world, over all runs.
#[derive(Debug, Clone)]
pub struct Found {
    /// The report.
    pub report: Report,
    /// Simulated seconds.
    pub simulated_s: f64,
    /// Events.
    pub events: u64,
}

/// Runs a scenario under each of these rules.
pub fn simulate(
    catalogue: &Catalogue,
    scenario: &Scenario,
    contestants: &[Contestant],
) -> Result<Found, SimulateError> {
    scenario.check()?;
    let fleet = Fleet::new(catalogue, scenario)?;
    let (mut simulated_s, mut events) = (0.0, 0);
    let mut runs = Vec::with_capacity(contestants.len());
    for contestant in contestants {
        let ran = contestant.run(catalogue, scenario, &fleet);
        simulated_s += ran.simulated_s;
        events += ran.events;
        runs.push(RunReport::new(contestant.name(), &fleet, ran));
    }
    let report = Report { scenario: ScenarioReport::new(catalogue, scenario, &fleet), runs, seed_table: Vec::new() };
    Ok(Found { report, simulated_s, events })
}

/// The models of the seed table, and its figures in tokens per second.
const SEED_TABLE: [(&str, f64); 3] = [("phi-3-mini", 22_000.0), ("llama-3.2-3b", 15_500.0), ("gemma-2-2b", 28_000.0)];
/// Work that is offered to see what a fleet can do: more than it can.
const FULL_LOAD: f64 = 1.15;

/// The seed table: for each model a run without churn and with more work than can be done, and one with churn.
///
/// Of `scenario` the number of nodes, the seed and the hours count, and the load of the second run.
pub fn seed_table(catalogue: &Catalogue, scenario: &Scenario) -> Result<Found, SimulateError> {
    scenario.check()?;
    let (mut simulated_s, mut events) = (0.0, 0);
    let mut rows = Vec::new();
    let mut first = None;
    for (name, goal) in SEED_TABLE {
        let model = catalogue.model(name)?;
        let seed = Scenario { model: name.to_owned(), seed_rates: true, ..scenario.clone() };
        let full = Scenario { churn: false, load: FULL_LOAD, ..seed.clone() };
        let churn = Scenario { churn: true, ..seed };
        let fleet = Fleet::new(catalogue, &full)?;
        let at_full_load = Contestant::Darkbloom.run(catalogue, &full, &fleet);
        let with_churn = Contestant::Darkbloom.run(catalogue, &churn, &Fleet::new(catalogue, &churn)?);
        simulated_s += at_full_load.simulated_s + with_churn.simulated_s;
        events += at_full_load.events + with_churn.events;
        rows.push(SeedRow::new(
            model,
            goal * scenario.nodes as f64 / 1000.0,
            (&fleet, &at_full_load),
            &with_churn.tally,
        ));
        first.get_or_insert_with(|| ScenarioReport::new(catalogue, &full, &fleet));
    }
    let scenario = first.expect("the table has models");
    Ok(Found { report: Report { scenario, runs: Vec::new(), seed_table: rows }, simulated_s, events })
}

#[cfg(test)]
mod tests {
    use super::Contestant;

    #[test]
    fn contestants_are_found_by_name() {
        for contestant in Contestant::ALL {
            assert_eq!(contestant.name().parse(), Ok(contestant));
        }
        assert!("fastest".parse::<Contestant>().unwrap_err().to_string().contains("`d-inference+failover`"));
    }
}
