//! Matching: what holds for every pool, task and time.
#![expect(clippy::unwrap_used, reason = "clippy knows test functions, but not what they call")]

mod eligible;
mod equals;
mod need;
mod reference;
mod sequences;
mod strategies;
