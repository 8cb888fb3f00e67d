//! Who gets a task: the whole matching rule, as a pure function of what is agreed, what is live, the task and the time.
//!
//! ```
//! use protocol::{
//!     grant::{MatchRequest, ModelRef}, hold::Hold, ids::{ModelDigest, NodeId, TaskId}, link::ModelEntry,
//! };
//! use registry::{Fact, Genesis, Registry};
//! use scheduler::{Fleet, LiveNode, LiveWorker, Now, Rule, Task};
//! use trust::score::Attestation;
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
//!     silent_from_steady_ms: 7_000,
//!     attestation: Attestation::Vouched,
//!     workers: vec![LiveWorker { active_tasks, ..LiveWorker::new(digest, 4, 1_000_000_000) }],
//!     ..LiveNode::new(NodeId([byte; 32]), now)
//! };
//! let mut fleet = Fleet::new(Rule::default());
//! for live in [node(10, 3), node(11, 1), node(12, 4)] {
//!     fleet.insert(live, now);
//! }
//! let mut request = MatchRequest::new(TaskId([0; 16]), ModelRef::Name("default".into()), 4096, 0);
//!
//! let ranking = fleet.grant(&pool, &Task::new(NodeId([9; 32]), &request), now, 42).expect("two nodes have a place");
//! let ranked: Vec<NodeId> = ranking.candidates.iter().map(|candidate| candidate.node).collect();
//! assert_eq!(ranked, [NodeId([11; 32]), NodeId([10; 32])], "the less loaded first, the full one never");
//! assert_eq!(fleet.get(ranked[0]).expect("it is there").workers[0].tasks(now), 2, "the task is on its way");
//!
//! request.exclude = ranked;
//! let refusal = fleet.grant(&pool, &Task::new(NodeId([9; 32]), &request), now, 42).expect_err("full");
//! assert_eq!(refusal.reasons[0], (NodeId([12; 32]), Hold::Full { slots: 4 }));
//! # Ok::<(), registry::Rejection>(())
//! ```
//!
//! Invariants:
//! * the same arguments give the same ranking;
//! * gates come first: a node with a reason against it is never ranked, and a node that is not routable has a reason;
//! * a better input never worsens a node's cost, and more load never improves its rank;
//! * a node that fails everything gets at most [`record::USER_FAILURES_MAX`] users' tasks before it is ejected;
//! * a decision looks at a bounded number of nodes, however many there are, but the first of a kind that nobody has asked
//!   for in a long while: it puts the nodes in order once;
//! * time stands in the arguments, and so does chance.

pub mod budget;
pub mod cost;
mod fleet;
mod gate;
pub mod hedge;
mod live;
pub mod queue;
mod rank;
pub mod record;
mod task;

pub use budget::Budget;
pub use cost::{Estimate, Rule, Sizes};
pub use fleet::{Fleet, NEED_ONE_IN};
pub use gate::{gate, standing};
pub use hedge::FirstTokens;
pub use live::{LiveNode, LiveWorker, Now, Presence, RESERVED_MS};
pub use queue::{Ask, Queue, TooLong};
pub use rank::{Ranked, Ranking};
pub use record::{Ended, Record, Records};
pub use task::Task;
