//! The orchestrator: lets machines into a pool, knows which nodes can work, and matches tasks with them. It sees metadata
//! only, never a prompt or an answer.
//!
//! ```no_run
//! use orchestrator::{Orchestrator, OrchestratorConfig};
//! use transport::Listen;
//! use trust::MachineKey;
//!
//! # async fn example() -> Result<(), orchestrator::StartError> {
//! let key = MachineKey::generate();
//! let config = OrchestratorConfig::new("pool.sqlite".into(), Listen::Loopback { port: 0 }, key);
//! let orchestrator = Orchestrator::start(config).await?;
//! println!("join with {}", orchestrator.ticket());
//! for row in orchestrator.nodes() {
//!     println!("{} {:?}", row.label, row.hold);
//! }
//! orchestrator.shutdown().await;
//! # Ok(()) }
//! ```
//!
//! What is agreed (members, models) is a log of facts in SQLite, written and synced before anybody is told. What is live
//! (state of nodes, reservations) is in memory only, and comes back with the nodes. The admission secret is neither: it
//! lies in a file of its own beside the store, `<store>.secret`, readable by the owner only.
//!
//! Invariants:
//! * a machine that was welcomed is a member after any crash, and needs no secret again;
//! * the same store gives the same pool, and the same ticket unless the port was taken meanwhile;
//! * nothing is believed of a node but its own signed evidence, and nothing of a report but the probe that follows it;
//! * every node that gets no work has a reason in [`Orchestrator::nodes`];
//! * no lock is held across an await, matching reads memory only, and everything that a peer can make us keep is bounded.

mod clients;
mod clock;
mod config;
mod link;
mod live;
mod matching;
mod metrics;
mod orchestrator;
mod rate;
mod secret;
mod shared;
mod store;
mod vetting;
mod writer;

pub use config::{OrchestratorConfig, StartError, Timings};
pub use metrics::Metrics;
pub use orchestrator::Orchestrator;
pub use secret::SecretError;
pub use store::StoreError;
pub use writer::WriteError;
