//! `darkbloom-worker`: one model, in a sandbox. Started by a node daemon; see the library's documentation.

use engine::{EngineOptions, LlamaEngine};
use std::process::ExitCode;

fn main() -> ExitCode {
    worker::run(|path, options| {
        let defaults = EngineOptions::default();
        let options = EngineOptions {
            context_tokens: options.context_tokens.unwrap_or(defaults.context_tokens),
            slots: options.slots.unwrap_or(defaults.slots),
            threads: options.threads.unwrap_or(defaults.threads),
            batch_tokens: options.batch_tokens.unwrap_or(defaults.batch_tokens),
            ..defaults
        };
        Ok(Box::new(LlamaEngine::load(path, options)?))
    })
}
