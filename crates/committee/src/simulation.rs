//! A whole committee, with everything that goes wrong with it drawn from one number.
//!
//! The members are the real ones as far as time and threads allow: [`Chain`](crate::chain::Chain) over the registry, real
//! signatures and bodies, the engine of `consensus` on its simulated runtime, and the real files of duty, committees and
//! snapshots. In the place of `member` stands [`machine`], which does what the supervisor does at the times that the seed
//! says. What must hold whatever happens is in [`invariants`], each in one place.
//!
//! `cargo xtask sim-committee --seeds N [--seed S] [--trace]` runs more seeds than the tests do.

mod adversary;
mod chance;
mod course;
mod crowd;
mod invariants;
mod machine;
mod plan;
mod seat;
mod seeds;

/// A mistake that a member's author could make. The simulation is worth something as long as it finds them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plant {
    None,
    /// Callers are told that a bundle is final when the block with it is valid.
    TellsEarly,
    /// A block is voted for without being executed.
    VotesBlindly,
    /// Blocks, and what was voted, count as written before they are: a crash takes them away.
    SyncsNothing,
}
