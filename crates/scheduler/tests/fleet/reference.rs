//! Matching by looking at everything.

use protocol::ids::{ModelDigest, NodeId};
use scheduler::{LiveNode, Now, Rule, Sizes, Task, gate};

/// Every node that may take the task, by exact cost, doubted ones last.
pub(crate) fn by_cost(live: &[LiveNode], model: ModelDigest, task: &Task<'_>, now: Now) -> Vec<((bool, u64), NodeId)> {
    let free = live.iter().filter(|node| gate(node, model, task, now).is_none());
    let mut ranked: Vec<((bool, u64), NodeId)> = free
        .map(|node| {
            let worker = node.worker(model).expect("who passes has a worker");
            let estimate = Rule::default().estimate(node, worker, Sizes::from(task), now);
            ((node.is_doubted(now), estimate.cost_us), node.node)
        })
        .collect();
    ranked.sort_unstable();
    ranked
}
