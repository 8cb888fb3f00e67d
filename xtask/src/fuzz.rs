//! `cargo xtask fuzz`: feeds every decoder with what nobody would send.
//!
//! The targets in `fuzz/` have the layout of cargo-fuzz, and `cargo fuzz run TARGET` works where it is installed. This
//! does the same with the toolchain that is there: libFuzzer needs coverage counters, which stable flags give, and the
//! address sanitizer, which `RUSTC_BOOTSTRAP` unlocks. The sanitizer is worth its price although our decoders are safe
//! Rust: it refuses a single huge allocation, which is what a forgotten bound looks like.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::ci::Outcome;
use crate::failure::{Failure, on_path};
use crate::process::{cargo, command, output, run as run_command};
use crate::workspace::Workspace;

const RUSTFLAGS: &str = "--cfg fuzzing -Ccodegen-units=1 -Zsanitizer=address -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares";

/// The fuzz targets have a lock file of their own, which follows the crates that they use.
pub(crate) const STALE_LOCK: &str =
    "if it is about the lock file: cargo update --manifest-path fuzz/Cargo.toml --workspace";

/// Memory of one target, and its largest single allocation. The longest message is 8 MiB.
const MEMORY_MIB_MAX: u32 = 1024;
const ALLOCATION_MIB_MAX: u32 = 64;
/// Seconds for one input; the slowest takes milliseconds.
const INPUT_SECONDS_MAX: u32 = 5;

/// `cargo xtask fuzz [--seconds N] [TARGET]`
pub(crate) fn run(workspace: &Workspace, arguments: &[&str]) -> Result<(), Failure> {
    let (seconds, rest) = match arguments {
        ["--seconds", seconds, rest @ ..] => {
            (seconds.parse().map_err(|_| Failure::new(format!("`{seconds}` is not a number of seconds")))?, rest)
        }
        rest => (60, rest),
    };
    let known = targets(workspace)?;
    let chosen = match rest {
        [] => known,
        [target] if known.iter().any(|name| name == target) => vec![(*target).to_owned()],
        [other, ..] => {
            return Err(
                Failure::new(format!("there is no target `{other}`")).hint(format!("targets: {}", known.join(", ")))
            );
        }
    };
    fuzz(workspace, &chosen, seconds)
}

/// Every target, as a step of CI.
pub(crate) fn all(workspace: &Workspace, seconds: u32) -> Result<Outcome, Failure> {
    let targets = targets(workspace)?;
    fuzz(workspace, &targets, seconds)?;
    Ok(Outcome::Passed(format!("{} targets, {seconds} s each", targets.len())))
}

/// Names of the targets: one file each.
fn targets(workspace: &Workspace) -> Result<Vec<String>, Failure> {
    let folder = workspace.root.join("fuzz/fuzz_targets");
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).map_err(on_path(&folder))? {
        let path = entry.map_err(on_path(&folder))?.path();
        names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
    }
    names.sort();
    Ok(names)
}

fn fuzz(workspace: &Workspace, targets: &[String], seconds: u32) -> Result<(), Failure> {
    let binaries = build(workspace)?;
    // One target computes on one core.
    let next = AtomicUsize::new(0);
    let lanes = thread::available_parallelism().map_or(1, usize::from).min(targets.len());
    let failures: Vec<Failure> = thread::scope(|scope| {
        let lane = || {
            let mut failures = Vec::new();
            while let Some(target) = targets.get(next.fetch_add(1, Ordering::Relaxed)) {
                match fuzz_one(workspace, &binaries.join(target), target, seconds) {
                    Ok(result) => println!("{target:<20} {result}"),
                    Err(failure) => failures.push(failure),
                }
            }
            failures
        };
        let lanes: Vec<_> = (0..lanes).map(|_| scope.spawn(lane)).collect();
        lanes.into_iter().flat_map(|lane| lane.join().expect("a lane does not panic")).collect()
    });
    let mut failures = failures.into_iter();
    match failures.next() {
        None => Ok(()),
        Some(first) => {
            failures.for_each(|failure| eprintln!("{failure}"));
            Err(first)
        }
    }
}

/// Builds all targets and returns their folder.
fn build(workspace: &Workspace) -> Result<PathBuf, Failure> {
    let host = output(command(workspace, "rustc").args(["--print", "host-tuple"]))?.trim().to_owned();
    let folder = workspace.target.join("fuzz");
    // Naming the target keeps the flags away from build scripts and procedural macros.
    let line = format!("build --manifest-path fuzz/Cargo.toml --release --locked --bins --target {host}");
    run_command(
        cargo(workspace, &line)
            .env("CARGO_TARGET_DIR", &folder)
            .env("RUSTC_BOOTSTRAP", "1")
            .env("RUSTFLAGS", RUSTFLAGS.split_whitespace().collect::<Vec<_>>().join(" ")),
    )
    .map_err(|failure| failure.hint(STALE_LOCK))?;
    Ok(folder.join(host).join("release"))
}

/// Runs one target; says how much it has tried, or names the input that broke it.
fn fuzz_one(workspace: &Workspace, binary: &Path, target: &str, seconds: u32) -> Result<String, Failure> {
    let corpus = workspace.root.join("fuzz/corpus").join(target);
    let artifacts = workspace.root.join("fuzz/artifacts").join(target);
    for folder in [&corpus, &artifacts] {
        fs::create_dir_all(folder).map_err(on_path(folder))?;
    }
    let mut process = command(workspace, binary);
    let dictionary = workspace.root.join("fuzz/dictionaries").join(target).with_extension("dict");
    if dictionary.is_file() {
        process.arg(format!("-dict={}", dictionary.display()));
    }
    let output = process
        .args([
            format!("-max_total_time={seconds}"),
            format!("-rss_limit_mb={MEMORY_MIB_MAX}"),
            format!("-malloc_limit_mb={ALLOCATION_MIB_MAX}"),
            format!("-timeout={INPUT_SECONDS_MAX}"),
            "-print_final_stats=1".to_owned(),
            // The directory separator at the end matters to libFuzzer.
            format!("-artifact_prefix={}/", artifacts.display()),
        ])
        .arg(&corpus)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| Failure::new(format!("`{target}` could not be started: {error}")))?;
    let log = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        let executed = log.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
        return executed
            .map(|count| format!("{} inputs", count.trim()))
            .ok_or_else(|| Failure::new(format!("`{target}` ended without having tried anything")));
    }
    log.lines().rev().take(60).collect::<Vec<_>>().iter().rev().for_each(|line| eprintln!("{line}"));
    let reproducer = log.lines().find_map(|line| line.split_once("Test unit written to ").map(|(_, path)| path));
    Err(match reproducer {
        Some(path) => Failure::new(format!("`{target}` fails on the input {path}"))
            .hint(format!("{} {path}", workspace.relative(binary).display()))
            .hint("keep the input as a named regression test"),
        None => Failure::new(format!("`{target}` failed without a reproducer: {}", output.status)),
    })
}
