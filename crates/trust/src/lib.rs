//! Identity, evidence and scores: who signs, whether what is signed may be believed, and what was earned.
//!
//! Pure: a [`MachineKey`] is handed in, the time is an argument. Where a key is kept on disk is the program's business.
//!
//! ```
//! use protocol::{grant::Permit, ids::{ModelDigest, NodeId, PoolId, TaskId}};
//! use trust::{MachineKey, permit};
//!
//! let (orchestrator, node, client) = (MachineKey::generate(), MachineKey::generate(), MachineKey::generate());
//! let granted = Permit {
//!     pool: PoolId([1; 32]), task: TaskId::random(), client: client.id(), node: node.id(),
//!     model: ModelDigest([2; 32]), expires_unix_ms: 10_000, price: None,
//! };
//! let signed = orchestrator.sign(&granted);
//!
//! let expected = permit::Expected { pool: PoolId([1; 32]), client: client.id(), node: node.id() };
//! assert_eq!(permit::verify(&signed, &[orchestrator.id()], &expected, 9_000), Ok(granted));
//! assert!(permit::verify(&signed, &[node.id()], &expected, 9_000).is_err(), "signed by nobody we believe");
//! assert!(permit::verify(&signed, &[orchestrator.id()], &expected, 90_000).is_err(), "too old");
//! ```
//!
//! What a pool's committee has agreed on is another matter: [`light`] says whether it has.
//!
//! Invariants: a signature over one kind of payload never verifies as another; verification is strict (RFC 8032, no
//! small-order keys); nothing unverified leaves [`open`].

pub mod canary;
pub mod evidence;
pub mod light;
mod machine_key;
pub mod observations;
pub mod permit;
mod redemption;
pub mod score;
pub mod survival;

pub use machine_key::{MachineKey, SignatureError, Strict, open};
pub use redemption::redeem;
