//! A simulator of a whole pool, with the scheduler that the orchestrator runs.

pub mod adversary;
pub mod catalogue;
pub mod device;
pub mod event;
pub mod fleet;
pub mod policy;
pub mod presence;
pub mod random;
pub mod report;
pub mod scenario;
pub mod simulate;
mod slab;
pub mod tally;
pub mod time;
pub mod workload;
pub mod world;
