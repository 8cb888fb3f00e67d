//! The orchestrator: lets machines into a pool, knows which nodes can work, and matches tasks with them. It sees
//! metadata only, never a prompt or an answer.
//!
//! ```no_run
//! use orchestrator::{Orchestrator, OrchestratorConfig};
//! use transport::Listen;
//! use trust::MachineKey;
//!
//! # async fn example() -> Result<(), orchestrator::StartError> {
//! let key = MachineKey::generate();
//! let config = OrchestratorConfig::new("pool".into(), Listen::Loopback { port: 0 }, key);
//! let orchestrator = Orchestrator::start(config).await?;
//! println!("join with {}", orchestrator.ticket());
//! for row in orchestrator.nodes() {
//!     println!("{} {:?}", row.label, row.hold);
//! }
//! orchestrator.shutdown().await;
//! # Ok(()) }
//! ```
//!
//! What is agreed (members, models, what was observed of nodes, credits) is what the pool's committee has made final, of
//! which this orchestrator is a member, perhaps the only one: who is let in is final before anybody is told, observations
//! every few minutes. What is live (state of nodes, reservations, who waits) is in memory only, and comes back with the
//! nodes. The admission secret is neither: it lies in a file of its own, readable by the owner only.
//!
//! Invariants:
//! * a machine that was welcomed is a member after any crash, and needs no secret again;
//! * the same folder gives the same pool, and the same ticket unless the port was taken meanwhile;
//! * nothing is believed of a node's identity but its own signed evidence, of its speed but what was measured, and of a
//!   report but the probe that follows it;
//! * no client alone can have a node ejected, and a node that fails everything gets at most five tasks of one client;
//! * a task waits only where its turn is expected before its client gives up, and everybody who waits is answered;
//! * every node that gets no work has a reason in [`Orchestrator::nodes`];
//! * what an account has bought and nobody has settled is no more than it has, however fast it asks (`ledger`);
//! * no lock is held across an await or while every node is looked at, matching reads memory only, and everything that
//!   a peer can make us keep is bounded.

mod anchor;
mod clients;
mod clock;
mod config;
mod epochs;
mod folder;
mod gossip;
mod grudges;
mod history;
mod issued;
mod ledger;
mod link;
mod live;
mod matching;
mod measuring;
mod metrics;
mod observed;
mod orchestrator;
mod outcomes;
mod peers;
mod rules;
mod shared;
mod vetting;

pub use committee::{SayError, Standing, StartError as CommitteeError, Votes};
pub use config::{Measure, OrchestratorConfig, StartError, Timings};
pub use folder::FolderError;
pub use metrics::Metrics;
pub use orchestrator::Orchestrator;
