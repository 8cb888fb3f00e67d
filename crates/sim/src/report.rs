//! What a simulation found, in a form for people and for programs.

mod chart;
mod html;
mod table;

pub use html::html;
pub use table::table;

use crate::{
    adversary::Character,
    catalogue::Catalogue,
    fleet::Fleet,
    scenario::Scenario,
    tally::{Tally, fairness, percentile_of_all},
    world::Ran,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Everything that `darkbloom sim` found. Floating-point numbers are rounded to six digits behind the point.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// What was simulated.
    pub scenario: ScenarioReport,
    /// The rules, in the order in which they were simulated; empty for the seed table.
    pub runs: Vec<RunReport>,
    /// The seed table, where it was asked for.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub seed_table: Vec<SeedRow>,
}

/// What was simulated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScenarioReport {
    /// Of all chance.
    pub seed: u64,
    /// Honest members, present or away.
    pub nodes: usize,
    /// Fake nodes.
    pub sybils: usize,
    /// Nodes that fail every task.
    pub black_holes: usize,
    /// Nodes that claim ten times their speed.
    pub liars: usize,
    /// Simulated hours.
    pub hours: f64,
    /// Offered work relative to what the present nodes can do.
    pub load: f64,
    /// The model.
    pub model: String,
    /// Whether owners come and go.
    pub churn: bool,
    /// How many times the usual demand came in the middle fifth.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flash_crowd: Option<f64>,
    /// Share of the fleet that went home half way through.
    pub office: f64,
    /// Share of the fleet that could not be reached for ten minutes.
    pub partition: f64,
    /// The fleet by kind of machine.
    pub fleet: Vec<FleetRow>,
    /// Tokens in a second that the nodes which are present on average can write, one answer at a time.
    pub capacity_single: f64,
    /// The same with as many answers at a time as there are slots.
    pub capacity_batched: f64,
    /// The same, with the time that prompts take on the same machines.
    pub capacity_with_prompts: f64,
}

/// A kind of machine in the fleet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FleetRow {
    /// What people call it.
    pub machine: String,
    /// How many.
    pub nodes: usize,
    /// Tokens that one writes in a second for one answer.
    pub decode_per_s: f64,
    /// The same for as many answers as it has slots.
    pub decode_batched_per_s: f64,
    /// Tokens of prompts that one reads in a second.
    pub prefill_per_s: f64,
    /// Where the rates are from.
    pub source: String,
}

/// What one rule made of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunReport {
    /// Its name.
    pub policy: String,
    /// Tasks that came within the measuring window.
    pub offered: u64,
    /// Of these, those that were completed.
    pub completed: u64,
    /// Those that ended with an error.
    pub failed: u64,
    /// Those that were turned away, and came back in vain.
    pub refused: u64,
    /// Completed ones among those that were let in.
    pub completion_share: f64,
    /// Ended with an error among those that were let in, or with noise.
    pub error_share: f64,
    /// Tokens of complete answers in a second, noise left out.
    pub goodput_per_s: f64,
    /// The same relative to what the fleet can do.
    pub goodput_share: f64,
    /// Seconds to the last token, over all tasks that came: those that were not completed count as the slowest.
    pub completion_s: Percentiles,
    /// The same of tasks for which somebody waits.
    pub interactive_s: Percentiles,
    /// Seconds to the first token.
    pub first_token_s: Percentiles,
    /// Device time that was spent twice or for nothing.
    pub wasted_share: f64,
    /// Device time that trials took.
    pub trial_share: f64,
    /// Answers that went on after their node was lost.
    pub resumed: u64,
    /// Second nodes beside late ones.
    pub hedged: u64,
    /// Trials, and how many were failed.
    pub trials: u64,
    /// Trials that were failed.
    pub trials_failed: u64,
    /// Jain's index over accounts, relative to the max-min fair division.
    pub fairness: f64,
    /// Share of users' tasks that were given to nodes of each character, where there are any.
    pub reached: Vec<Reached>,
    /// Points in the course of time.
    pub course: Vec<Point>,
}

/// Seconds below which a share of the tasks lies; missing where so many were never completed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Percentiles {
    /// Half of them.
    pub p50: Option<f64>,
    /// Nine of ten.
    pub p90: Option<f64>,
    /// 99 of a hundred.
    pub p99: Option<f64>,
}

/// Users' tasks that were given to nodes of one character.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reached {
    /// What the nodes really are.
    pub character: Character,
    /// How many nodes.
    pub nodes: usize,
    /// Tasks that were given to them.
    pub tasks: u64,
    /// Of all tasks that were given to anybody.
    pub share: f64,
    /// Their mean score at the end, where the rule keeps scores.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
}

/// One point in the course of time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Point {
    /// Minutes since the simulation began.
    pub minute: f64,
    /// Tokens of complete answers in a second, since the point before.
    pub goodput_per_s: f64,
    /// Nodes that are there.
    pub present: usize,
    /// Tasks under way or waiting.
    pub tasks: usize,
    /// Median seconds to complete since the point before.
    pub completion_s: Option<f64>,
    /// Mean scores, in the order honest, sybil, black hole, mute, liar; missing where there are none.
    pub scores: Vec<Option<f64>>,
}

/// One model of the seed table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SeedRow {
    /// The model.
    pub model: String,
    /// Milliseconds for each token of one answer on an M-series machine, and on an Intel one.
    pub ms_per_token: (f64, f64),
    /// What the fleet can do, one answer at a time: tokens in a second.
    pub bound_single: f64,
    /// With the batching curve.
    pub bound_batched: f64,
    /// With the batching curve and the prompts of the tasks that were served, on the same machines.
    pub bound_with_prompts: f64,
    /// What the scheduler achieved: tokens in a second.
    pub achieved: f64,
    /// The same relative to the bound with prompts.
    pub achieved_share: f64,
    /// The seed's figure.
    pub goal: f64,
    /// With churn: tasks that were completed among those that were let in.
    pub churn_completion_share: f64,
    /// With churn: tasks that came.
    pub churn_offered: u64,
    /// With churn: device time that was spent twice or for nothing.
    pub churn_wasted_share: f64,
}

impl ScenarioReport {
    /// Of a scenario with its fleet.
    pub fn new(catalogue: &Catalogue, scenario: &Scenario, fleet: &Fleet) -> Self {
        let count = |character| fleet.nodes.iter().filter(|node| node.character == character).count();
        let row = |(kind, machine): (usize, &crate::catalogue::Machine)| {
            let of_kind = || fleet.nodes.iter().filter(move |node| node.machine == Some(kind));
            let node = of_kind().next()?;
            Some(FleetRow {
                machine: machine.name.clone(),
                nodes: of_kind().count(),
                decode_per_s: rounded(node.rates.decode(1)),
                decode_batched_per_s: rounded(node.rates.decode(node.slots)),
                prefill_per_s: rounded(node.rates.prefill),
                source: machine.source.clone(),
            })
        };
        Self {
            seed: scenario.seed,
            nodes: scenario.nodes,
            sybils: scenario.sybils,
            black_holes: count(Character::BlackHole) + count(Character::Mute),
            liars: count(Character::Liar),
            hours: rounded(scenario.hours),
            load: rounded(scenario.load),
            model: scenario.model.clone(),
            churn: scenario.churn,
            flash_crowd: scenario.crowd.map(rounded),
            office: rounded(scenario.office),
            partition: rounded(scenario.partition),
            fleet: catalogue.machines.iter().enumerate().filter_map(row).collect(),
            capacity_single: rounded(fleet.capacity.single),
            capacity_batched: rounded(fleet.capacity.batched),
            capacity_with_prompts: rounded(fleet.capacity.with_prompts),
        }
    }
}

impl RunReport {
    /// Of a run.
    pub fn new(policy: &str, fleet: &Fleet, ran: Ran) -> Self {
        let Ran { mut tally, samples, window_s, scores, .. } = ran;
        let offered = tally.offered;
        let admitted = (offered - tally.refused).max(1) as f64;
        let goodput = tally.tokens as f64 / window_s;
        let given: u64 = tally.given.iter().sum();
        let reached = |character: Character| {
            let nodes = fleet.nodes.iter().filter(|node| node.character == character).count();
            let of = scores.iter().filter(|(node, _)| fleet.nodes[*node].character == character);
            let (sum, scored) = of.fold((0.0, 0u32), |(sum, count), (_, score)| (sum + score.total, count + 1));
            let tasks = tally.given[character as usize];
            (nodes > 0).then(|| Reached {
                character,
                nodes,
                tasks,
                share: rounded(tasks as f64 / given.max(1) as f64),
                score: (scored > 0).then(|| rounded(sum / f64::from(scored))),
            })
        };
        let reached = Character::ALL.into_iter().filter_map(reached).collect();
        let point = |sample: crate::world::Sample| Point {
            minute: rounded(sample.minute),
            goodput_per_s: rounded(sample.tokens_per_s),
            present: sample.present,
            tasks: sample.tasks,
            completion_s: sample.latency_s.map(rounded),
            scores: sample.scores.iter().map(|score| score.map(rounded)).collect(),
        };
        let interactive = tally.interactive_offered;
        Self {
            policy: policy.to_owned(),
            offered,
            completed: tally.completed,
            failed: tally.failed,
            refused: tally.refused,
            completion_share: rounded(tally.completed as f64 / admitted),
            error_share: rounded((tally.failed + tally.noise) as f64 / admitted),
            goodput_per_s: rounded(goodput),
            goodput_share: rounded(goodput / fleet.capacity.with_prompts),
            completion_s: percentiles(&mut tally.latency_s, offered),
            interactive_s: percentiles(&mut tally.interactive_s, interactive),
            first_token_s: percentiles(&mut tally.first_token_s, offered),
            wasted_share: rounded(tally.wasted_share()),
            trial_share: rounded(tally.trial_share()),
            resumed: tally.resumed,
            hedged: tally.hedged,
            trials: tally.trials.0,
            trials_failed: tally.trials.1,
            fairness: rounded(fairness(&tally.accounts)),
            reached,
            course: samples.into_iter().map(point).collect(),
        }
    }
}

impl SeedRow {
    /// Of a run without churn at full load, and one with churn.
    pub fn new(model: &crate::catalogue::Model, goal: f64, (fleet, full): (&Fleet, &Ran), churn: &Tally) -> Self {
        let (prompt, answer) = full.tally.served_means();
        let bound_with_prompts: f64 =
            fleet.nodes.iter().map(|node| node.rates.sustained(node.slots, prompt, answer)).sum();
        let achieved = full.tally.tokens as f64 / full.window_s;
        let admitted = (churn.offered - churn.refused).max(1) as f64;
        let ms = |family: &str| model.seed.get(family).copied().unwrap_or_default();
        Self {
            model: model.title.clone(),
            ms_per_token: (ms("m-series"), ms("intel")),
            bound_single: rounded(fleet.capacity.single),
            bound_batched: rounded(fleet.capacity.batched),
            bound_with_prompts: rounded(bound_with_prompts),
            achieved: rounded(achieved),
            achieved_share: rounded(achieved / bound_with_prompts),
            goal,
            churn_completion_share: rounded(churn.completed as f64 / admitted),
            churn_offered: churn.offered,
            churn_wasted_share: rounded(churn.wasted_share()),
        }
    }
}

fn percentiles(values: &mut [f32], all: u64) -> Percentiles {
    let mut at = |share| percentile_of_all(values, share, all).map(rounded);
    Percentiles { p50: at(0.5), p90: at(0.9), p99: at(0.99) }
}

/// Six digits behind the point: what is printed is what was computed, on every machine.
fn rounded(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}
