//! What the owner of a machine is doing, and what the owner allows: sensors, rules, and a watcher that joins them.
//!
//! The owner comes first (promise P9). [`LendSettings`] say when the machine may be lent, the [`sensors`] say how things
//! are, [`rules::verdict`] compares the two, and a [`Watcher`] does so all the time and tells whoever lends the machine.
//!
//! ```no_run
//! use owner::{Purpose, Watcher, settings};
//!
//! let text = "[lend]\nidle_s = 600\nbattery = { percent_min = 80 }\n";
//! let lend = settings::from_toml(text, Purpose::Join).expect("settings that hold");
//! let watcher = Watcher::start(lend, |verdict| match &verdict.hold {
//!     Some(hold) => println!("give the machine back: {hold}"),
//!     None => println!("lend it"),
//! });
//! // Whoever lends the machine goes on until it stops.
//! println!("{:?}", watcher.latest());
//! ```
//!
//! Invariants:
//! * nothing is lent while a rule is broken, and whatever is held back has a rule with a name;
//! * a rule lifts only after its condition has been gone for a while ([`rules::Rule::calm_ms`]), so that nothing flaps;
//! * a sensor that is not there is named ([`Verdict::missing`]); it stops no other sensor and never panics;
//! * what leaves the machine ([`protocol::hold::Hold`]) names the rule, not what the owner does: programs, charge and
//!   load stay in [`Verdict::broken`], for the owner's own eyes.

mod meter;
pub mod readings;
pub mod rules;
pub mod sensors;
pub mod settings;
mod watcher;

pub use meter::{MemoryMeter, machine_memory_bytes};
pub use readings::Readings;
pub use rules::Verdict;
pub use settings::{ClientSettings, LendSettings, Purpose};
pub use watcher::Watcher;
