//! What a pool agrees on: who its members are and how they stand, what was observed of them, which models it has, and
//! whose credits are where. The replicated truth, as a pure function.
//!
//! A registry is the result of a log of [`Fact`]s. Applying them is deterministic and total: the same facts in the same
//! order give the same registry on every machine, and any fact at all gives either events or a [`Rejection`]. Facts come in
//! [`Bundle`]s that their authors have signed; the facts of a pool of one orchestrator come from its own log
//! ([`Registry::apply`]).
//!
//! Everything agreed stands in a [`State`], a [`Tree`] whose root proves what is in it ([`keys`]). [`Registry`] is a state
//! with what readers look for at hand; [`snapshot`] takes a state elsewhere in parts that prove themselves.
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
//! * what a name or digest means never changes once it means something, except that it means nothing after the model was
//!   removed; only `default` wanders, and is always the model that came first of those that are there;
//! * a member or model that was removed stays removed;
//! * observations are of members, and of each epoch only once;
//! * the root is a function of what stands in the state, and of nothing else;
//! * a bundle counts once, whole or not at all, and [`authorities`] says who may say what;
//! * credits move by postings that take as much as they give; no balance is below zero; a node is paid for a task once;
//! * what is held for a node's work is that node's or the payer's, and nobody else's ([`Hold`]);
//! * those who stay in a committee that changes are a quorum of it, where a committee can do without anybody at all;
//! * everything is bounded by [`protocol::limits`].

mod apply;
mod bundle;
mod draft;
mod event;
mod fact;
pub mod keys;
mod ledger;
mod models;
mod names;
mod records;
mod registry;
mod rejection;
mod roles;
pub mod snapshot;
mod state;
mod tree;

pub use apply::ledger::line_digest;
pub use bundle::{Authenticated, Bundle};
pub use event::Event;
pub use fact::Fact;
pub use ledger::{Place, Posting};
pub use protocol::genesis::{Genesis, GenesisError};
pub use records::{
    Account, AgreedEvidence, AgreedFault, Clock, Counts, Hold, Mark, Member, Model, Observed, Params, PastCommittee,
    Record, Share, Totals,
};
pub use registry::Registry;
pub use rejection::{BundleError, LedgerError, ModelError, PoolError, Rejection};
pub use roles::{Authority, authorities};
pub use state::{BlockContext, State, Step};
pub use tree::Tree;
