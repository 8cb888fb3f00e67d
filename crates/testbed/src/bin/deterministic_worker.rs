//! The real worker loop, sandbox and sealing around the deterministic engine. For tests only.

use std::process::ExitCode;

fn main() -> ExitCode {
    worker::run(|path, options| Ok(Box::new(testbed::DeterministicEngine::load(path, options.slots.unwrap_or(8))?)))
}
