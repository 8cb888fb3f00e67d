//! Where one node belongs in the index.

use crate::{
    LiveNode, LiveWorker, Now, Presence, Rule, Task,
    cost::Sizes,
    gate::{distance, model_standing, other_model_standing},
    rank::drawn,
};
use protocol::ids::ModelDigest;

/// Sizes that stand for all tasks of a class: short, usual and long prompts; short, usual and long answers.
const PROMPTS: [(u32, u32); 3] = [(384, 128), (3_072, 1_024), (u32::MAX, 6_144)];
const ANSWERS: [(u32, u32); 3] = [(64, 32), (384, 256), (u32::MAX, 768)];
/// Classes of sizes.
pub(super) const CLASSES: usize = PROMPTS.len() * ANSWERS.len();
/// Steps of cost in each doubling.
const STEPS: f64 = 16.0;
/// Doubted nodes come after all others.
const DOUBT: u16 = 1 << 12;

/// A class of tasks with about the same sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Class(usize);

impl Class {
    pub(super) const FIRST: Self = Self(0);

    pub(super) fn of(task: &Task<'_>) -> Self {
        let at = |table: &[(u32, u32)], value| table.iter().take_while(|(most, _)| value > *most).count();
        Self(at(&PROMPTS, task.prompt_tokens) * ANSWERS.len() + at(&ANSWERS, task.answer_tokens))
    }

    pub(super) fn at(self) -> usize {
        self.0
    }

    fn sizes(self) -> Sizes {
        Sizes { prompt_tokens: PROMPTS[self.0 / ANSWERS.len()].1, answer_tokens: ANSWERS[self.0 % ANSWERS.len()].1 }
    }
}

/// Where a node stands with one of its models.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// It would get a task, at these costs.
    Routable([u16; CLASSES]),
    /// It would not, and the reason is this far from going.
    Held(u8),
}

/// Every place of a node.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Placed {
    /// Decides between equal costs.
    pub(super) tie: u32,
    /// For each model that it has.
    pub(super) models: Vec<(ModelDigest, Place)>,
    /// For models that it does not have: whether it has any, and how far that reason is from going. `None` before it has
    /// been placed.
    pub(super) elsewhere: Option<(bool, u8)>,
    /// When this changes by time alone.
    pub(super) deadline_steady_ms: Option<u64>,
    /// When canaries are due.
    pub(super) canaries: Vec<(u64, ModelDigest)>,
}

impl Placed {
    pub(super) fn of(live: &LiveNode, rule: &Rule, now: Now) -> Self {
        let mut models: Vec<(ModelDigest, Place)> = Vec::with_capacity(live.workers.len());
        let mut canaries = Vec::new();
        for worker in &live.workers {
            if models.iter().any(|(model, _)| *model == worker.model) {
                continue;
            }
            let place = match model_standing(live, worker.model, now) {
                Some(hold) => Place::Held(distance(&hold)),
                None => Place::Routable(costs(live, worker, rule, now)),
            };
            models.push((worker.model, place));
            let reachable = live.presence == Presence::Linked && live.hold.is_none() && worker.hold.is_none();
            let due = live.record(worker.model).canary_due_steady_ms(live.attestation);
            canaries.extend(due.filter(|_| reachable).map(|due| (due, worker.model)));
        }
        let elsewhere = Some((!models.is_empty(), distance(&other_model_standing(live, now))));
        Self { tie: drawn(0, live.node) as u32, models, elsewhere, deadline_steady_ms: deadline(live, now), canaries }
    }
}

fn costs(live: &LiveNode, worker: &LiveWorker, rule: &Rule, now: Now) -> [u16; CLASSES] {
    let doubt = if live.is_doubted(now) { DOUBT } else { 0 };
    std::array::from_fn(|at| {
        let cost_us = rule.estimate(live, worker, Class(at).sizes(), now).cost_us;
        // Costs have fewer than 44 bits, so this is below 2¹⁰.
        ((cost_us.max(1) as f64).log2() * STEPS) as u16 + doubt
    })
}

/// The next time at which something about a node changes though nothing is heard of it.
fn deadline(live: &LiveNode, now: Now) -> Option<u64> {
    let node = [live.silent_from_steady_ms, live.doubted_until_steady_ms];
    let workers = live.workers.iter().flat_map(|worker| {
        let (issued, expires) = worker.current_unix_ms();
        let on_steady_clock = |unix_ms: u64| match unix_ms.checked_sub(now.unix_ms) {
            Some(ahead) => now.steady_ms.saturating_add(ahead),
            None => 0,
        };
        let record = live.record(worker.model).changes_steady_ms().unwrap_or(0);
        [worker.reserved_until_steady_ms, on_steady_clock(issued), on_steady_clock(expires), record]
    });
    node.into_iter().chain(workers).filter(|at| *at > now.steady_ms && *at < u64::MAX).min()
}
