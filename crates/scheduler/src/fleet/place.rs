//! Where one node belongs in the index.

use super::index::CostKey;
use crate::{
    LiveNode, Now, Presence, Rule, Task,
    cost::{Outlook, Sizes, Weighed},
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
/// Bits of a step: ten of the cost, and one for doubt.
pub(super) const STEP_BITS: u32 = 11;
/// Doubted nodes come after all others.
const DOUBT: u16 = 1 << (STEP_BITS - 1);

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

/// A rule, with what it makes of each class.
#[derive(Debug)]
pub(super) struct Weights {
    pub(super) rule: Rule,
    classes: [Weighed; CLASSES],
}

impl Weights {
    pub(super) fn new(rule: Rule) -> Self {
        Self { rule, classes: std::array::from_fn(|at| rule.weigh(Class(at).sizes())) }
    }
}

impl Default for Weights {
    fn default() -> Self {
        Self::new(Rule::default())
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
#[derive(Debug, Default)]
pub(super) struct Placed {
    /// Decides between equal costs.
    pub(super) tie: u32,
    /// For each model that it has.
    pub(super) models: Vec<(ModelDigest, Place)>,
    /// What its workers promise, in the order of these.
    outlooks: Vec<Outlook>,
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

    /// Its key in the order of a class, if it would get a task with this model.
    pub(super) fn key(&self, model: ModelDigest, class: Class, at: u32) -> Option<CostKey> {
        let (_, place) = self.models.iter().find(|(own, _)| *own == model)?;
        match place {
            Place::Routable(costs) => Some(CostKey::new(costs[class.0], self.tie, at)),
            Place::Held(_) => None,
        }
    }

    /// What its worker with this model promises. It holds until the next deadline.
    pub(super) fn outlook(&self, model: ModelDigest) -> Option<&Outlook> {
        self.outlooks.get(self.models.iter().position(|(own, _)| *own == model)?)
    }

    /// Makes these the places of a node as it is now, whatever they were. Memory is used again: this is what happens most.
    pub(super) fn set(&mut self, live: &LiveNode, weights: &Weights, now: Now) {
        let Self { tie, models, outlooks, elsewhere, deadline_steady_ms, canaries, there } = self;
        models.clear();
        outlooks.clear();
        canaries.clear();
        there.clear();
        // Most nodes have one worker, and a vector that grows by itself begins with room for four.
        let workers = live.workers.len();
        models.reserve_exact(workers);
        outlooks.reserve_exact(workers);
        there.reserve_exact(workers);
        for worker in &live.workers {
            if models.iter().any(|(model, _)| *model == worker.model) {
                continue;
            }
            let outlook = weights.rule.outlook(live, worker, now);
            let place = match model_standing(live, worker.model, now) {
                Some(hold) => Place::Held(distance(&hold)),
                None => Place::Routable(costs(live, &outlook, weights, now)),
            };
            models.push((worker.model, place));
            outlooks.push(outlook);
            let reachable = live.presence == Presence::Linked && live.hold.is_none() && worker.hold.is_none();
            if reachable {
                let record = live.record(worker.model);
                let due = record.canary_due_steady_ms(live.attestation);
                canaries.extend(due.map(|due| (due, worker.model)));
                there.push((worker.model, record.needed_canary_due_steady_ms()));
            }
        }
        *elsewhere = Some((!models.is_empty(), distance(&other_model_standing(live, now))));
        *tie = drawn(0, live.node) as u32;
        *deadline_steady_ms = deadline(live, now);
    }
}

fn costs(live: &LiveNode, outlook: &Outlook, weights: &Weights, now: Now) -> [u16; CLASSES] {
    let doubt = if live.is_doubted(now) { DOUBT } else { 0 };
    let hazard = live.hazard.at_age(live.session_age_ms(now));
    outlook.costs_us(&weights.classes, &hazard).map(|cost_us| step(cost_us) + doubt)
}

/// The step of a cost: its doublings, and equal parts of the last. Costs have fewer than 44 bits, so this is below 2¹⁰.
fn step(cost_us: u64) -> u16 {
    let cost = cost_us.max(1 << STEPS_BITS);
    let doublings = cost.ilog2();
    let part = (cost >> (doublings - STEPS_BITS)) - (1 << STEPS_BITS);
    ((doublings - STEPS_BITS) << STEPS_BITS) as u16 + part as u16
}

/// The next time at which something about a node changes though nothing is heard of it.
pub(super) fn deadline(live: &LiveNode, now: Now) -> Option<u64> {
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
