//! A request that scores a given answer: the model reads it, and says at each place how likely the next token is
//! (teacher forcing).

use super::logits::Logits;
use super::usage;
use super::vocabulary::{Prompt, Vocabulary, exceeded};
use protocol::task::{Finish, Frame, TaskError};

/// Tokens that one step scores, of all requests together. Each has logits of its own: with a vocabulary of 256,000 these
/// take 64 MB, and a step is not much longer than one that reads a prompt.
pub(super) const SCORED_TOKENS_MAX: usize = 64;

/// One score in the making.
pub(super) struct Scoring {
    prompt_tokens: usize,
    started: bool,
    ids: Prompt,
    scored: usize,
}

impl Scoring {
    /// Appends the answer to `tokens`, which are those of the prompt, but for its last token: nothing follows it.
    pub(super) fn new(
        tokens: &mut Prompt,
        ids: &[u32],
        vocabulary: &Vocabulary,
        context_tokens: u32,
    ) -> Result<Self, TaskError> {
        let prompt_tokens = tokens.len();
        if prompt_tokens + ids.len() > context_tokens as usize {
            return Err(exceeded(prompt_tokens + ids.len(), context_tokens));
        }
        let mut known = Prompt::new(Vec::with_capacity(ids.len()));
        for &id in ids {
            known.push(vocabulary.token(id)?.0);
        }
        tokens.reserve_exact(ids.len());
        tokens.extend_from_slice(&known[..ids.len().saturating_sub(1)]);
        Ok(Self { prompt_tokens, started: false, ids: known, scored: 0 })
    }

    /// The first place whose logits are needed: the last token of the prompt.
    pub(super) fn first_output(&self) -> usize {
        self.prompt_tokens - 1
    }

    /// Scores the next tokens, by the logits before each. Returns whether there are more.
    pub(super) fn advance<'a>(
        &mut self,
        outputs: impl Iterator<Item = Option<Logits<'a>>>,
        emit: &mut dyn FnMut(Frame),
    ) -> Result<bool, TaskError> {
        let prompt_tokens = usage(self.prompt_tokens, 0).prompt_tokens;
        if !std::mem::replace(&mut self.started, true) {
            emit(Frame::Started { prompt_tokens });
        }
        let (mut log_probs, mut best) = (Vec::new(), Vec::new());
        for (logits, id) in outputs.zip(&self.ids[self.scored..]) {
            let logits = logits.ok_or_else(super::no_probabilities)?;
            log_probs.push(logits.log_prob(id.cast_unsigned()));
            best.push(logits.best());
        }
        self.scored += log_probs.len();
        emit(Frame::Scores { log_probs, best });
        let more = self.scored < self.ids.len();
        if !more {
            // Nothing was generated.
            emit(Frame::Done { finish: Finish::Stop, usage: usage(self.prompt_tokens, 0) });
        }
        Ok(more)
    }
}
