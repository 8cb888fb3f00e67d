//! Seeds, run.

use super::{
    Plant,
    course::{Report, run},
};
use std::{
    env, fs,
    process::Command,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Instant,
};

/// Lines of a failing seed's log that are shown.
const TAIL: usize = 40;

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

fn shown(report: &Report, tail: usize) -> String {
    let skipped = report.log.len().saturating_sub(tail);
    let log = report.log[skipped..].join("\n");
    let Report { seed, fingerprint, height, violation, .. } = report;
    let digest = blake3::hash(report.log.join("\n").as_bytes());
    let outcome = match violation {
        Some(violation) => format!("seed {seed}: {} is violated: {}", violation.invariant, violation.what),
        None => format!("seed {seed}: block {height}"),
    };
    format!("{log}\n{outcome}\nfingerprint {fingerprint}, log {digest}\n")
}

/// Runs seeds on as many threads as there are processors, and gives those that failed.
fn failures(seeds: impl Iterator<Item = u64> + Clone + Send) -> Vec<Report> {
    let seeds: Vec<u64> = seeds.collect();
    let next = AtomicU64::new(0);
    let worker = || {
        let mut failed = Vec::new();
        loop {
            let place = next.fetch_add(1, Ordering::Relaxed) as usize;
            let Some(seed) = seeds.get(place) else { return failed };
            let report = run(*seed, Plant::None);
            failed.extend(report.violation.is_some().then_some(report));
        }
    };
    thread::scope(|scope| {
        let threads = thread::available_parallelism().map_or(1, usize::from).min(seeds.len());
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    })
}

#[test]
fn whatever_goes_wrong_the_committee_agrees_and_goes_on() {
    let first = number("DARKBLOOM_SIM_SEED").unwrap_or(0);
    let count = number("DARKBLOOM_SIM_SEEDS").unwrap_or(200);
    if env::var_os("DARKBLOOM_SIM_TRACE").is_some() {
        for seed in first..first + count {
            println!("{}", shown(&run(seed, Plant::None), 0));
        }
        return;
    }
    let start = Instant::now();
    let mut failed = failures(first..first + count);
    failed.sort_by_key(|report| report.seed);
    println!("{count} seeds from {first} in {:.0} s", start.elapsed().as_secs_f64());
    let shown: Vec<String> = failed.iter().map(|report| shown(report, TAIL)).collect();
    assert!(failed.is_empty(), "{}", shown.join("\n"));
}

/// Found within 100 seeds.
fn finds(plant: Plant) {
    let found = (0..100).find_map(|seed| run(seed, plant).violation.map(|violation| (seed, violation)));
    let (seed, violation) = found.expect("the simulation finds nothing");
    println!("{plant:?} is found with seed {seed}: {violation:?}");
}

#[test]
fn finds_callers_that_are_told_too_early() {
    finds(Plant::TellsEarly);
}

#[test]
fn finds_votes_for_what_was_not_executed() {
    finds(Plant::VotesBlindly);
}

#[test]
fn finds_disks_that_are_not_synced() {
    finds(Plant::SyncsNothing);
}

/// Writes what a seed does, for the test below.
#[test]
fn writes_a_seed() {
    if let (Some(seed), Ok(path)) = (number("DARKBLOOM_SIM_WRITTEN"), env::var("DARKBLOOM_SIM_PATH")) {
        fs::write(path, shown(&run(seed, Plant::None), usize::MAX)).unwrap();
    }
}

#[test]
fn a_seed_is_the_same_in_another_process() {
    let folder = tempfile::tempdir().unwrap();
    for seed in [1, 2, 3] {
        let written: Vec<Vec<u8>> = [0, 1]
            .into_iter()
            .map(|process| {
                let path = folder.path().join(format!("{seed}-{process}"));
                let status = Command::new(env::current_exe().unwrap())
                    .args(["--exact", "simulation::seeds::writes_a_seed", "--quiet"])
                    .env("DARKBLOOM_SIM_WRITTEN", seed.to_string())
                    .env("DARKBLOOM_SIM_PATH", &path)
                    .status();
                assert!(status.unwrap().success());
                fs::read(path).unwrap()
            })
            .collect();
        assert!(written[0].len() > 1_000, "a seed has a course");
        assert_eq!(written[0], written[1], "seed {seed}");
    }
}
