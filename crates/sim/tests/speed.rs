//! A thousand machines, an hour in seconds. Counted in events and not in seconds, which a busy machine stretches.

use sim::{
    catalogue::Catalogue,
    scenario::Scenario,
    simulate::{Contestant, simulate},
};

#[test]
fn a_task_takes_few_events() {
    let scenario = Scenario { hours: 0.1, ..Scenario::default() };
    let found = simulate(&Catalogue::built_in(), &scenario, &[Contestant::Darkbloom]).unwrap();
    let per_task = found.events as f64 / found.report.runs[0].offered as f64;
    assert!(found.report.runs[0].offered > 10_000);
    assert!(per_task < 12.0, "{per_task}");
}
