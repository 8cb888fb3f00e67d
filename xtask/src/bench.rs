//! `cargo xtask bench`: the numbers of `SPEC.md`, each measured beside what it is compared with, in the same run.
//!
//! Machines differ and are busy with other things, so a number is a ratio or a difference of two measurements that take
//! turns, and the verdict is for a reader: no test depends on it. `docs/BENCHMARKS.md` says how each one is obtained.

mod committee;
mod decode;
mod http;
mod links;
mod memory;
mod processes;
mod report;
mod server;
mod statistics;
mod stream;
mod ttft;

use std::fs;
use std::path::{Path, PathBuf};

use crate::failure::{Failure, on_path};
use crate::process::{cargo, command, output, run as run_command};
use crate::workspace::Workspace;
use report::{Report, Row};

const USAGE: &str = "\
Measures the numbers of SPEC.md.

Usage: cargo xtask bench [OPTIONS] [NAME]

Names:
  decode     Tokens a second through the gateway, compared with `llama-server`
  ttft       Time to first token through the gateway, compared with the bare engine
  memory     Memory of orchestrator, daemon and gateway, each a process of its own
  committee  Agreement of four orchestrators: idle, busy, and with one killed
  links      One orchestrator with ten thousand nodes: memory, processor, matches, and after it was killed

Options:
  --only NAME              The same as NAME; may be given several times
  --model FILE             A GGUF model; default: $DARKBLOOM_TEST_MODEL, else the catalogue's default model
  --threads N              Threads of each engine; default: one for each core
  --rounds N               Rounds of `decode`; default: 5
  --requests N             Requests of `ttft`, each way; default: 200
  --nodes N                Nodes of `links`; default: 10000
  --llama-server COMMAND   What to compare with; default: `llama-server`. `{model}` in it stands for the model file;
                           without that, `-m FILE` is added. Words are separated by spaces
  --json                   Prints JSON instead of a table";

struct Benchmark {
    name: &'static str,
    measure: fn(&Workspace, &Settings) -> Result<Vec<Row>, Failure>,
    /// Whether it runs a real model.
    has_model: bool,
}

const BENCHMARKS: [Benchmark; 5] = [
    Benchmark { name: "decode", measure: decode::measure, has_model: true },
    Benchmark { name: "ttft", measure: ttft::measure, has_model: true },
    Benchmark { name: "memory", measure: memory::measure, has_model: true },
    Benchmark { name: "committee", measure: committee::measure, has_model: false },
    Benchmark { name: "links", measure: links::measure, has_model: false },
];

/// What the arguments say.
struct Settings {
    only: Vec<String>,
    model: PathBuf,
    threads: usize,
    rounds: usize,
    requests: usize,
    nodes: usize,
    llama_server: String,
    json: bool,
    /// Homes and logs; removed at the end.
    folder: PathBuf,
}

/// Requests at once that every server is started for.
const SLOTS: usize = 8;
/// Context of each.
const CONTEXT_TOKENS: usize = 2048;

/// `cargo xtask bench [OPTIONS] [NAME]`
pub(crate) fn run(workspace: &Workspace, arguments: &[&str]) -> Result<(), Failure> {
    if let ["help" | "--help" | "-h"] = arguments {
        println!("{USAGE}");
        return Ok(());
    }
    let mut settings = parse(arguments)?;
    build(workspace)?;
    let chosen: Vec<&Benchmark> = BENCHMARKS
        .iter()
        .filter(|benchmark| settings.only.is_empty() || settings.only.iter().any(|only| only == benchmark.name))
        .collect();
    let has_model = chosen.iter().any(|benchmark| benchmark.has_model);
    if has_model {
        settings.model = model(workspace, &settings.model)?;
    }
    fs::create_dir_all(&settings.folder).map_err(on_path(&settings.folder))?;
    let mut report = Report::begin(arguments, has_model.then_some(&settings));
    let result = chosen.into_iter().try_for_each(|benchmark| {
        eprintln!("measuring {}", benchmark.name);
        report.rows.extend((benchmark.measure)(workspace, &settings)?);
        Ok(())
    });
    // Only what this run has made; a leftover is no reason to lose the result.
    let _ = fs::remove_dir_all(&settings.folder);
    // What was measured before a failure is worth having.
    if !report.rows.is_empty() {
        print!("{}", if settings.json { report.json() } else { report.table() });
    }
    result
}

fn parse(arguments: &[&str]) -> Result<Settings, Failure> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut settings = Settings {
        only: Vec::new(),
        model: PathBuf::new(),
        threads: cores,
        rounds: 5,
        requests: 200,
        nodes: 10_000,
        llama_server: "llama-server".to_owned(),
        json: false,
        // Short on purpose: a socket's path has at most some 100 bytes.
        folder: std::env::temp_dir().join(format!("dbench-{}", std::process::id())),
    };
    let mut rest = arguments;
    while let [first, after @ ..] = rest {
        rest = match (*first, after) {
            ("--json", after) => {
                settings.json = true;
                after
            }
            ("--only", [name, after @ ..]) => {
                settings.only.push(known(name)?);
                after
            }
            ("--model", [file, after @ ..]) => {
                settings.model = PathBuf::from(file);
                after
            }
            ("--threads", [number, after @ ..]) => {
                settings.threads = count(number)?;
                after
            }
            ("--rounds", [number, after @ ..]) => {
                settings.rounds = count(number)?;
                after
            }
            ("--requests", [number, after @ ..]) => {
                settings.requests = count(number)?;
                after
            }
            ("--nodes", [number, after @ ..]) => {
                settings.nodes = count(number)?;
                after
            }
            ("--llama-server", [command, after @ ..]) => {
                settings.llama_server = (*command).to_owned();
                after
            }
            (name, after) => {
                settings.only.push(known(name)?);
                after
            }
        };
    }
    Ok(settings)
}

fn known(name: &str) -> Result<String, Failure> {
    match BENCHMARKS.iter().any(|known| known.name == name) {
        true => Ok(name.to_owned()),
        false => {
            Err(Failure::new(format!("there is no benchmark or option `{name}`")).hint("cargo xtask bench --help"))
        }
    }
}

fn count(text: &str) -> Result<usize, Failure> {
    text.parse()
        .ok()
        .filter(|number| (1..=100_000).contains(number))
        .ok_or_else(|| Failure::new(format!("`{text}` is not a number from 1 to 100000")))
}

/// Builds what is missing. Building always would wait for whoever else builds, and take the cores from the measurement.
fn build(workspace: &Workspace) -> Result<(), Failure> {
    let programs = [
        "darkbloom",
        "darkbloom-worker",
        ttft::DIRECT_PROGRAM,
        committee::LOAD_PROGRAM,
        committee::WORKER_PROGRAM,
        links::LOAD_PROGRAM,
    ];
    let programs = programs.map(|name| workspace.binary(name));
    match programs.iter().all(|program| program.is_file()) {
        true => {
            eprintln!(
                "the programs of the last release build are measured: `make build` first if they are not current"
            );
            Ok(())
        }
        // The whole workspace, as `make build` does, so that no library is compiled with other features.
        false => run_command(&mut cargo(workspace, "build --release --workspace --locked --bins --examples")),
    }
}

/// The model's file: the one that was named, or the default model, fetched as the tests fetch it.
fn model(workspace: &Workspace, named: &Path) -> Result<PathBuf, Failure> {
    let named = match std::env::var_os("DARKBLOOM_TEST_MODEL") {
        Some(path) if named.as_os_str().is_empty() => PathBuf::from(path),
        _ => named.to_owned(),
    };
    if !named.as_os_str().is_empty() {
        return named.canonicalize().map_err(on_path(&named));
    }
    let (home, darkbloom) = (workspace.target.join("test-home"), workspace.binary("darkbloom"));
    output(command(workspace, &darkbloom).args(["models", "pull", "default", "--home"]).arg(&home))?;
    let path = output(command(workspace, &darkbloom).args(["models", "path", "default", "--home"]).arg(&home))?;
    Ok(PathBuf::from(path.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_and_names_are_read() {
        let settings = parse(&["ttft", "--threads", "3", "--only", "committee", "--json"]).unwrap();
        assert_eq!(settings.only, ["ttft", "committee"]);
        assert_eq!((settings.threads, settings.json), (3, true));
        for wrong in [&["speed"][..], &["--threads"], &["--threads", "0"], &["--only", "x"]] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
