//! A request that generates: it reads its prompt, with the tokens that another engine wrote already, and then draws.

use super::logits::Logits;
use super::model::Model;
use super::sampler::Sampler;
use super::usage;
use super::vocabulary::{Prompt, Vocabulary, exceeded};
use crate::Answer;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::token::data::LlamaTokenData;
use protocol::task::{self, Frame, TaskError, Usage};
use zeroize::Zeroizing;

/// One answer in the making.
pub(super) struct Generation {
    prompt_tokens: u32,
    started: bool,
    /// The newest token, which the model has not read yet.
    next: Option<LlamaToken>,
    sampler: Sampler,
    answer: Answer,
    /// Whether the answer was complete before it came here: there is nothing to compute.
    complete: bool,
}

/// What drawing needs and forgets: room for the bytes of a token and for the candidates of a place.
#[derive(Default)]
pub(super) struct Room {
    piece: Zeroizing<Vec<u8>>,
    candidates: Vec<LlamaTokenData>,
}

impl Room {
    /// Wipes what is left of the last tokens.
    pub(super) fn clear(&mut self) {
        self.piece.fill(0);
        self.piece.clear();
        self.candidates.fill(LlamaTokenData::new(LlamaToken(0), 0.0, 0.0));
        std::hint::black_box(&mut self.candidates);
    }
}

impl Generation {
    /// Appends the tokens of a resumed answer to `tokens`, which are those of the prompt.
    pub(super) fn new(
        tokens: &mut Prompt,
        generation: &task::Generation,
        model: &Model,
        context_tokens: u32,
    ) -> Result<Self, TaskError> {
        let vocabulary = model.vocabulary();
        let prompt_tokens = tokens.len();
        let room = context_tokens.saturating_sub(u32::try_from(prompt_tokens).unwrap_or(u32::MAX));
        let ids = &generation.resume.ids;
        // Another node may have had more room, so that is not the asker's fault.
        if ids.len() > room as usize {
            return Err(exceeded(prompt_tokens + ids.len(), context_tokens));
        }
        let mut sampler = Sampler::new(&generation.sampling, vocabulary.size(), context_tokens)?;
        tokens.reserve_exact(ids.len());
        for &id in ids {
            let token = vocabulary.token(id)?;
            if vocabulary.ends_generation(token) {
                return Err(TaskError::Invalid { message: format!("token {id} ends an answer, it is not resumed") });
            }
            sampler.accept(token);
            tokens.push(token.0);
        }
        let piece = |id: u32, bytes: &mut Vec<u8>| vocabulary.piece(LlamaToken(id.cast_signed()), bytes);
        let answer = Answer::new(generation, room, piece)?;
        let prompt_tokens = usage(prompt_tokens, 0).prompt_tokens;
        let complete = answer.is_complete();
        Ok(Self { prompt_tokens, started: false, next: None, sampler, answer, complete })
    }

    /// The token to be read next, once the prompt has been read.
    pub(super) fn next(&mut self) -> Option<LlamaToken> {
        self.next.take()
    }

    /// Whether nothing is to be computed for it.
    pub(super) fn is_complete(&self) -> bool {
        self.complete
    }

    /// Ends an answer that was complete before it came here.
    pub(super) fn conclude(&mut self, emit: &mut dyn FnMut(Frame)) {
        self.start(emit);
    }

    /// Draws the token that follows what was read. Returns whether the answer goes on.
    pub(super) fn advance(
        &mut self,
        logits: &Logits<'_>,
        vocabulary: &Vocabulary,
        room: &mut Room,
        emit: &mut dyn FnMut(Frame),
    ) -> Result<bool, TaskError> {
        self.start(emit);
        let place = self.answer.generated();
        let Some(token) = self.sampler.sample(logits, place, &mut room.candidates) else {
            return Err(super::no_probabilities());
        };
        let finish = if vocabulary.ends_generation(token) {
            Some(self.answer.end(emit))
        } else {
            self.next = Some(token);
            room.piece.clear();
            vocabulary.piece(token, &mut room.piece);
            let id = token.0.cast_unsigned();
            self.answer.push(id, logits.log_prob(id), &room.piece, emit)
        };
        Ok(!self.end(finish, emit))
    }

    /// Says that the prompt was read, and what the asker misses of a resumed answer.
    fn start(&mut self, emit: &mut dyn FnMut(Frame)) {
        if std::mem::replace(&mut self.started, true) {
            return;
        }
        emit(Frame::Started { prompt_tokens: self.prompt_tokens });
        let finish = self.answer.begin(emit);
        self.end(finish, emit);
    }

    fn end(&self, finish: Option<task::Finish>, emit: &mut dyn FnMut(Frame)) -> bool {
        let Some(finish) = finish else { return false };
        let usage = Usage { prompt_tokens: self.prompt_tokens, completion_tokens: self.answer.generated() };
        emit(Frame::Done { finish, usage });
        true
    }
}
