//! What every chat of a model begins with, whoever asks: the constant opening of its template. Each slot holds it ready.
//!
//! It is read when the model is loaded, and again by the first chat after a request that began otherwise. It contains
//! nothing of any asker: what askers write is never kept from one request to the next. What a later asker could measure
//! is whether the slot's last request was a chat with the model's own opening, and no more.

use super::vocabulary::Prompt;

/// Fewer tokens are not worth the bookkeeping.
const TOKENS_MIN: usize = 4;

/// The opening, and how much of it each slot's cells hold.
pub(super) struct Opening {
    tokens: Prompt,
    held: Vec<usize>,
}

impl Opening {
    /// The beginning that all of these chats share.
    pub(super) fn of(chats: &[Prompt], slots: usize) -> Self {
        let mut tokens = chats.first().cloned().unwrap_or_default();
        for chat in chats {
            let shared = common(&tokens, chat);
            tokens.truncate(shared);
        }
        if tokens.len() < TOKENS_MIN {
            tokens.clear();
        }
        Self { tokens, held: vec![0; slots] }
    }

    /// Tokens of `prompt` that the slot's cells hold already, at most `most`: from there on logits are needed, so that the
    /// tokens are read in any case.
    pub(super) fn reuse(&mut self, slot: usize, prompt: &[i32], most: usize) -> usize {
        let reused = common(&self.tokens, prompt).min(self.held[slot]).min(most);
        self.held[slot] = reused;
        reused
    }

    /// How much of the opening stays when the slot's request ends, of which `read` tokens were read.
    pub(super) fn retain(&mut self, slot: usize, prompt: &[i32], read: usize) -> usize {
        self.held[slot] = common(&self.tokens, prompt).min(read);
        self.held[slot]
    }

    /// What is missing in a slot, with the position of its first token.
    pub(super) fn missing(&self, slot: usize) -> (usize, &[i32]) {
        (self.held[slot], &self.tokens[self.held[slot]..])
    }

    /// The slot has read more of it.
    pub(super) fn add(&mut self, slot: usize, tokens: usize) {
        self.held[slot] += tokens;
    }

    /// The slot's cells hold nothing.
    pub(super) fn lose(&mut self, slot: usize) {
        self.held[slot] = 0;
    }
}

fn common(one: &[i32], other: &[i32]) -> usize {
    one.iter().zip(other).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompt(tokens: &[i32]) -> Prompt {
        Prompt::new(tokens.to_vec())
    }

    #[test]
    fn only_what_all_chats_share_is_kept() {
        let mut opening = Opening::of(&[prompt(&[1, 2, 3, 4, 5, 9]), prompt(&[1, 2, 3, 4, 6, 9])], 2);
        assert_eq!(opening.missing(0), (0, &[1, 2, 3, 4][..]));
        opening.add(0, 4);
        assert_eq!(opening.missing(0), (4, &[][..]));
        assert_eq!(opening.reuse(0, &[1, 2, 3, 4, 7], 4), 4);
        assert_eq!(opening.reuse(1, &[1, 2, 3, 4, 7], 4), 0, "another slot holds nothing yet");
        assert_eq!(opening.reuse(0, &[1, 2, 3, 4], 3), 3, "the last token is read again");
        assert_eq!(opening.reuse(0, &[1, 8], 1), 1);
        assert_eq!(opening.missing(0), (1, &[2, 3, 4][..]), "to be read again");
    }

    #[test]
    fn a_short_opening_is_none() {
        let opening = Opening::of(&[prompt(&[1, 2, 3]), prompt(&[1, 2, 4])], 1);
        assert_eq!(opening.missing(0), (0, &[][..]));
        assert_eq!(Opening::of(&[], 1).missing(0), (0, &[][..]));
    }
}
