//! Who serves which model now: kept up to date with each change, so that nobody has to look at every node.

use protocol::ids::ModelDigest;
use std::collections::{BTreeMap, HashMap};

/// What one node gives for one model now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) model: ModelDigest,
    pub(super) context_tokens: u32,
    pub(super) slots: u32,
    pub(super) tasks: u32,
}

/// The nodes that serve one model: busy ones too.
#[derive(Debug, Default)]
pub(super) struct Serving {
    nodes: u32,
    contexts: BTreeMap<u32, u32>,
    slots: u64,
    tasks: u64,
}

impl Serving {
    pub(super) fn count(&self) -> u32 {
        self.nodes
    }

    pub(super) fn context_tokens_max(&self) -> u32 {
        self.contexts.last_key_value().map_or(0, |(context, _)| *context)
    }

    /// Tasks in percent of places.
    pub(super) fn busy_percent(&self) -> u64 {
        self.tasks * 100 / self.slots.max(1)
    }

    pub(super) fn slots(&self) -> u32 {
        u32::try_from(self.slots).unwrap_or(u32::MAX)
    }

    fn add(&mut self, part: &Part) {
        self.nodes += 1;
        *self.contexts.entry(part.context_tokens).or_default() += 1;
        self.slots += u64::from(part.slots);
        self.tasks += u64::from(part.tasks);
    }

    fn remove(&mut self, part: &Part) {
        self.nodes -= 1;
        if let Some(count) = self.contexts.get_mut(&part.context_tokens) {
            *count -= 1;
            if *count == 0 {
                self.contexts.remove(&part.context_tokens);
            }
        }
        self.slots -= u64::from(part.slots);
        self.tasks -= u64::from(part.tasks);
    }
}

/// Every model that somebody serves.
#[derive(Debug, Default)]
pub(super) struct Ready {
    models: HashMap<ModelDigest, Serving>,
}

impl Ready {
    pub(super) fn of(&self, model: ModelDigest) -> Option<&Serving> {
        self.models.get(&model)
    }

    /// A node's parts were `before` and are `after`.
    pub(super) fn change(&mut self, before: &[Part], after: &[Part]) {
        if before == after {
            return;
        }
        for part in before {
            if let Some(serving) = self.models.get_mut(&part.model) {
                serving.remove(part);
                if serving.nodes == 0 {
                    self.models.remove(&part.model);
                }
            }
        }
        for part in after {
            self.models.entry(part.model).or_default().add(part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODEL: ModelDigest = ModelDigest([1; 32]);

    fn part(context_tokens: u32, tasks: u32) -> Part {
        Part { model: MODEL, context_tokens, slots: 4, tasks }
    }

    #[test]
    fn sums_follow_every_change() {
        let mut ready = Ready::default();
        for byte in 0..10u32 {
            ready.change(&[], &[part(byte, 2)]);
        }
        let serving = ready.of(MODEL).unwrap();
        assert_eq!((serving.count(), serving.context_tokens_max(), serving.busy_percent()), (10, 9, 50));
        ready.change(&[part(9, 2)], &[part(100, 4)]);
        ready.change(&[part(0, 2)], &[]);
        let serving = ready.of(MODEL).unwrap();
        assert_eq!((serving.count(), serving.context_tokens_max(), serving.tasks), (9, 100, 20));
        ready.change(&[part(100, 4)], &[]);
        (1..9).for_each(|byte| ready.change(&[part(byte, 2)], &[]));
        assert!(ready.of(MODEL).is_none());
    }
}
