//! Machines are killed, frozen and drained while answers stream from them, and no reader notices more than a pause.
//!
//! `DARKBLOOM_CHAOS_BLOWS` says how many blows (50 if it is not set), `DARKBLOOM_CHAOS_SEED` which:
//! `cargo xtask chaos --blows 1000`.

use protocol::task::Usage;
use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use testbed::{Blow, Daemon, Dice, Home, Machine, http, undisturbed};
use tokio::{sync::Mutex, task::JoinSet};

const MACHINES: usize = 12;
const ASKERS: u64 = 8;
const STEP_MS: u64 = 8;
/// A machine is struck only while this many others stand: that all are gone at once is another test's matter.
const STANDING_MIN: usize = 3;
/// A machine is left in peace for so long when it is back. One that fails again and again without completing anything in
/// between is ejected, and rightly: that is another test's matter too.
const PEACE: Duration = Duration::from_secs(8);

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |value| value.parse().expect("a number"))
}

#[derive(Default)]
struct Tally {
    answers: AtomicU64,
    tokens: AtomicU64,
    longest_ms: AtomicU64,
}

/// Asks one question after another until `stop`; every answer is the undisturbed one.
async fn ask(base_url: String, model: PathBuf, asker: u64, stop: Arc<AtomicBool>, tally: Arc<Tally>) {
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let content = format!("question {number} of asker {asker}");
        let max_tokens = 60 + (number * 37 + asker * 11) % 240;
        let max_tokens = u32::try_from(max_tokens).expect("small");
        let start = Instant::now();
        let whole = http::Stream::start(&base_url, &content, max_tokens).await.whole().await;
        let took = u64::try_from(start.elapsed().as_millis()).expect("short");
        let (text, Usage { prompt_tokens, completion_tokens }) = undisturbed(&model, &content, max_tokens);
        assert_eq!(whole.text, text, "nothing lost, nothing doubled");
        assert_eq!(whole.usage["prompt_tokens"], prompt_tokens);
        assert_eq!(whole.usage["completion_tokens"], completion_tokens);
        tally.answers.fetch_add(1, Ordering::Relaxed);
        tally.tokens.fetch_add(u64::from(completion_tokens), Ordering::Relaxed);
        tally.longest_ms.fetch_max(took, Ordering::Relaxed);
    }
}

/// How every machine stands, in its own words and the orchestrator's, and what the orchestrator remembers of it.
fn states(orchestrator: &Daemon, machines: &[Arc<Mutex<Machine>>]) -> String {
    let (status, log) = (orchestrator.status(), orchestrator.stderr());
    let mut records = BTreeMap::new();
    for line in log.lines().filter(|line| line.contains("its record")) {
        if let Some(node) = line.split("node=").nth(1).and_then(|rest| rest.split_whitespace().next()) {
            records.insert(node.to_owned(), line);
        }
    }
    let mut lines = Vec::new();
    for row in status["nodes"].as_array().into_iter().flatten() {
        let id = row["id"].as_str().unwrap_or_default();
        let record = records.get(id.get(..10).unwrap_or_default());
        let record = record.map_or("nothing", |line| line.split("its record").nth(1).unwrap_or(line));
        lines.push(format!(
            "{id:.10}: routable {}, {} since {}, {}/{} tasks; of its tasks:{record}",
            row["routable"], row["reasons"], row["since"], row["active_tasks"], row["slots"],
        ));
    }
    for (number, machine) in machines.iter().enumerate() {
        lines.push(match machine.try_lock() {
            Ok(machine) => {
                let own = machine.daemon().status();
                let id = own["node_id"].as_str().unwrap_or_default();
                format!(
                    "machine {number}: {id:.10}, held back by {}, {} tasks",
                    own["held_back_by"], own["active_tasks"]
                )
            }
            Err(_) => format!("machine {number}: struck, or in peace"),
        });
    }
    let last: Vec<&str> = log.lines().rev().filter(|line| !line.contains("its record")).take(60).collect();
    format!("{}\nthe orchestrator, last line first:\n{}", lines.join("\n"), last.join("\n"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_blow_to_a_machine_costs_a_token() {
    let (blows, seed) = (setting("DARKBLOOM_CHAOS_BLOWS", 50), setting("DARKBLOOM_CHAOS_SEED", 1));
    // What it says is shown where the test fails.
    let log = [("DARKBLOOM_LOG", "orchestrator=debug,orchestrator::live=trace")];
    let mut orchestrator = Daemon::start(Home::new(), &["orchestrate"], &log);
    orchestrator.wait_for("its ticket", |status| status["ticket"].is_string()).await;
    let ticket = orchestrator.text("ticket");
    let mut machines = Vec::new();
    for _ in 0..MACHINES {
        machines.push(Arc::new(Mutex::new(Machine::join(&ticket, STEP_MS).await)));
    }
    // The pace does not matter for the text.
    let model = orchestrator.home.deterministic_model(0);
    let gateway = Daemon::gateway(&ticket).await;
    let (stop, tally) = (Arc::new(AtomicBool::new(false)), Arc::new(Tally::default()));
    let mut askers = JoinSet::new();
    for asker in 0..ASKERS {
        askers.spawn(ask(gateway.text("base_url"), model.clone(), asker, Arc::clone(&stop), Arc::clone(&tally)));
    }

    // The same blows for the same seed.
    let mut dice = Dice::new(seed);
    let mut struck: BTreeMap<String, u64> = BTreeMap::new();
    let mut recovering = JoinSet::new();
    let (mut done, mut idle_since) = (0, Instant::now());
    while done < blows {
        let failed = |why: String| -> ! { panic!("{why}; blows {struck:?}\n{}", states(&orchestrator, &machines)) };
        if idle_since.elapsed() >= Duration::from_secs(60) {
            failed("no machine has a task".to_owned());
        }
        while recovering.len() + STANDING_MIN >= MACHINES {
            if let Err(error) = recovering.join_next().await.expect("one recovers") {
                failed(format!("it does not recover: {error:?}"));
            }
        }
        if let Some(ended) = askers.try_join_next() {
            failed(format!("{ended:?}"));
        }
        let machine = &machines[dice.below(MACHINES)];
        // One that is recovering is locked.
        let Ok(guard) = Arc::clone(machine).try_lock_owned() else {
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        };
        if guard.active_tasks() == 0 {
            drop(guard);
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        }
        let blow = Blow::ALL[dice.below(Blow::ALL.len())];
        guard.strike(blow);
        (done, idle_since) = (done + 1, Instant::now());
        *struck.entry(format!("{blow:?}")).or_default() += 1;
        let mut guard = guard;
        recovering.spawn(async move {
            guard.recover(blow).await;
            tokio::time::sleep(PEACE).await;
        });
    }
    while let Some(recovered) = recovering.join_next().await {
        if let Err(error) = recovered {
            panic!("it does not recover: {error:?}\n{}", states(&orchestrator, &machines));
        }
    }
    stop.store(true, Ordering::Relaxed);
    while let Some(ended) = askers.join_next().await {
        if let Err(error) = ended {
            panic!("not every answer is whole and right: {error:?}\n{}", states(&orchestrator, &machines));
        }
    }
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    println!(
        "{blows} blows {struck:?} (seed {seed}): {} answers, {} tokens, all complete, none lost or doubled; the longest \
         answer took {} ms",
        count(&tally.answers),
        count(&tally.tokens),
        count(&tally.longest_ms),
    );
}
