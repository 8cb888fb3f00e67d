//! Where one node belongs in the index.

use crate::{
    LiveNode, LiveWorker, Now, Presence, Rule, Task,
    cost::Sizes,
    gate::{distance, model_standing, other_model_standing},
    rank::drawn,
};
use protocol::ids::ModelDigest;

/// Sizes that stand for all tasks of a class: short, usual and long prompts; short, usual and long answers.
const PROMPTS: [(u32, u32); 3] = [(384, 128), (1_536, 768), (u32::MAX, 3_072)];
const ANSWERS: [(u32, u32); 3] = [(96, 64), (224, 160), (u32::MAX, 300)];
/// Classes of sizes.
pub(super) const CLASSES: usize = PROMPTS.len() * ANSWERS.len();
/// Steps of cost in each doubling: 2 to the power of this.
const STEPS_BITS: u32 = 4;
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
    /// The models that it could serve for all that it says itself; and where it is ejected, when a canary is due if it is
    /// needed.
    pub(super) there: Vec<(ModelDigest, Option<u64>)>,
}

impl Placed {
    /// Whether it would get a task with this model.
    pub(super) fn is_routable(&self, model: ModelDigest) -> bool {
        self.models.iter().any(|(own, place)| *own == model && matches!(place, Place::Routable(_)))
    }

    pub(super) fn of(live: &LiveNode, rule: &Rule, now: Now) -> Self {
        let mut models: Vec<(ModelDigest, Place)> = Vec::with_capacity(live.workers.len());
        let (mut canaries, mut there) = (Vec::new(), Vec::new());
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
            if reachable {
                let record = live.record(worker.model);
                let due = record.canary_due_steady_ms(live.attestation);
                canaries.extend(due.map(|due| (due, worker.model)));
                there.push((worker.model, record.needed_canary_due_steady_ms()));
            }
        }
        let elsewhere = Some((!models.is_empty(), distance(&other_model_standing(live, now))));
        let (tie, deadline_steady_ms) = (drawn(0, live.node) as u32, deadline(live, now));
        Self { tie, models, elsewhere, deadline_steady_ms, canaries, there }
    }
}

fn costs(live: &LiveNode, worker: &LiveWorker, rule: &Rule, now: Now) -> [u16; CLASSES] {
    let doubt = if live.is_doubted(now) { DOUBT } else { 0 };
    let outlook = rule.outlook(live, worker, now);
    std::array::from_fn(|at| step(outlook.estimate(Class(at).sizes()).cost_us) + doubt)
}

/// The step of a cost: its doublings, and equal parts of the last. Costs have fewer than 44 bits, so this is below 2¹⁰.
fn step(cost_us: u64) -> u16 {
    let cost = cost_us.max(1 << STEPS_BITS);
    let doublings = cost.ilog2();
    let part = (cost >> (doublings - STEPS_BITS)) - (1 << STEPS_BITS);
    ((doublings - STEPS_BITS) << STEPS_BITS) as u16 + part as u16
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

#[cfg(test)]
mod tests {
    use super::step;

    #[test]
    fn steps_follow_the_cost() {
        assert_eq!([0, 16, 17, 31, 32, 33, 34].map(step), [0, 0, 1, 15, 16, 16, 17]);
        assert!(step(u64::from(u32::MAX) * 1000) < 1 << 10);
        let steps: Vec<u16> = (0..44).map(|bits| step(1 << bits)).collect();
        assert!(steps.is_sorted());
    }
}
