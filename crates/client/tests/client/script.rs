//! What a stub answers, and where it fails: both stand in the prompt, so that one pool serves every case at once.

use crate::Seen;
use protocol::task::{Generation, Message, Task, Usage};

/// Characters of one to four bytes; tokens are two bytes each, so that most of them end within a character.
const TEXT: &str = "añ🦀z€, ";
const BYTES_PER_TOKEN: usize = 2;
pub(crate) const PROMPT_TOKENS: u32 = 7;
/// What a model says to a prompt that is no script, if it may.
const CANARY_TOKENS: usize = 64;

/// How a node fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    Reset,
    CloseConnection,
    EndStream,
    Freeze,
    Stall,
    WorkerLost,
    HandedBack,
    FinishedEarly,
    RefusedLate,
    Corrupt,
    Doubled,
    OutOfTurn,
    Misplaced,
    EngineFailed,
    ShuttingDown,
    // The task's own fault, in the word of the worker.
    Invalid,
    // Dies, and nobody can go on from what it wrote.
    Poison,
    // Before it takes the task.
    Full,
    NoAnswer,
    HungUp,
}

impl Cause {
    pub(crate) const AFTER_ACCEPTING: [Self; 15] = [
        Self::Reset,
        Self::CloseConnection,
        Self::EndStream,
        Self::Freeze,
        Self::Stall,
        Self::WorkerLost,
        Self::HandedBack,
        Self::FinishedEarly,
        Self::RefusedLate,
        Self::Corrupt,
        Self::Doubled,
        Self::OutOfTurn,
        Self::Misplaced,
        Self::EngineFailed,
        Self::ShuttingDown,
    ];
    pub(crate) const BEFORE_ACCEPTING: [Self; 3] = [Self::Full, Self::NoAnswer, Self::HungUp];
}

/// An answer of so many tokens, which the first `times` nodes that run it fail before step `at`: 0 is the beginning, then
/// each token, then the end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Script {
    pub(crate) cause: Option<Cause>,
    pub(crate) at: usize,
    pub(crate) times: usize,
    pub(crate) tokens: usize,
    pub(crate) number: usize,
}

impl Script {
    pub(crate) fn undisturbed(tokens: usize) -> Self {
        Self { cause: None, at: 0, times: 0, tokens, number: 0 }
    }

    pub(crate) fn failing(cause: Cause, at: usize, tokens: usize) -> Self {
        Self { cause: Some(cause), at, times: 1, tokens, number: at }
    }

    fn prompt(&self) -> String {
        let cause = self.cause.map_or("None".to_owned(), |cause| format!("{cause:?}"));
        format!("script {cause} {} {} {} {}", self.at, self.times, self.tokens, self.number)
    }

    /// What a prompt says; any other prompt is answered undisturbed.
    pub(crate) fn parse(prompt: &str) -> Self {
        let words: Vec<&str> = prompt.split(' ').collect();
        let ["script", cause, at, times, tokens, number] = words[..] else { return Self::undisturbed(CANARY_TOKENS) };
        let all =
            Cause::AFTER_ACCEPTING.into_iter().chain(Cause::BEFORE_ACCEPTING).chain([Cause::Invalid, Cause::Poison]);
        let cause = all.into_iter().find(|known| format!("{known:?}") == cause);
        let number_of = |word: &str| word.parse().expect("a number");
        Self { cause, at: number_of(at), times: number_of(times), tokens: number_of(tokens), number: number_of(number) }
    }

    pub(crate) fn chat(&self) -> Task {
        let messages = vec![Message { role: "user".to_owned(), content: self.prompt() }];
        Task::Chat { messages, generation: Generation::default() }
    }

    pub(crate) fn embedding(&self) -> Task {
        Task::Embedding { inputs: vec![self.prompt(); self.tokens] }
    }

    /// What its reader is to see.
    pub(crate) fn seen(&self) -> Seen {
        let completion_tokens = u32::try_from(self.tokens).unwrap();
        Seen {
            begun: vec![PROMPT_TOKENS],
            ids: (0..self.tokens).map(id).collect(),
            text: text(self.tokens, self.tokens),
            vectors: Vec::new(),
            usage: vec![Usage { prompt_tokens: PROMPT_TOKENS, completion_tokens }],
        }
    }
}

/// The token in a place.
pub(crate) fn id(place: usize) -> u32 {
    u32::try_from(place).unwrap() * 31 + 1000
}

/// Whole characters after so many tokens of `total`; at the end the rest, too.
pub(crate) fn text(tokens: usize, total: usize) -> String {
    let mut end = tokens * BYTES_PER_TOKEN;
    let whole = TEXT.repeat(end / TEXT.len() + 2);
    while !whole.is_char_boundary(end) {
        if tokens == total { end += 1 } else { end -= 1 }
    }
    whole[..end].to_owned()
}

/// How likely the model finds the token in a place.
pub(crate) fn log_prob(place: usize) -> f32 {
    -0.5 - (place % 11) as f32 / 10.0
}
