//! Who gets a task: the whole matching rule, as a pure function of what is agreed, what is live, the task and the time.
//!
//! ```
//! use protocol::{
//!     grant::{MatchRequest, ModelRef, Policy, Tier}, hold::Hold, ids::{ModelDigest, NodeId, TaskId},
//!     link::{ModelEntry, Role},
//! };
//! use registry::{Fact, Genesis, Registry};
//! use scheduler::{LiveNode, LiveWorker, Now, Presence, Task, rank};
//!
//! let digest = ModelDigest([3; 32]);
//! let model = ModelEntry {
//!     name: "tiny".into(), aliases: Vec::new(), digest, bytes: 1, licence: "MIT".into(), created_unix_s: 0,
//! };
//! let mut pool = Registry::default();
//! pool.apply(Fact::Genesis(Genesis::new(vec![NodeId([1; 32])], &[7; 32], 0)))?;
//! pool.apply(Fact::ModelAdded(model))?;
//!
//! let now = Now { unix_ms: 1_700_000_000_000, steady_ms: 1_000 };
//! let node = |byte, active_tasks| LiveNode {
//!     node: NodeId([byte; 32]), presence: Presence::Linked, silent_from_steady_ms: 7_000, probing: false,
//!     doubted_until_steady_ms: 0, hold: None,
//!     workers: vec![LiveWorker {
//!         model: digest, tier: Tier::SelfSigned, issued_unix_ms: now.unix_ms, expires_unix_ms: now.unix_ms + 60_000,
//!         slots: 4, capacity: 4, active_tasks, reserved: 0, reserved_until_steady_ms: 0, hold: None,
//!     }],
//! };
//! let live = [node(10, 3), node(11, 1), node(12, 4)];
//! let request = MatchRequest {
//!     task: TaskId([0; 16]), model: ModelRef::Name("default".into()), prompt_bucket_bytes: 4096,
//!     answer_bucket_tokens: 0, policy: Policy::default(), exclude: Vec::new(),
//! };
//! let task = Task { client: NodeId([9; 32]), request: &request };
//!
//! let ranking = rank(&pool, &live, &task, now, 42).expect("two nodes have a place");
//! assert_eq!(ranking.candidates, [NodeId([11; 32]), NodeId([10; 32])], "the less loaded first, the full one never");
//!
//! let refusal = rank(&pool, &live[2..], &task, now, 42).expect_err("full");
//! assert_eq!(refusal.reasons, [(NodeId([12; 32]), Hold::Full { slots: 4 })]);
//! # Ok::<(), registry::Rejection>(())
//! ```
//!
//! Invariants:
//! * the same arguments give the same ranking, in whatever order the nodes come;
//! * gates come first: a node with a reason against it is never ranked, and a node that is not routable has a reason;
//! * more load never improves a node's rank;
//! * time stands in the arguments, and so does chance.

mod gate;
mod live;
mod rank;

pub use gate::{gate, standing};
pub use live::{LiveNode, LiveWorker, Now, Presence};
pub use rank::{Ranking, Task, rank};
