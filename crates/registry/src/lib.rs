//! What a pool agrees on: who its members are, what was observed of them, and which models it has. The replicated truth,
//! as a pure function.
//!
//! A registry is the result of a log of [`Fact`]s. [`Registry::apply`] is deterministic and total: the same facts in the
//! same order give the same registry on every machine, and any fact at all gives either events or a [`Rejection`].
//!
//! ```
//! use protocol::{grant::ModelRef, ids::{ModelDigest, NodeId}, link::{ModelEntry, Role}};
//! use registry::{Event, Fact, Genesis, Registry};
//!
//! let secret = [7; 32];
//! let genesis = Genesis::new(vec![NodeId([1; 32])], &secret, 1_700_000_000_000);
//! let node = NodeId([2; 32]);
//! let model = ModelEntry {
//!     name: "Tiny".into(), aliases: vec!["small".into()], digest: ModelDigest([3; 32]), bytes: 1, licence: "MIT".into(),
//!     created_unix_s: 1_700_000_000,
//! };
//!
//! let mut registry = Registry::default();
//! registry.apply(Fact::Genesis(genesis))?;
//! registry.apply(Fact::MemberAdmitted { node, role: Role::Node, at_unix_ms: 1_700_000_000_001 })?;
//! let events = registry.apply(Fact::ModelAdded(model.clone()))?;
//!
//! assert_eq!(events, [Event::ModelAdded { digest: model.digest }]);
//! assert!(registry.is_member(node) && registry.admits(&secret));
//! assert_eq!(registry.model(&ModelRef::Name("default".into())), Some(&model), "the first model is the default");
//! assert_eq!(registry.model(&ModelRef::Name("TINY".into())), Some(&model));
//! # Ok::<(), registry::Rejection>(())
//! ```
//!
//! Invariants:
//! * the same log gives the same state; a fact that is so already changes nothing and has no events;
//! * a rejected fact changes nothing;
//! * what a name or digest means never changes once it means something;
//! * a member that was removed stays removed;
//! * observations are of members, and of each epoch only once;
//! * everything is bounded by [`protocol::limits`].

mod fact;
mod models;
mod names;
mod state;

pub use fact::{Event, Fact, Genesis, GenesisError, ModelError, Rejection};
pub use state::{Member, Registry};
