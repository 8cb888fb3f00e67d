//! Time to first token of the bare engine, to compare with the whole way through a pool: `cargo xtask bench ttft`.
//!
//! `GOMP_SPINCOUNT=1000 cargo run --release -p engine --example first_token -- MODEL.gguf THREADS SLOTS CONTEXT_TOKENS`
//!
//! Says `ready` once the model is loaded. Then each line of standard input is a prompt to complete by one token, and is
//! answered with a line of its own: the microseconds from handing the task to the engine until it gave the token.

use engine::{Engine, EngineOptions, LlamaEngine};
use protocol::task::{Frame, Generation, Sampling, Task};
use std::io::{BufRead, Write};
use std::time::Instant;

const USAGE: &str = "usage: first_token MODEL.gguf THREADS SLOTS CONTEXT_TOKENS";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, threads, slots, context_tokens] = arguments.as_slice() else { return Err(USAGE.into()) };
    let options = EngineOptions {
        threads: threads.parse()?,
        slots: slots.parse()?,
        context_tokens: context_tokens.parse()?,
        ..EngineOptions::default()
    };
    let mut engine = LlamaEngine::load(model.as_ref(), options)?;
    let mut output = std::io::stdout().lock();
    writeln!(output, "ready")?;
    output.flush()?;
    for (id, prompt) in (0..).zip(std::io::stdin().lock().lines()) {
        let generation = Generation { max_tokens: Some(1), sampling: Sampling::greedy(), ..Generation::default() };
        let task = Task::Completion { prompt: prompt?, generation };
        let begin = Instant::now();
        let mut first = None;
        engine.start(id, &task)?;
        while engine.step(&mut |_, frame| {
            if matches!(frame, Frame::Tokens { .. }) {
                first.get_or_insert_with(|| begin.elapsed());
            }
        })? {}
        writeln!(output, "{}", first.ok_or("no token came")?.as_micros())?;
        output.flush()?;
    }
    Ok(())
}
