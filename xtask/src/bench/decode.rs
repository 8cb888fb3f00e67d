//! Tokens a second: gateway to client, and `llama-server` to the same client, taking turns.

use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use super::processes::{cpu_s, machine_cpu_s};
use super::report::{Goal, Row};
use super::server::{self, Server};
use super::statistics::median;
use super::stream::{Answer, Question, ask};
use super::{SLOTS, Settings};
use crate::failure::Failure;
use crate::workspace::Workspace;

const ANSWER_TOKENS: usize = 128;
/// The goals by streams at once.
const GOALS: [(usize, f64); 3] = [(1, 0.95), (4, 0.9), (SLOTS, 0.9)];
/// What the server that waits may use of a core before the round is suspect.
const IDLE_CORES_MAX: f64 = 0.02;

/// One server under one load.
struct Sample {
    /// Tokens a second.
    rate: f64,
    /// Tokens for each second of processor time of the server. It says more than the clock on a busy machine.
    cpu_rate: f64,
    /// What the server that waited used of a core.
    idle_cores: f64,
    /// Cores that others than the two servers used.
    other_cores: f64,
    prompt_tokens: u64,
    /// Answers that ended before their limit.
    short: usize,
}

pub(super) fn measure(workspace: &Workspace, settings: &Settings) -> Result<Vec<Row>, Failure> {
    let rival = server::llama_server(workspace, settings)?;
    let pool = server::pool(workspace, settings)?;
    // The weights into memory, and every buffer once to its size.
    for server in [&pool, &rival] {
        load(server, server, SLOTS, usize::MAX)?;
    }
    let mut rounds: Vec<Vec<[Sample; 2]>> = GOALS.iter().map(|_| Vec::new()).collect();
    for round in 0..settings.rounds {
        for ((streams, _), samples) in GOALS.iter().zip(&mut rounds) {
            // Who goes first changes, so that a trend of the machine is nobody's.
            let pair = if round % 2 == 0 {
                let first = load(&pool, &rival, *streams, round)?;
                [first, load(&rival, &pool, *streams, round)?]
            } else {
                let first = load(&rival, &pool, *streams, round)?;
                [load(&pool, &rival, *streams, round)?, first]
            };
            eprintln!(
                "round {}, {streams} streams: {:.1} against {:.1} tokens/s",
                round + 1,
                pair[0].rate,
                pair[1].rate
            );
            samples.push(pair);
        }
    }
    Ok(GOALS.iter().zip(&rounds).flat_map(|((streams, goal), samples)| rows(*streams, *goal, samples)).collect())
}

fn rows(streams: usize, goal: f64, samples: &[[Sample; 2]]) -> [Row; 2] {
    let of = |index: usize, what: fn(&Sample) -> f64| median(&each(samples, |pair| what(&pair[index])));
    let both = |what: fn(&Sample) -> f64| {
        each(samples, |pair| what(&pair[0]).max(what(&pair[1]))).into_iter().fold(0.0, f64::max)
    };
    let ratios = each(samples, |pair| pair[0].rate / pair[1].rate);
    let (low, high) = ratios.iter().fold((f64::MAX, 0.0_f64), |(low, high), &ratio| (low.min(ratio), high.max(ratio)));
    let mut detail = format!(
        "{:.1} / {:.1} tokens/s; rounds {low:.2} to {high:.2}; others used up to {:.1} cores",
        of(0, |sample| sample.rate),
        of(1, |sample| sample.rate),
        both(|sample| sample.other_cores),
    );
    if both(|sample| sample.idle_cores) > IDLE_CORES_MAX {
        detail += &format!("; SUSPECT: the idle server used {:.2} cores", both(|sample| sample.idle_cores));
    }
    if samples.iter().any(|pair| pair[0].prompt_tokens != pair[1].prompt_tokens) {
        detail += "; SUSPECT: the prompts differ in tokens";
    }
    let short: usize = samples.iter().flatten().map(|sample| sample.short).sum();
    if short > 0 {
        detail += &format!("; {short} answers ended early");
    }
    let what = if streams == 1 { "one stream".to_owned() } else { format!("{streams} streams together") };
    let cpu_detail =
        format!("{:.1} / {:.1} tokens/CPU-s", of(0, |sample| sample.cpu_rate), of(1, |sample| sample.cpu_rate));
    let cpu_ratio = median(&each(samples, |pair| pair[0].cpu_rate / pair[1].cpu_rate));
    let row = |name, value, goal, detail| Row { benchmark: "decode", name, unit: "", value, goal, detail };
    [
        row(format!("{what} ÷ llama-server"), median(&ratios), Goal::AtLeast(goal), detail),
        row("  the same by processor time".to_owned(), cpu_ratio, Goal::None, cpu_detail),
    ]
}

fn each(samples: &[[Sample; 2]], what: impl Fn(&[Sample; 2]) -> f64) -> Vec<f64> {
    samples.iter().map(what).collect()
}

/// Asks `server` with `streams` connections at once while `waiting` has nothing to do.
fn load(server: &Server, waiting: &Server, streams: usize, round: usize) -> Result<Sample, Failure> {
    let cpu = |server: &Server| cpu_s(server.process.id()).unwrap_or(0.0);
    let before = (cpu(server), cpu(waiting), machine_cpu_s().unwrap_or(0.0), Instant::now());
    let barrier = Barrier::new(streams);
    let address = server.address;
    let asker = |stream: usize| {
        // No two alike, or a cache of prompts would be measured; the same ones for both servers.
        let prompt = format!(
            "{} {} sailors met a storm on the sea. Write a long and detailed story about their journey.",
            round % 1000 + 2,
            ["old", "young", "brave", "tired", "happy", "quiet", "clever", "lonely"][stream % 8]
        );
        barrier.wait();
        ask(address, &Question::Chat(&prompt), ANSWER_TOKENS)
    };
    let answers: Vec<std::io::Result<Answer>> = thread::scope(|scope| {
        let asker = &asker;
        let askers: Vec<_> = (0..streams).map(|stream| scope.spawn(move || asker(stream))).collect();
        askers.into_iter().map(|asker| asker.join().expect("an asker does not panic")).collect()
    });
    let wall_s = before.3.elapsed().as_secs_f64();
    let used = (cpu(server) - before.0, cpu(waiting) - before.1, machine_cpu_s().unwrap_or(0.0) - before.2);
    let answers: Vec<Answer> = answers.into_iter().collect::<Result<_, _>>().map_err(|error| server.failure(&error))?;
    let tokens: u64 = answers.iter().map(|answer| answer.tokens).sum();
    let rate = match answers.as_slice() {
        [answer] => answer.decode_rate(),
        answers => {
            let asked = answers.iter().map(|answer| answer.asked).min().expect("there is a stream");
            let ended = answers.iter().map(|answer| answer.ended).max().expect("there is a stream");
            tokens as f64 / (ended - asked).as_secs_f64()
        }
    };
    Ok(Sample {
        rate,
        cpu_rate: tokens as f64 / used.0.max(1e-9),
        idle_cores: used.1 / wall_s,
        other_cores: (used.2 - used.0 - used.1).max(0.0) / wall_s,
        prompt_tokens: answers.iter().map(|answer| answer.prompt_tokens).sum(),
        short: answers.iter().filter(|answer| answer.tokens < ANSWER_TOKENS as u64).count(),
    })
}
