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
use testbed::{Blow, Daemon, Home, Machine, http, undisturbed};
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

/// SplitMix64: the same blows for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }
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

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_blow_to_a_machine_costs_a_token() {
    let (blows, seed) = (setting("DARKBLOOM_CHAOS_BLOWS", 50), setting("DARKBLOOM_CHAOS_SEED", 1));
    // What it says is shown where the test fails.
    let log = [("DARKBLOOM_LOG", "orchestrator=debug")];
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

    let mut dice = Dice(seed);
    let mut struck: BTreeMap<String, u64> = BTreeMap::new();
    let mut recovering = JoinSet::new();
    let (mut done, mut idle_since) = (0, Instant::now());
    while done < blows {
        assert!(idle_since.elapsed() < Duration::from_secs(60), "no machine has a task: blows {struck:?}");
        while recovering.len() + STANDING_MIN >= MACHINES {
            recovering.join_next().await.expect("one recovers").expect("it recovers");
        }
        if let Some(ended) = askers.try_join_next() {
            let log = orchestrator.stderr();
            let last: Vec<&str> = log.lines().rev().take(40).collect();
            panic!("{ended:?}; blows {struck:?}; the orchestrator, last line first:\n{}", last.join("\n"));
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
        recovered.expect("it recovers");
    }
    stop.store(true, Ordering::Relaxed);
    while let Some(ended) = askers.join_next().await {
        ended.expect("every answer is whole and right");
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
