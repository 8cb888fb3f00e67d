//! Prefill and decode rates of a model, to compare with `llama-bench` and `llama-server` on the same machine and file.
//!
//! `GOMP_SPINCOUNT=1000 cargo run --release -p engine --example rates -- MODEL.gguf [THREADS] [BATCH_TOKENS] [STREAMS,..]`
//!
//! Prefill: one prompt of 512 tokens. Decode: 1, 4 and 8 greedy streams of 128 tokens, from the step in which the last
//! prompt has been read to the step in which the first answer ends. Tokens for each second of processor time (of the
//! whole run, Linux only) say more than the wall clock on a machine that is busy.

use engine::{Engine, EngineOptions, LlamaEngine};
use protocol::task::{Frame, Generation, Sampling, Task};
use std::time::{Duration, Instant};

const PROMPT_TOKENS: u32 = 512;
const ANSWER_TOKENS: u32 = 128;
const ROUNDS: u32 = 3;

fn completion(prompt: String, max_tokens: u32) -> Task {
    let sampling = Sampling::greedy();
    Task::Completion {
        prompt,
        generation: Generation { max_tokens: Some(max_tokens), sampling, ..Generation::default() },
    }
}

/// Runs `streams` requests at once; returns tokens of the prompts and of answers with the time that each took.
fn run(
    engine: &mut LlamaEngine,
    streams: u64,
    task: &Task,
) -> Result<[(u32, Duration); 2], Box<dyn std::error::Error>> {
    let begin = Instant::now();
    for id in 0..streams {
        engine.start(id, task)?;
    }
    let (mut started, mut prompt_tokens, mut answer_tokens, mut ended) = (0, 0, 0, false);
    let mut read_at = None;
    let mut decode = (0, Duration::ZERO);
    let mut work = true;
    while work {
        let counts = read_at.is_some() && !ended;
        work = engine.step(&mut |_, frame| match &frame {
            Frame::Started { prompt_tokens: tokens } => {
                (started, prompt_tokens) = (started + 1, prompt_tokens + tokens)
            }
            Frame::Tokens { ids, .. } if counts => answer_tokens += ids.len() as u32,
            Frame::Done { .. } | Frame::Failed { .. } => ended = true,
            _ => {}
        })?;
        if let (true, Some(at)) = (counts, read_at) {
            decode = (answer_tokens, Instant::now() - at);
        }
        if started == streams && read_at.is_none() {
            read_at = Some(Instant::now());
        }
    }
    let read_at = read_at.ok_or("no prompt was read")?;
    Ok([(prompt_tokens, read_at - begin), decode])
}

/// Processor time of this process so far, in seconds; zero where it is not known.
fn cpu_s() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks: f64 = after_name.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    ticks / 100.0
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let model = arguments.next().ok_or("usage: rates MODEL.gguf [THREADS] [BATCH_TOKENS]")?;
    let mut options = EngineOptions { slots: 8, context_tokens: 1024, ..EngineOptions::default() };
    if let Some(threads) = arguments.next() {
        options.threads = threads.parse()?;
    }
    if let Some(batch_tokens) = arguments.next() {
        (options.batch_tokens, options.step_time) = (batch_tokens.parse()?, None);
    }
    let streams = arguments.next().unwrap_or_else(|| "0,1,4,8".to_owned());
    println!("threads {}, steps of {:?} or {} tokens", options.threads, options.step_time, options.batch_tokens);
    let mut engine = LlamaEngine::load(model.as_ref(), options)?;
    let rate = |(tokens, time): (u32, Duration)| f64::from(tokens) / time.as_secs_f64();

    let long = completion(" word".repeat(PROMPT_TOKENS as usize), 1);
    let short = completion("Once upon a time there was a small village".to_owned(), ANSWER_TOKENS);
    for streams in streams.split(',').map(str::parse::<u64>) {
        for _ in 0..ROUNDS {
            let before = cpu_s();
            let (name, rate, tokens) = match streams.clone()? {
                0 => ("prefill".to_owned(), rate(run(&mut engine, 1, &long)?[0]), u64::from(PROMPT_TOKENS)),
                streams => {
                    let decode = run(&mut engine, streams, &short)?[1];
                    (format!("decode, {streams} streams"), rate(decode), streams * u64::from(ANSWER_TOKENS))
                }
            };
            let cpu_rate = tokens as f64 / (cpu_s() - before);
            println!("{name}: {rate:7.1} tokens/s {cpu_rate:7.1} tokens/CPU-s");
        }
    }
    Ok(())
}
