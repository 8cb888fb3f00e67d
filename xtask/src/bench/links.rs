//! One orchestrator with ten thousand nodes: its memory, its share of a core and its matches while all are there, and how
//! soon all are back after it was killed. The nodes are in one process, a program of the crate `testbed`.

use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::Settings;
use super::processes;
use super::report::{Goal, Row};
use super::server::{Running, darkbloom};
use super::statistics::quantile;
use crate::failure::{Failure, on_path};
use crate::process::{command, output};
use crate::workspace::Workspace;

pub(super) const LOAD_PROGRAM: &str = "many-nodes";

const MEMORY_MIB: f64 = 1.1 * 1024.0;
const CORE_PERCENT: f64 = 30.0;
const MATCH_MS: f64 = 1.0;
const BACK_S: f64 = 60.0;

/// What came with joining is over.
const SETTLE: Duration = Duration::from_secs(15);
const IDLE: Duration = Duration::from_secs(30);
/// What the orchestrator says of each match.
const LOG: &str = "warn,orchestrator::link::client=debug,iroh=off,noq=off,noq_proto=off,noq_udp=off";
const MATCHES: usize = 3_000;
const MATCHES_PER_S: usize = 100;
/// Nobody waits longer for nodes to come.
const COME_TIME_MAX: Duration = Duration::from_secs(15 * 60);

pub(super) fn measure(workspace: &Workspace, settings: &Settings) -> Result<Vec<Row>, Failure> {
    let nodes = settings.nodes;
    let start = |name, command: &mut Command| {
        Running::start(settings, name, command).map_err(on_path(command.get_program().as_ref()))
    };
    let mut orchestrator =
        start("orchestrate", darkbloom(workspace, settings, "orchestrate").env("DARKBLOOM_LOG", LOG))?;
    let ticket = orchestrator.line("ticket:")?;
    let load = |arguments: &[&str]| {
        let mut load = command(workspace, workspace.binary(LOAD_PROGRAM));
        load.args(arguments);
        load
    };
    let begun = Instant::now();
    let mut crowd = start(LOAD_PROGRAM, &mut load(&["nodes", &ticket, &nodes.to_string()]))?;
    wait(&mut crowd, begun, |routed| routed == nodes)?;
    let joined = begun.elapsed();
    eprintln!("  {nodes} nodes have joined");
    sleep(SETTLE);
    let idle = Used::during(&orchestrator, &crowd, || {
        sleep(IDLE);
        Ok(())
    })?;
    let numbers = [MATCHES, MATCHES_PER_S].map(|number| number.to_string());
    let mut said = String::new();
    let matching = Used::during(&orchestrator, &crowd, || {
        said = output(&mut load(&["matches", &ticket, &numbers[0], &numbers[1]]))?;
        Ok(())
    })?;
    let rss_mib = rss_mib(&orchestrator)?;
    let took_ms = took_ms(&orchestrator.log())?;
    eprintln!("  killing the orchestrator");
    orchestrator.kill()?;
    let killed = Instant::now();
    let mut orchestrator = start("orchestrate-again", &mut darkbloom(workspace, settings, "orchestrate"))?;
    orchestrator.line("ticket:")?;
    let restarted = killed.elapsed();
    wait(&mut crowd, killed, |routed| routed < nodes / 2)?;
    let noticed = killed.elapsed();
    wait(&mut crowd, killed, |routed| routed == nodes)?;
    let back = killed.elapsed();
    let row = |name: &str, unit, value, goal, detail| Row {
        benchmark: "links",
        name: format!("{nodes} nodes, {name}"),
        unit,
        value,
        goal,
        detail,
    };
    let number = |name| number(&said, name);
    Ok(vec![
        row(
            "join",
            "s",
            joined.as_secs_f64(),
            Goal::None,
            "64 at a time; each is agreed on before it is let in".into(),
        ),
        row(
            "resident",
            "MiB",
            rss_mib,
            Goal::AtMost(MEMORY_MIB),
            format!("{:.1} KiB for each", rss_mib * 1024.0 / nodes as f64),
        ),
        row("share of a core", "%", idle.orchestrator_percent, Goal::AtMost(CORE_PERCENT), idle.detail()),
        row(
            "match p99",
            "ms",
            quantile(&took_ms, 0.99),
            Goal::AtMost(MATCH_MS),
            format!(
                "from the question to the signed grant, {MATCHES_PER_S} a second; p50 {:.3} ms, longest {:.1} ms, {} refused",
                quantile(&took_ms, 0.5),
                quantile(&took_ms, 1.0),
                number("refused:")?
            ),
        ),
        row(
            "match p99 at the client",
            "ms",
            number("p99_us:")? / 1e3,
            Goal::None,
            format!(
                "QUIC and the scheduler of this machine included; p50 {:.3} ms; orchestrator {:.0} %, {}",
                number("p50_us:")? / 1e3,
                matching.orchestrator_percent,
                matching.detail()
            ),
        ),
        row(
            "killed, all back",
            "s",
            back.as_secs_f64(),
            Goal::AtMost(BACK_S),
            format!(
                "listening again after {:.1} s, half have noticed after {:.1} s; {:.0} MiB then",
                restarted.as_secs_f64(),
                noticed.as_secs_f64(),
                self::rss_mib(&orchestrator)?
            ),
        ),
    ])
}

/// Waits until so many nodes get work as is asked for.
fn wait(crowd: &mut Running, begun: Instant, is_enough: impl Fn(usize) -> bool) -> Result<(), Failure> {
    loop {
        let line = crowd.line("linked:")?;
        let routed = number(&line, "routed:")? as usize;
        if is_enough(routed) {
            return Ok(());
        }
        if begun.elapsed() > COME_TIME_MAX {
            return Err(Failure::new(format!("after {COME_TIME_MAX:?} only {routed} nodes get work")));
        }
    }
}

/// The number behind a word.
fn number(line: &str, name: &str) -> Result<f64, Failure> {
    let mut words = line.split_whitespace().skip_while(|word| *word != name).skip(1);
    let number = words.next().and_then(|word| word.parse().ok());
    number.ok_or_else(|| Failure::new(format!("`{LOAD_PROGRAM}` said `{}`, without `{name}`", line.trim())))
}

/// How long each match took, from the orchestrator's log.
fn took_ms(log: &str) -> Result<Vec<f64>, Failure> {
    let took = |line: &str| line.split_once("took_us=")?.1.split_whitespace().next()?.parse::<f64>().ok();
    let took_ms: Vec<f64> = log.lines().filter_map(took).map(|us| us / 1e3).collect();
    match took_ms.is_empty() {
        true => Err(Failure::new("the orchestrator's log says nothing of matches")),
        false => Ok(took_ms),
    }
}

fn rss_mib(process: &Running) -> Result<f64, Failure> {
    let memory = processes::memory(process.id());
    let memory = memory.ok_or_else(|| Failure::new("the memory of the orchestrator could not be read"))?;
    Ok(memory.rss_kib as f64 / 1024.0)
}

/// Processor time in a while, in percent of one core.
struct Used {
    orchestrator_percent: f64,
    nodes_percent: f64,
    others_percent: f64,
}

impl Used {
    fn during(
        orchestrator: &Running,
        nodes: &Running,
        work: impl FnOnce() -> Result<(), Failure>,
    ) -> Result<Self, Failure> {
        let look = || {
            let own = (processes::cpu_s(orchestrator.id()), processes::cpu_s(nodes.id()), processes::machine_cpu_s());
            match own {
                (Some(orchestrator), Some(nodes), Some(machine)) => Ok([orchestrator, nodes, machine]),
                _ => Err(Failure::new("processor times could not be read").hint("this needs /proc, as Linux has it")),
            }
        };
        let (before, begun) = (look()?, Instant::now());
        work()?;
        let (after, seconds) = (look()?, begun.elapsed().as_secs_f64());
        let [orchestrator_percent, nodes_percent, machine_percent] =
            [0, 1, 2].map(|at| (after[at] - before[at]) / seconds * 100.0);
        let others_percent = (machine_percent - orchestrator_percent - nodes_percent).max(0.0);
        Ok(Self { orchestrator_percent, nodes_percent, others_percent })
    }

    fn detail(&self) -> String {
        format!("the nodes together {:.0} %, other programs {:.0} %", self.nodes_percent, self.others_percent)
    }
}

#[cfg(test)]
mod tests {
    use super::{number, took_ms};

    #[test]
    fn numbers_stand_behind_their_names() {
        let line = " 10000 routed: 9998";
        assert_eq!(number(line, "routed:").ok(), Some(9998.0));
        let log = "10:00 DEBUG orchestrator::link::client: matched took_us=250\n10:00 WARN other\n";
        assert_eq!(took_ms(log).ok(), Some(vec![0.25]));
        assert!(took_ms("").is_err());
        assert!(number(line, "refused:").is_err() && number("routed:", "routed:").is_err());
    }
}
