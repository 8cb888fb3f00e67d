//! A simulator of a whole pool, with the scheduler that the orchestrator runs.
//!
//! A thousand machines of a few kinds are lent by owners who come and go; askers send them more or fewer tasks than they
//! can do; some nodes fail, lie or are fake. In between stands an orchestrator, which is either made of this project's
//! own crates ([`policy::Darkbloom`] calls [`scheduler::Fleet`], [`scheduler::Queue`], [`registry::Registry`] and
//! [`trust::score`]: no line of the rule is written twice) or of another rule ([`policy::Rival`]).
//!
//! ```
//! use sim::{catalogue::Catalogue, report, scenario::{Amount, Scenario}, simulate::{Contestant, simulate}};
//!
//! let scenario = Scenario {
//!     nodes: 100,
//!     hours: 0.2,
//!     black_holes: Amount::Share(0.1),
//!     ..Scenario::default()
//! };
//! let rules = [Contestant::Darkbloom, Contestant::LeastLoaded];
//! let found = simulate(&Catalogue::built_in(), &scenario, &rules)?;
//!
//! let [ours, theirs] = &found.report.runs[..] else { panic!("one for each rule") };
//! assert!(ours.error_share < theirs.error_share, "nodes that fail everything are noticed");
//! println!("{}", report::table(&found.report));
//! assert!(report::html(&found.report).contains("<svg"), "one page with its charts");
//! # Ok::<(), sim::simulate::SimulateError>(())
//! ```
//!
//! The way through it:
//!
//! | module | what it holds |
//! |---|---|
//! | [`catalogue`] | kinds of machines, models, owners, networks and tasks, read from TOML with their sources |
//! | [`presence`] | when owners lend their machines: sessions, closed lids, cut lines |
//! | [`workload`] | which tasks come, and when |
//! | [`fleet`], [`adversary`], [`scenario`] | the machines of one scenario, and what is wrong with some of them |
//! | [`device`] | one machine's engine: slots, prompts and answers that share its steps |
//! | [`policy`] | the rules under test |
//! | [`world`], [`event`] | what happens: clients, nodes and an orchestrator, event by event |
//! | [`tally`], [`report`] | what is counted, and how it is told |
//!
//! `docs/SIMULATOR.md` says what is modelled, from which sources, and what is not.
//!
//! Invariants:
//! * the same seed gives the same bytes, and all rules of one run meet the same world: the same sessions, the same tasks;
//! * a rule learns what an orchestrator would learn, when it would: a silent departure from a client's report or a missing
//!   heartbeat, the length of an answer never before its end;
//! * every second of every device belongs to an attempt, and is counted as useful, wasted, or spent on trials;
//! * a task that was never completed counts as the slowest in every percentile.

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
pub mod slab;
pub mod tally;
pub mod time;
pub mod workload;
pub mod world;
