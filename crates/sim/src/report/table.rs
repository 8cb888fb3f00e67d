//! The report as text.

use super::{Percentiles, Report, RunReport};
use std::fmt::Write as _;

/// For people at a terminal: at most 120 columns.
pub fn table(report: &Report) -> String {
    let mut out = String::new();
    let scenario = &report.scenario;
    let kinds: Vec<String> = scenario.fleet.iter().map(|row| format!("{} {}", row.nodes, row.machine)).collect();
    put(&mut out, &format!("{} nodes (seed {}): {}", scenario.nodes, scenario.seed, kinds.join(", ")));
    if report.seed_table.is_empty() {
        put(&mut out, &situation(report));
        put(
            &mut out,
            &format!(
                "physical bound: {} tokens/s one answer at a time, {} batched, {} with the prompts' own work",
                whole(scenario.capacity_single),
                whole(scenario.capacity_batched),
                whole(scenario.capacity_with_prompts)
            ),
        );
        runs(&mut out, &report.runs);
        reached(&mut out, &report.runs);
    } else {
        seed_table(&mut out, report);
    }
    out
}

fn situation(report: &Report) -> String {
    let scenario = &report.scenario;
    let mut parts = vec![
        format!("{} h of {} at {} % load", short(scenario.hours), scenario.model, short(scenario.load * 100.0)),
        if scenario.churn { "owners come and go".to_owned() } else { "nobody leaves".to_owned() },
    ];
    let mut add = |count: usize, what: &str| {
        if count > 0 {
            parts.push(format!("{count} {what}"));
        }
    };
    add(scenario.sybils, "fake nodes, open admission");
    add(scenario.black_holes, "black holes");
    add(scenario.liars, "liars");
    if let Some(times) = scenario.flash_crowd {
        parts.push(format!("a crowd of {}x", short(times)));
    }
    if scenario.office > 0.0 {
        parts.push(format!("an office of {} goes home", share(scenario.office)));
    }
    if scenario.partition > 0.0 {
        parts.push(format!("{} cut off for ten minutes", share(scenario.partition)));
    }
    parts.join("; ")
}

fn runs(out: &mut String, runs: &[RunReport]) {
    put(out, "");
    put(
        out,
        "                       goodput  of bound   completed  refused   errors  wasted     complete, s       first, s  fair",
    );
    put(
        out,
        "policy                tokens/s                                                   p50   p90   p99   p50   p99",
    );
    for run in runs {
        let Percentiles { p50, p90, p99 } = run.completion_s;
        let first = run.first_token_s;
        put(
            out,
            &format!(
                "{:<21} {:>8} {:>9} {:>11} {:>8} {:>8} {:>7} {:>6}{:>6}{:>6}{:>6}{:>6} {:>5}",
                run.policy,
                whole(run.goodput_per_s),
                share(run.goodput_share),
                exact(run.completion_share),
                share(run.refused as f64 / run.offered.max(1) as f64),
                exact(run.error_share),
                share(run.wasted_share),
                time(p50),
                time(p90),
                time(p99),
                time(first.p50),
                time(first.p99),
                format!("{:.3}", run.fairness),
            ),
        );
    }
    for run in runs.iter().filter(|run| run.hedged + run.resumed + run.trials > 0) {
        put(
            out,
            &format!(
                "{}: {} answers resumed, {} hedged, {} trials ({} failed, {} of device time)",
                run.policy,
                run.resumed,
                run.hedged,
                run.trials,
                run.trials_failed,
                share(run.trial_share)
            ),
        );
    }
}

fn reached(out: &mut String, runs: &[RunReport]) {
    if runs.iter().all(|run| run.reached.len() < 2) {
        return;
    }
    put(out, "");
    put(out, "share of users' tasks given to");
    for run in runs {
        let of = |reached: &super::Reached| {
            let score = reached.score.map_or_else(String::new, |score| format!(", score {score:.2}"));
            format!("{} {} ({} nodes{score})", reached.character.name(), exact(reached.share), reached.nodes)
        };
        let line: Vec<String> = run.reached.iter().map(of).collect();
        put(out, &format!("{:<21} {}", run.policy, line.join("; ")));
    }
}

fn seed_table(out: &mut String, report: &Report) {
    put(out, "full load without churn; tokens/s of the whole fleet");
    put(out, "");
    put(
        out,
        "                     ms/token   bound, one    bound,   with prompts'  achieved    of      seed   with churn:",
    );
    put(
        out,
        "model               M / Intel  at a time    batched   own work                  bound  figure  completed  wasted",
    );
    for row in &report.seed_table {
        put(
            out,
            &format!(
                "{:<19} {:>9} {:>10} {:>10} {:>13} {:>11} {:>7} {:>7} {:>10} {:>7}",
                row.model,
                format!("{}/{}", short(row.ms_per_token.0), short(row.ms_per_token.1)),
                whole(row.bound_single),
                whole(row.bound_batched),
                whole(row.bound_with_prompts),
                whole(row.achieved),
                share(row.achieved_share),
                whole(row.goal),
                exact(row.churn_completion_share),
                share(row.churn_wasted_share),
            ),
        );
    }
}

fn put(out: &mut String, line: &str) {
    writeln!(out, "{}", line.trim_end()).expect("strings take everything");
}

fn whole(value: f64) -> String {
    format!("{value:.0}")
}

fn short(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn share(value: f64) -> String {
    format!("{:.1} %", value * 100.0)
}

fn exact(value: f64) -> String {
    format!("{:.3} %", value * 100.0)
}

fn time(value: Option<f64>) -> String {
    // So many were never completed.
    value.map_or_else(|| "never".to_owned(), |value| format!("{value:.1}"))
}
