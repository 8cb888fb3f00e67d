//! Measures a committee of four real processes: `cargo xtask bench committee` runs it and says what the numbers should be.
//!
//! `committee-load idle|finality|throughput|killed [SECONDS]`. Each number is a line on standard output: its name, a tab, its
//! value.

#[cfg(target_os = "linux")]
mod idle;
mod killed;

use protocol::ticket::Ticket;
use std::{
    process::ExitCode,
    time::{Duration, Instant},
};
use testbed::{
    committee::Committee,
    load::{self, Author, Outcome},
};

/// Orchestrators. One of them may fail.
const MEMBERS: usize = 4;
const SECONDS: u64 = 20;
/// Before anything is measured.
const WARM_UP: Duration = Duration::from_secs(3);

/// Orchestrators let one author say 4 bundles a second. At this rate each says two.
const FINALITY_AUTHORS: usize = 32;
const FINALITY_FACTS_PER_S: f64 = 1_000.0;
const FINALITY_BUNDLE_FACTS: usize = 16;
/// Enough that the orchestrators' patience is not what bounds them: 256 bundles a second.
const THROUGHPUT_AUTHORS: usize = 64;

fn tell(name: &str, value: impl std::fmt::Display) {
    println!("{name}\t{value}");
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (what, seconds) = match &arguments[..] {
        [what] => (what.as_str(), Some(SECONDS)),
        [what, seconds] => (what.as_str(), seconds.parse().ok()),
        _ => ("", None),
    };
    let Some(length) = seconds.map(Duration::from_secs) else { return usage() };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("threads can be started");
    match what {
        #[cfg(target_os = "linux")]
        "idle" => runtime.block_on(idle::measure(length)),
        #[cfg(not(target_os = "linux"))]
        "idle" => eprintln!("packets can be seen on Linux only"),
        "finality" => runtime.block_on(finality(length)),
        "throughput" => runtime.block_on(throughput(length)),
        "killed" => runtime.block_on(killed::measure(length)),
        _ => return usage(),
    }
    ExitCode::SUCCESS
}

fn usage() -> ExitCode {
    eprintln!("usage: committee-load idle|finality|throughput|killed [SECONDS]");
    ExitCode::FAILURE
}

fn ticket(committee: &Committee) -> Ticket {
    committee.ticket.parse().expect("a committee has a ticket")
}

/// Processor time in seconds, of the orchestrators that run and of this process; zero where it is not known.
fn cpu_s(committee: &Committee) -> (f64, f64) {
    let of = |process: i32| {
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        // The name before it may hold anything, a bracket too. In hundredths of a second: proc_pid_stat(5).
        let fields: Vec<u64> =
            stat.rsplit(')').next()?.split_whitespace().map(|field| field.parse().unwrap_or(0)).collect();
        Some((fields.get(11)? + fields.get(12)?) as f64 / 100.0)
    };
    let members = committee.members.iter().flatten().filter_map(|member| of(member.process_id())).sum();
    (members, of(i32::try_from(std::process::id()).expect("a process id fits")).unwrap_or(0.0))
}

/// What the committee has done, and used, since.
struct Meter {
    since: Instant,
    height: u64,
    cpu_s: (f64, f64),
}

impl Meter {
    fn start(committee: &Committee) -> Self {
        Self { since: Instant::now(), height: committee.height(0), cpu_s: cpu_s(committee) }
    }

    fn tell(&self, committee: &Committee) {
        let (height, cpu_s, length_s) = (committee.height(0), cpu_s(committee), self.since.elapsed().as_secs_f64());
        tell("blocks_per_s", (height - self.height) as f64 / length_s);
        tell("orchestrator_cores", (cpu_s.0 - self.cpu_s.0) / length_s);
        tell("load_cores", (cpu_s.1 - self.cpu_s.1) / length_s);
    }
}

/// How long it takes until what was said is final, at a rate that is no trouble.
async fn finality(length: Duration) {
    let committee = Committee::of(MEMBERS).await;
    let ticket = ticket(&committee);
    let authors = Author::join(&ticket, FINALITY_AUTHORS).await;
    let rate = (FINALITY_FACTS_PER_S, FINALITY_BUNDLE_FACTS);
    let (authors, _) = load::at_rate(&ticket, authors, rate, Instant::now() + WARM_UP).await;
    let meter = Meter::start(&committee);
    let (_, outcome) = load::at_rate(&ticket, authors, rate, Instant::now() + length).await;
    meter.tell(&committee);
    for (name, share) in [("p50_ms", 0.5), ("p90_ms", 0.9), ("p99_ms", 0.99), ("max_ms", 1.0)] {
        tell(name, outcome.quantile_ms(share));
    }
    let facts: usize = outcome.samples.iter().map(|sample| sample.facts).sum();
    tell("facts_per_s", facts as f64 / length.as_secs_f64());
    failed(&outcome);
    tell("busy", outcome.busy);
}

/// How many facts become final where there is no end of them.
async fn throughput(length: Duration) {
    let committee = Committee::of(MEMBERS).await;
    let ticket = ticket(&committee);
    let authors = Author::join(&ticket, THROUGHPUT_AUTHORS).await;
    let facts = load::BUNDLE_FACTS_MAX;
    let (authors, _) = load::at_most(&ticket, authors, facts, Instant::now() + WARM_UP).await;
    let meter = Meter::start(&committee);
    let until = meter.since + length;
    let (_, outcome) = load::at_most(&ticket, authors, facts, until).await;
    meter.tell(&committee);
    tell("facts_per_s", outcome.facts_between(meter.since, until) as f64 / length.as_secs_f64());
    tell("p50_ms", outcome.quantile_ms(0.5));
    tell("p99_ms", outcome.quantile_ms(0.99));
    failed(&outcome);
    tell("busy", outcome.busy);
}

fn failed(outcome: &Outcome) {
    tell("failed", outcome.failures.len());
    for why in outcome.failures.iter().take(3) {
        eprintln!("came to nothing: {why}");
    }
}
