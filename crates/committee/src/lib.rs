//! One member of a pool's committee: it puts what machines say into blocks, agrees on them with the other members, and keeps
//! the state that they lead to.
//!
//! ```no_run
//! use committee::{Member, MemberConfig, loopback::Loopback};
//! use protocol::genesis::Genesis;
//! use registry::Fact;
//! use trust::MachineKey;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let key = MachineKey::generate();
//! let genesis = Genesis::new(vec![key.id()], &[7; 32], 1_790_000_000_000);
//! let network = Loopback::default().join(key.id());
//! let member = Member::start(MemberConfig::new("pool".into(), key.clone(), genesis), network).await?;
//!
//! // Final, and on the disk, when it returns.
//! let events = member.say(vec![Fact::MeasurementAllowed { measurement: [1; 32] }]).await?;
//! assert_eq!(events.len(), 1);
//! member.shutdown().await;
//! # Ok(()) }
//! ```
//!
//! The consensus engine is the crate `consensus`, and what a fact means is the crate `registry`. In between:
//!
//! * a bundle waits in the mempools of all members, until a leader puts it into a block (`mempool`, `chain`);
//! * a block is built, judged and taken in by one function (`execution`);
//! * the state is written down now and then (`snapshots`), and blocks below need not be kept;
//! * who was away takes blocks from others, or a snapshot (`catch_up`);
//! * who has lost its disk does not vote where it might contradict itself (`duty`).
//!
//! Invariants:
//! * what a caller is told to be final stays so, whenever the machine stops;
//! * a block is final here only after it was executed here and led to the state that its header names;
//! * one rule decides whether a signature holds ([`trust::Strict`]), whether in the mempool, in a proposal or in a block;
//! * everything that comes from another member is bounded and verified, or names that member.

mod body;
mod catch_up;
mod certified;
mod chain;
mod committees;
mod config;
mod durable;
mod duty;
mod execution;
mod faults;
mod founding;
mod latest;
mod locks;
pub mod loopback;
mod member;
mod mempool;
mod message;
mod peers;
mod pending;
mod repeating;
mod say;
mod serving;
mod signatures;
#[cfg(test)]
mod simulation;
mod snapshots;
mod standing;

pub use certified::CertificateError;
pub use chain::SnapshotPace;
pub use config::{MemberConfig, StartError};
pub use durable::FileError;
pub use latest::{Happened, Latest};
pub use member::Member;
pub use say::SayError;
pub use standing::{Standing, Votes};
