//! One answer in the making: what an engine does with the tokens that it draws, whatever draws them.

mod resume;
#[cfg(test)]
mod tests;

use crate::TextAssembler;
use protocol::task::{Finish, Frame, Generation, TaskError};
use zeroize::Zeroizing;

/// Turns drawn tokens into frames: text, stop strings, length; and goes on with an answer that another engine began.
///
/// An answer that is resumed ([`Generation::resume`]) sends exactly what the asker has not got: the text of all frames of
/// the undisturbed answer is the text that was received and then the text of the resumed one. The tokens that are there
/// already count to the limit and to [`Answer::generated`].
///
/// ```
/// use engine::Answer;
/// use protocol::task::{Frame, Generation, Resume, Usage};
///
/// let piece = |id: u32| match id {
///     0 => b"caf\xc3".as_slice(),
///     _ => b"\xa9",
/// };
/// // Another engine drew token 0 and sent "caf": the é is cut in two.
/// let resume = Resume { ids: vec![0], text_bytes: 3 };
/// let generation = Generation { resume, ..Generation::default() };
/// let mut answer = Answer::new(&generation, 16, |id, bytes| bytes.extend_from_slice(piece(id)))?;
/// assert!(answer.begin(&mut |_| panic!("nothing is missing")).is_none());
///
/// let mut text = String::new();
/// answer.push(1, -0.5, piece(1), &mut |frame| {
///     if let Frame::Tokens { text: new, .. } = &frame {
///         text.push_str(new);
///     }
/// });
/// assert_eq!((text.as_str(), answer.generated()), ("é", 2));
/// # Ok::<(), protocol::task::TaskError>(())
/// ```
pub struct Answer {
    text: TextAssembler,
    generated: u32,
    limit: u32,
    /// Text of the resumed tokens that the asker has not got.
    missing: Zeroizing<String>,
    finish: Option<Finish>,
}

impl Answer {
    /// An answer of at most `limit` tokens, or fewer if the task says so. `piece` appends the bytes of a token.
    ///
    /// Refuses a beginning that no engine sends: tokens behind the answer's end, more of them than the task permits, or
    /// text that they do not make. Whether the tokens are in the vocabulary is for the caller to check.
    pub fn new(generation: &Generation, limit: u32, piece: impl FnMut(u32, &mut Vec<u8>)) -> Result<Self, TaskError> {
        let limit = generation.max_tokens.map_or(limit, |most| most.min(limit));
        let text = TextAssembler::new(&generation.stop);
        let mut answer = Self { text, generated: 0, limit, missing: Zeroizing::default(), finish: None };
        answer.replay(&generation.resume, piece)?;
        Ok(answer)
    }

    /// Tokens of the answer so far, without the end marker, with those that were there at the start.
    pub fn generated(&self) -> u32 {
        self.generated
    }

    /// Whether it has ended. A resumed answer may have before it was interrupted: then nothing is to be drawn.
    pub fn is_complete(&self) -> bool {
        self.finish.is_some()
    }

    /// Gives the text that the asker misses of a resumed answer. To be called once, before anything is drawn. Returns
    /// why the answer ended, if it [is complete](Self::is_complete).
    pub fn begin(&mut self, emit: &mut dyn FnMut(Frame)) -> Option<Finish> {
        if !self.missing.is_empty() {
            let text = std::mem::take(&mut *self.missing);
            emit(Frame::Tokens { ids: Vec::new(), text, log_probs: Vec::new() });
        }
        self.finish
    }

    /// Takes the next token with its log-probability and its bytes. Returns why the answer ends, if it does with it.
    pub fn push(&mut self, id: u32, log_prob: f32, piece: &[u8], emit: &mut dyn FnMut(Frame)) -> Option<Finish> {
        let mut text = String::new();
        self.add(piece, &mut text);
        emit(Frame::Tokens { ids: vec![id], text, log_probs: vec![log_prob] });
        self.finish
    }

    /// The model ended its answer: gives the text that still waits.
    pub fn end(&mut self, emit: &mut dyn FnMut(Frame)) -> Finish {
        let mut text = String::new();
        self.text.finish(&mut text);
        if !text.is_empty() {
            emit(Frame::Tokens { ids: Vec::new(), text, log_probs: Vec::new() });
        }
        *self.finish.insert(Finish::Stop)
    }

    fn add(&mut self, piece: &[u8], text: &mut String) {
        self.generated += 1;
        if self.text.push(piece, text) {
            self.finish = Some(Finish::Stop);
        } else if self.generated >= self.limit {
            self.text.finish(text);
            self.finish = Some(Finish::Length);
        }
    }
}
