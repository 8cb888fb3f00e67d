//! The report as one page that needs nothing else.

use super::{
    Report, RunReport,
    chart::{Bars, Line, bars, escaped, lines},
    table,
};
use crate::adversary::Character;

const HEAD: &str =
    "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>darkbloom sim</title>\n<style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
pre { overflow-x: auto; background: #f5f5f5; padding: 1rem; font-size: 12px }
figure { margin: 1.5rem 0 } svg { width: 100% } svg text { font: 11px sans-serif; fill: #555 }
figcaption span { margin-left: 1rem } i { display: inline-block; width: .8em; height: .8em; margin-right: .3em }
</style>\n";

/// A self-contained page: the table, the charts, the sources.
pub fn html(report: &Report) -> String {
    let mut page = String::from(HEAD);
    page.push_str("<h1>darkbloom sim</h1>\n<pre>");
    page.push_str(&escaped(&table(report)));
    page.push_str("</pre>\n");
    if report.seed_table.is_empty() {
        runs(&mut page, report)
    } else {
        seed_table(&mut page, report)
    }
    page.push_str("<h2>Machines</h2>\n<ul>\n");
    for row in &report.scenario.fleet {
        page.push_str(&format!(
            "<li>{} × {}: {:.1} tokens/s alone, {:.1} with all slots, {:.0} tokens/s of prompts ({})</li>\n",
            row.nodes,
            escaped(&row.machine),
            row.decode_per_s,
            row.decode_batched_per_s,
            row.prefill_per_s,
            escaped(&row.source)
        ));
    }
    page.push_str("</ul>\n</html>\n");
    page
}

fn runs(page: &mut String, report: &Report) {
    let of = |value: fn(&super::Point) -> Option<f64>| -> Vec<Line> {
        let line = |run: &RunReport| Line {
            name: run.policy.clone(),
            points: run.course.iter().map(|point| (point.minute, value(point))).collect(),
        };
        report.runs.iter().map(line).collect()
    };
    page.push_str(&lines(
        "Throughput",
        "tokens of complete answers in a second",
        &of(|point| Some(point.goodput_per_s)),
    ));
    page.push_str(&lines("Latency", "median seconds to complete", &of(|point| point.completion_s)));
    let groups = |values: fn(&RunReport) -> Vec<Option<f64>>| -> Vec<Bars> {
        report.runs.iter().map(|run| Bars { name: run.policy.clone(), values: values(run) }).collect()
    };
    page.push_str(&bars(
        "Latency percentiles",
        "seconds to complete, over all tasks that came",
        &["p50", "p90", "p99"],
        &groups(|run| vec![run.completion_s.p50, run.completion_s.p90, run.completion_s.p99]),
    ));
    page.push_str(&bars(
        "First token percentiles",
        "seconds, over all tasks that came",
        &["p50", "p90", "p99"],
        &groups(|run| vec![run.first_token_s.p50, run.first_token_s.p90, run.first_token_s.p99]),
    ));
    page.push_str(&bars(
        "Completion and fairness",
        "share of what came that was completed; Jain's index over accounts",
        &["completed", "fairness"],
        &groups(|run| vec![Some(run.completed as f64 / run.offered.max(1) as f64), Some(run.fairness)]),
    ));
    let present = report.runs.first().map(|run| Line {
        name: "nodes".to_owned(),
        points: run.course.iter().map(|point| (point.minute, Some(point.present as f64))).collect(),
    });
    page.push_str(&lines("Nodes that are there", "nodes", &present.into_iter().collect::<Vec<_>>()));
    scores(page, report);
}

/// How scores part the honest from the others.
fn scores(page: &mut String, report: &Report) {
    let scored = |run: &&RunReport| run.course.iter().any(|point| point.scores.iter().any(Option::is_some));
    let Some(run) = report.runs.iter().find(scored) else { return };
    let line = |character: Character| Line {
        name: character.name().to_owned(),
        points: run.course.iter().map(|point| (point.minute, point.scores[character as usize])).collect(),
    };
    let there = |line: &Line| line.points.iter().any(|(_, score)| score.is_some());
    let all: Vec<Line> = Character::ALL.into_iter().map(line).filter(there).collect();
    page.push_str(&lines("Scores", &format!("mean Trusted Compute Score, {}", run.policy), &all));
}

fn seed_table(page: &mut String, report: &Report) {
    let groups = report.seed_table.iter().map(|row| Bars {
        name: row.model.clone(),
        values: [row.goal, row.bound_single, row.bound_batched, row.bound_with_prompts, row.achieved]
            .map(Some)
            .to_vec(),
    });
    page.push_str(&bars(
        "Throughput of the whole fleet",
        "tokens in a second",
        &["seed figure", "bound, one at a time", "bound, batched", "bound with prompts", "achieved"],
        &groups.collect::<Vec<_>>(),
    ));
}
