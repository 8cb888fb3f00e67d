//! An orchestrator over its real transport, with nodes and clients that do what each test says.
#![expect(clippy::unwrap_used, reason = "clippy knows test functions, but not what they call")]

mod admission;
mod canaries;
mod committee;
mod durability;
mod gossip;
mod hostile;
mod machines;
mod matching;
mod measuring;
mod outcomes;
mod presence;
mod queueing;
mod reading;
mod serving;
