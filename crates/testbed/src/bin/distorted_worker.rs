//! A node that cheats: it holds the model's file and claims its digest, and answers as a smaller quantisation of it would.
//! For tests only.

use std::process::ExitCode;

/// About what the Q3_K_M of the default model is: a sixth of the greedy tokens are others, and log-probabilities are a
/// fifth apart (measured; see `trust::canary`).
const DISTORTED_PERCENT: u32 = 20;

fn main() -> ExitCode {
    worker::run(|path, options| {
        let engine = testbed::DeterministicEngine::load(path, options.slots.unwrap_or(8))?;
        Ok(Box::new(engine.distorted(DISTORTED_PERCENT)))
    })
}
