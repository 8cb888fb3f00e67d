//! The models that a pool knows, and getting a verified file of weights onto this machine.
//!
//! A model is what its hash says, never what an origin says. [`catalogue`] names models, their licences and needs, and
//! where their files can be had; [`fetch`](mod@fetch) gets one from whichever origin answers; [`store`] keeps it and
//! opens it for a worker.
//!
//! ```no_run
//! use swarm::{catalogue::{Catalogue, DEFAULT_MODEL}, fetch::{self, Settings}, progress, store::Store};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let catalogue = Catalogue::built_in();
//! let store = Store::open("/var/lib/darkbloom/models")?;
//! let settings = Settings::from_environment();
//!
//! // Whoever draws a progress bar watches one value.
//! let (reporter, mut watch) = progress::channel();
//! let drawing = tokio::spawn(async move {
//!     while watch.changed().await.is_ok() {
//!         let now = watch.borrow_and_update().clone();
//!         eprintln!("{} {} of {:?} bytes", now.phase.name(), now.bytes_done, now.bytes_total);
//!     }
//! });
//!
//! let entries = catalogue.resolve(DEFAULT_MODEL);
//! let model = fetch::fetch_first(&entries, &store, &settings, &reporter).await?;
//! let verified = store.open_verified(model.digest)?; // an open descriptor, ready to hand to a worker
//! # drop((verified, reporter)); drawing.await?; Ok(())
//! # }
//! ```
//!
//! Invariants:
//! * a file enters [`store`] only whole and with the hash of its entry; it is hashed again before it is served, or its
//!   stamp is unchanged;
//! * a hash that was learned at a first fetch never changes afterwards;
//! * what is already here and verified is used without touching the network;
//! * a transfer goes on after a kill at any byte, and nothing of it is visible before it is verified;
//! * every failure names each origin that was tried, why it failed, and what can be done;
//! * nothing is read without a bound on bytes and on time.

pub mod catalogue;
pub mod digest;
pub mod entry;
pub mod fetch;
pub mod origin;
pub mod progress;
pub mod store;
