//! An orchestrator over its real transport, with nodes and clients that do what each test says.

mod admission;
mod durability;
mod hostile;
mod machines;
mod matching;
mod presence;
