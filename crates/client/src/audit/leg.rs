//! What one node writes of an answer that was drawn to be read by others.

use protocol::{
    ids::{ModelDigest, NodeId, TaskId},
    task::{Prompt, Task},
};
use trust::canary;
use zeroize::Zeroize;

/// Tokens of a leg that are read: more would cost the referee more and say little more.
const TOKENS_MAX: usize = 512;

/// The part of an answer that one node writes, with the log-probabilities that it reports.
pub(crate) struct Leg {
    pub(super) task: TaskId,
    pub(super) node: NodeId,
    pub(super) model: ModelDigest,
    /// Tokens of the answer before it: other nodes wrote them.
    from: usize,
    log_probs: Vec<f32>,
}

impl Leg {
    pub(crate) fn new(task: TaskId, node: NodeId, model: ModelDigest, from: usize) -> Self {
        // All of it at once: what moves leaves a copy behind.
        Self { task, node, model, from, log_probs: Vec::with_capacity(TOKENS_MAX) }
    }

    /// The next tokens came.
    pub(crate) fn note(&mut self, log_probs: &[f32]) {
        let room = TOKENS_MAX - self.log_probs.len();
        self.log_probs.extend_from_slice(&log_probs[..log_probs.len().min(room)]);
    }

    /// The longer of two.
    pub(crate) fn longer(one: Option<Self>, other: Option<Self>) -> Option<Self> {
        one.into_iter().chain(other).max_by_key(|leg| leg.log_probs.len())
    }
}

impl Drop for Leg {
    fn drop(&mut self) {
        self.log_probs.zeroize();
    }
}

/// A leg with what stands before it: all that a referee needs.
pub(crate) struct Excerpt {
    pub(super) leg: Leg,
    /// The task of the referee.
    pub(super) score: Task,
}

impl Excerpt {
    /// Of the answer to `task` that has the tokens `ids`; `None` where it is too short to say anything, or no text.
    pub(crate) fn new(leg: Leg, task: &Task, ids: &[u32]) -> Option<Self> {
        let prompt = match task {
            Task::Chat { messages, .. } => Prompt::Chat(messages.clone()),
            Task::Completion { prompt, .. } => Prompt::Text(prompt.clone()),
            Task::Embedding { .. } | Task::Score { .. } => return None,
        };
        let read = ids.get(..leg.from + leg.log_probs.len())?;
        let says_enough = leg.log_probs.len() >= canary::TOKENS_MIN;
        says_enough.then(|| Self { score: Task::Score { prompt, ids: read.to_vec() }, leg })
    }

    /// What a referee's log-probabilities, which are those of the whole, say of the leg.
    pub(super) fn verdict(&self, scored: &[f32]) -> canary::Verdict {
        canary::verdict(&self.leg.log_probs, scored.get(self.leg.from..).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leg(from: usize, tokens: usize) -> Leg {
        let mut leg = Leg::new(TaskId([1; 16]), NodeId([2; 32]), ModelDigest([3; 32]), from);
        for _ in 0..tokens {
            leg.note(&[-1.0]);
        }
        leg
    }

    #[test]
    fn what_is_read_ends_with_the_leg_and_within_its_bound() {
        let ids: Vec<u32> = (0..2_000).collect();
        let read = |leg: Leg| match &Excerpt::new(leg, &Task::chat("x"), &ids)?.score {
            Task::Score { ids, .. } => Some(ids.len()),
            _ => None,
        };
        assert_eq!(read(leg(0, 20)), Some(20));
        assert_eq!(read(leg(100, 20)), Some(120), "what others wrote is read, too");
        assert_eq!(read(leg(100, 1_000)), Some(100 + TOKENS_MAX));
        assert_eq!(read(leg(0, canary::TOKENS_MIN - 1)), None);
        assert!(Excerpt::new(leg(0, 20), &Task::Embedding { inputs: vec!["x".to_owned()] }, &ids).is_none());
        assert!(Excerpt::new(leg(0, 20), &Task::chat("x"), &ids[..19]).is_none());
    }

    #[test]
    fn only_the_leg_is_judged() {
        let ids: Vec<u32> = (0..60).collect();
        let excerpt = Excerpt::new(leg(20, 40), &Task::chat("x"), &ids).unwrap();
        let mut scored = vec![-9.0; 20];
        scored.resize(60, -1.0);
        assert_eq!(excerpt.verdict(&scored), canary::Verdict::Passed { distance: 0.0 });
        scored.reverse();
        assert!(matches!(excerpt.verdict(&scored), canary::Verdict::Failed { .. }));
        assert!(matches!(excerpt.verdict(&[]), canary::Verdict::Failed { .. }), "a referee that says nothing");
    }

    #[test]
    fn of_several_legs_the_longest_counts() {
        let longer = Leg::longer(Some(leg(0, 20)), Some(leg(20, 30)));
        assert_eq!(longer.map(|leg| leg.from), Some(20));
        assert_eq!(Leg::longer(Some(leg(7, 1)), None).map(|leg| leg.from), Some(7));
        assert!(Leg::longer(None, None).is_none());
    }
}
