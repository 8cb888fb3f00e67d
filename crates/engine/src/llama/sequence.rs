//! A request that has a sequence of its own in the generator's context: it generates, or it scores.

use super::generation::Generation;
use super::scoring::Scoring;
use super::vocabulary::Prompt;
use std::ops::Range;

/// One request in its slot.
pub(super) struct Sequence {
    /// What is read before anything is drawn: the prompt, and what is given of an answer.
    pub(super) tokens: Prompt,
    /// Tokens in the context's cells: of `tokens`, then of the answer.
    pub(super) held: usize,
    /// Where in this step's batch its logits are.
    pub(super) outputs: Range<i32>,
    pub(super) purpose: Purpose,
}

/// What the logits are for.
pub(super) enum Purpose {
    Generation(Generation),
    Scoring(Scoring),
}

impl Sequence {
    pub(super) fn new(tokens: Prompt, purpose: Purpose) -> Self {
        Self { tokens, held: 0, outputs: 0..0, purpose }
    }

    /// The first of `tokens` whose logits are needed, and that must be read here for that reason.
    pub(super) fn first_output(&self) -> usize {
        match &self.purpose {
            Purpose::Generation(_) => self.tokens.len() - 1,
            Purpose::Scoring(scoring) => scoring.first_output(),
        }
    }

    /// Tokens that are still to be read before anything is drawn.
    fn unread(&self) -> usize {
        match &self.purpose {
            Purpose::Generation(generation) if generation.is_complete() => 0,
            _ => self.tokens.len().saturating_sub(self.held),
        }
    }

    /// Of these, those that one step may read, if it may score `scored_max` tokens.
    pub(super) fn readable(&self, scored_max: usize) -> usize {
        match &self.purpose {
            Purpose::Generation(_) => self.unread(),
            Purpose::Scoring(_) => self.unread().min(self.first_output().saturating_sub(self.held) + scored_max),
        }
    }
}
