//! What the reader of an answer has seen, and what of a node's frames comes next. Pure.
//!
//! An answer is a function of its task and its tokens so far. So all that another node needs to go on is the task with
//! these tokens in it ([`Resume`]), and all that keeps a reader from seeing anything twice is their number. Whatever an
//! answer will hold that is a function of its tokens (tool calls, constrained output) resumes by the same rule.

use protocol::{
    limits,
    task::{Frame, Resume, Task, Usage},
};
use zeroize::Zeroize;

/// Bytes of text for each token. The longest entries of vocabularies have some hundred; behind them may stand a text that
/// waited for a stop string ([`limits::STOP_STRING_BYTES_MAX`]).
const TEXT_BYTES_PER_TOKEN_MAX: u64 = 4 << 10;

/// What the reader has seen.
pub(crate) struct Progress {
    task: Kind,
    prompt_tokens: Option<u32>,
    /// Its tokens, and the bytes of their text. Wiped when it is dropped.
    seen: Resume,
    vectors: Vec<bool>,
    scores: usize,
    advanced: bool,
}

enum Kind {
    Generation { tokens_max: usize },
    Embedding,
    Score { tokens: usize },
}

/// How far one node is.
pub(crate) struct Cursor {
    started: bool,
    tokens: usize,
    scores: usize,
    /// Text of tokens that it was given with the task: the node before it kept it back.
    owes_text: bool,
    /// It has brought text without tokens: what waited until the model ended. Nothing but the end follows.
    flushed: bool,
}

/// What a frame means to the reader.
#[derive(Debug, PartialEq)]
pub(crate) enum Step {
    /// Nothing that it has not seen.
    Nothing,
    /// The answer begins.
    Begins(Frame),
    /// It goes on.
    Advances(Frame),
    /// It is whole.
    Ends(Frame),
}

/// A frame that has no place where it came.
pub(crate) type Misplaced = &'static str;

impl Progress {
    /// Nothing but what the task itself brings.
    pub(crate) fn new(task: &Task) -> Self {
        let (kind, seen, vectors) = match task {
            Task::Chat { generation, .. } | Task::Completion { generation, .. } => {
                let asked = generation.max_tokens.map_or(usize::MAX, |most| most as usize);
                let tokens_max = asked.min(limits::RESUME_TOKENS_MAX);
                (Kind::Generation { tokens_max }, generation.resume.clone(), 0)
            }
            Task::Embedding { inputs } => (Kind::Embedding, Resume::default(), inputs.len()),
            Task::Score { ids, .. } => (Kind::Score { tokens: ids.len() }, Resume::default(), 0),
        };
        Self { task: kind, prompt_tokens: None, seen, vectors: vec![false; vectors], scores: 0, advanced: false }
    }

    /// Tokens of the answer that are there.
    pub(crate) fn tokens(&self) -> usize {
        self.seen.ids.len()
    }

    /// These.
    pub(crate) fn ids(&self) -> &[u32] {
        &self.seen.ids
    }

    /// Whether the reader has seen anything of the answer itself.
    pub(crate) fn has_advanced(&self) -> bool {
        self.advanced
    }

    /// The task for a node that goes on from here. Embeddings and scores are computed again.
    pub(crate) fn rest_of(&self, task: &Task) -> Task {
        let mut rest = task.clone();
        if let Task::Chat { generation, .. } | Task::Completion { generation, .. } = &mut rest {
            generation.resume = self.seen.clone();
        }
        rest
    }

    /// Where a node is that goes on from here.
    pub(crate) fn cursor(&self) -> Cursor {
        let tokens = self.tokens();
        Cursor { started: false, tokens, scores: 0, owes_text: tokens > 0, flushed: false }
    }

    /// Takes the next frame of the node at `cursor`.
    ///
    /// # Errors
    /// If an honest worker would not have sent it here. Nothing of it may be shown.
    pub(crate) fn take(&mut self, cursor: &mut Cursor, mut frame: Frame) -> Result<Step, Misplaced> {
        if let Frame::Started { prompt_tokens } = frame {
            if std::mem::replace(&mut cursor.started, true) {
                return Err("it began twice");
            }
            if self.prompt_tokens.is_some() {
                return Ok(Step::Nothing);
            }
            self.prompt_tokens = Some(prompt_tokens);
            return Ok(Step::Begins(frame));
        }
        let Some(prompt_tokens) = self.prompt_tokens.filter(|_| cursor.started) else {
            return Err("it has not begun");
        };
        match (&mut frame, &self.task) {
            (Frame::Tokens { ids, text, log_probs }, Kind::Generation { tokens_max }) => {
                if cursor.tokens != self.seen.ids.len() {
                    return Err("another node was faster");
                }
                if ids.len() != log_probs.len() {
                    return Err("its tokens and their log-probabilities are not as many");
                }
                if ids.is_empty() && text.is_empty() {
                    return Ok(Step::Nothing);
                }
                let owed = std::mem::take(&mut cursor.owes_text);
                if cursor.flushed {
                    return Err("it goes on behind its end");
                }
                cursor.flushed = ids.is_empty() && !owed;
                if self.seen.ids.len() + ids.len() > *tokens_max {
                    return Err("it is longer than was asked for");
                }
                let (tokens, new_bytes) = ((self.seen.ids.len() + ids.len()) as u64, text.len() as u64);
                let text_bytes = self.seen.text_bytes.saturating_add(new_bytes);
                if new_bytes > 0 && text_bytes > tokens.saturating_mul(TEXT_BYTES_PER_TOKEN_MAX) {
                    return Err("its text is longer than its tokens");
                }
                append(&mut self.seen.ids, ids);
                self.seen.text_bytes = text_bytes;
                cursor.tokens = self.seen.ids.len();
            }
            (Frame::Embedding { index, .. }, Kind::Embedding) => {
                let Some(seen) = self.vectors.get_mut(*index as usize) else { return Err("there is no such input") };
                if std::mem::replace(seen, true) {
                    return Ok(Step::Nothing);
                }
            }
            (Frame::Scores { log_probs, best }, Kind::Score { tokens }) => {
                if log_probs.len() != best.len() || cursor.scores + log_probs.len() > *tokens {
                    return Err("its length is not that of the answer");
                }
                // A node that begins anew repeats what is known.
                let known = self.scores.saturating_sub(cursor.scores).min(log_probs.len());
                cursor.scores += log_probs.len();
                if known == log_probs.len() {
                    return Ok(Step::Nothing);
                }
                log_probs.drain(..known);
                best.drain(..known);
                self.scores = cursor.scores;
            }
            (Frame::Done { usage, .. }, kind) => {
                match kind {
                    // What was delivered counts, not what the worker says.
                    Kind::Generation { .. } => {
                        let completion_tokens = u32::try_from(self.seen.ids.len()).unwrap_or(u32::MAX);
                        *usage = Usage { prompt_tokens, completion_tokens };
                    }
                    Kind::Embedding if self.vectors.contains(&false) => return Err("vectors are missing"),
                    Kind::Score { tokens } if self.scores < *tokens => return Err("scores are missing"),
                    Kind::Embedding | Kind::Score { .. } => {}
                }
                self.advanced = true;
                return Ok(Step::Ends(frame));
            }
            _ => return Err("it belongs to another kind of answer"),
        }
        self.advanced = true;
        Ok(Step::Advances(frame))
    }
}

/// Appends without leaving a copy behind where the vector moves.
fn append(ids: &mut Vec<u32>, more: &[u32]) {
    if ids.capacity() - ids.len() < more.len() {
        let mut larger = Vec::with_capacity((ids.len() + more.len()).max(256).next_power_of_two());
        larger.extend_from_slice(ids);
        std::mem::replace(ids, larger).zeroize();
    }
    ids.extend_from_slice(more);
}

#[cfg(test)]
mod tests;
