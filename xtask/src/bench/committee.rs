//! A committee of four real processes with their files on the disk: what it sends while nothing happens, how soon and how
//! much it agrees, and what is noticed when one of it is killed. The load comes from a program of the crate `testbed`.

use super::Settings;
use super::report::{Goal, Row};
use crate::failure::Failure;
use crate::process::{command, output};
use crate::workspace::Workspace;

pub(super) const LOAD_PROGRAM: &str = "committee-load";
/// It starts workers of its own.
pub(super) const WORKER_PROGRAM: &str = "deterministic-worker";

const MEMBERS: usize = 4;
const IDLE_KB_PER_S: f64 = 5.0;
const FINALITY_MS: f64 = 100.0;
const FACTS_PER_S: f64 = 10_000.0;
const ROUTABLE_S: f64 = 5.0;

/// What one run of the load has found out, by name.
struct Found(Vec<(String, f64)>);

impl Found {
    fn by(workspace: &Workspace, what: &str) -> Result<Self, Failure> {
        eprintln!("  {what}");
        let text = output(command(workspace, workspace.binary(LOAD_PROGRAM)).arg(what))?;
        Ok(Self::read(&text))
    }

    fn read(text: &str) -> Self {
        let number = |line: &str| {
            let (name, value) = line.split_once('\t')?;
            Some((name.to_owned(), value.parse().ok()?))
        };
        Self(text.lines().filter_map(number).collect())
    }

    fn get(&self, name: &str) -> Result<f64, Failure> {
        let found = self.0.iter().find(|(found, _)| found == name).map(|(_, value)| *value);
        found.ok_or_else(|| Failure::new(format!("`{LOAD_PROGRAM}` did not say `{name}`")))
    }
}

pub(super) fn measure(workspace: &Workspace, _: &Settings) -> Result<Vec<Row>, Failure> {
    let mut rows = idle(&Found::by(workspace, "idle")?)?;
    rows.extend(finality(&Found::by(workspace, "finality")?)?);
    rows.push(throughput(&Found::by(workspace, "throughput")?)?);
    rows.extend(killed(&Found::by(workspace, "killed")?)?);
    Ok(rows)
}

fn row(name: &str, unit: &'static str, value: f64, goal: Goal, detail: String) -> Row {
    Row { benchmark: "committee", name: name.to_owned(), unit, value, goal, detail }
}

/// Empty where packets cannot be seen; the load has said so.
fn idle(found: &Found) -> Result<Vec<Row>, Failure> {
    if found.0.is_empty() {
        return Ok(Vec::new());
    }
    let of_each = |what: &str| -> Result<Vec<f64>, Failure> {
        (0..MEMBERS).map(|number| found.get(&format!("member_{number}_{what}"))).collect()
    };
    let (bytes, packets) = (of_each("bytes_per_s")?, of_each("packets_per_s")?);
    let each: Vec<String> = bytes.iter().map(|bytes| format!("{:.2}", bytes / 1e3)).collect();
    let detail = format!(
        "{} kB/s; {:.0} packets/s, with IP and UDP headers; {} blocks",
        each.join(" + "),
        packets.iter().sum::<f64>(),
        found.get("blocks")?
    );
    let sum = bytes.iter().sum::<f64>() / 1e3;
    Ok(vec![row("sent by all four, idle", "kB/s", sum, Goal::AtMost(IDLE_KB_PER_S), detail)])
}

fn work(found: &Found) -> Result<String, Failure> {
    Ok(format!(
        "{:.1} blocks/s; orchestrators {:.2} cores, load {:.2}; {} bundles failed, {} held back",
        found.get("blocks_per_s")?,
        found.get("orchestrator_cores")?,
        found.get("load_cores")?,
        found.get("failed")?,
        found.get("busy")?
    ))
}

fn finality(found: &Found) -> Result<Vec<Row>, Failure> {
    let rate = found.get("facts_per_s")?;
    let spread = format!("p90 {:.1} ms, longest {:.1} ms", found.get("p90_ms")?, found.get("max_ms")?);
    let name = |quantile| format!("{rate:.0} facts/s final, {quantile}");
    Ok(vec![
        row(&name("p50"), "ms", found.get("p50_ms")?, Goal::AtMost(FINALITY_MS), work(found)?),
        row(&name("p99"), "ms", found.get("p99_ms")?, Goal::None, spread),
    ])
}

fn throughput(found: &Found) -> Result<Row, Failure> {
    let detail =
        format!("{}; bundles p50 {:.0} ms, p99 {:.0} ms", work(found)?, found.get("p50_ms")?, found.get("p99_ms")?);
    Ok(row("facts final in batches", "1/s", found.get("facts_per_s")?, Goal::AtLeast(FACTS_PER_S), detail))
}

fn killed(found: &Found) -> Result<Vec<Row>, Failure> {
    let failed = format!(
        "of {}, the longest {:.1} s; {} of {} in the first 2 s; {} of {} before",
        found.get("requests_after_grace")?,
        found.get("longest_after_grace_s")?,
        found.get("failed_within_grace")?,
        found.get("requests_within_grace")?,
        found.get("failed_before")?,
        found.get("requests_before")?
    );
    let routable = format!("at the three that live; the longest of 4 kills, {} looks", found.get("looks")?);
    let lost = format!(
        "of {} that were final; all four show the same block and state at most {:.1} s after a restart, at last block {}",
        found.get("bundles_final")?,
        found.get("agree_again_after_s")?,
        found.get("height")?
    );
    Ok(vec![
        row(
            "one killed: new requests failed after 2 s",
            "",
            found.get("failed_after_grace")?,
            Goal::AtMost(0.0),
            failed,
        ),
        row(
            "one killed: all nodes routable",
            "s",
            found.get("routable_again_after_s")?,
            Goal::AtMost(ROUTABLE_S),
            routable,
        ),
        row("one killed and back: bundles lost", "", found.get("lost")?, Goal::AtMost(0.0), lost),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_load_says_is_read() {
        let found = Found::read("blocks\t5\nmember_0_bytes_per_s\t1818.5\nsomething else\n");
        assert_eq!((found.get("blocks").unwrap(), found.get("member_0_bytes_per_s").unwrap()), (5.0, 1818.5));
        assert!(found.get("something else").is_err());
        assert!(idle(&found).is_err(), "three members are missing");
        assert!(idle(&Found::read("")).unwrap().is_empty(), "where packets cannot be seen");
    }
}
