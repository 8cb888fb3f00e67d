//! Prompts to be timed: of a known length, nobody's words, and no two alike, so that no answer can be kept ready. They
//! can be recognised; trials have others.

use protocol::task::{Generation, Message, Sampling, Task};

/// Words that are one or two tokens in every vocabulary.
const WORDS: [&str; 32] = [
    "river", "stone", "market", "winter", "letter", "garden", "bridge", "music", "window", "forest", "paper", "harbor",
    "silver", "morning", "kitchen", "planet", "story", "mountain", "number", "island", "teacher", "orange", "engine",
    "doctor", "summer", "village", "pocket", "camera", "rabbit", "yellow", "history", "question",
];

/// A task of about `words` words whose answer has at most `tokens_max` tokens; as a chat where the model speaks in
/// turns.
pub(super) fn task(chat: bool, words: usize, tokens_max: u32, entropy: u64) -> Task {
    let mut text = String::from("Write a long story in which all of these words occur, in this order:");
    let mut state = entropy;
    for _ in 0..words {
        // Knuth's MMIX generator; its upper bits are the good ones.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        text.push(' ');
        text.push_str(WORDS[(state >> 59) as usize]);
    }
    let sampling = Sampling { seed: Some(entropy as u32), ..Sampling::default() };
    let generation = Generation { max_tokens: Some(tokens_max), sampling, ..Generation::default() };
    if chat {
        Task::Chat { messages: vec![Message { role: "user".to_owned(), content: text }], generation }
    } else {
        Task::Completion { prompt: text, generation }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_prompts_are_alike_and_each_is_a_task() {
        let (one, other) = (task(true, 150, 1, 7), task(true, 150, 1, 8));
        assert_ne!(one, other);
        assert_eq!(one.check(), Ok(()));
        let Task::Chat { messages, .. } = &one else { panic!("a chat") };
        assert!(messages[0].content.split(' ').count() >= 150);
        assert!(matches!(task(false, 1, 1, 7), Task::Completion { .. }));
    }
}
