//! Requests that generate, and the context that they share.

use super::binding::Context;
use super::model::Model;
use super::opening::Opening;
use super::options::{EngineOptions, LoadError};
use super::sampler::Sampler;
use super::share::share;
use super::vocabulary::{Prompt, Vocabulary};
use super::{Running, Work, usage};
use crate::{EngineError, TextAssembler};
use llama_cpp_2::context::params::LlamaContextParams;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::token::LlamaToken;
use protocol::task::{self, Finish, Frame, TaskError};
use std::num::NonZeroU32;
use std::time::{Duration, Instant};
use zeroize::Zeroize;

/// Tokens on which the rate is measured: enough to compute as a batch, few enough not to delay the start.
const MEASURED_TOKENS: usize = 32;

/// One answer in the making.
pub(super) struct Generation {
    prompt: Prompt,
    /// Tokens in the context's cells: of the prompt, then of the answer.
    held: usize,
    /// The newest token, which the model has not read yet.
    next: Option<LlamaToken>,
    generated: u32,
    /// Tokens to generate at most: what was asked for, or what the context has room for.
    limit: u32,
    sampler: Sampler,
    text: TextAssembler,
    /// Where in this step's batch its logits are.
    output: Option<i32>,
}

impl Generation {
    pub(super) fn new(
        prompt: Prompt,
        generation: &task::Generation,
        model: &Model,
        context_tokens: u32,
    ) -> Result<Self, TaskError> {
        let room = context_tokens.saturating_sub(u32::try_from(prompt.len()).unwrap_or(u32::MAX));
        Ok(Self {
            held: 0,
            next: None,
            generated: 0,
            limit: generation.max_tokens.map_or(room, |most| most.min(room)),
            sampler: Sampler::new(&generation.sampling, model.vocabulary().size(), context_tokens)?,
            text: TextAssembler::new(&generation.stop),
            output: None,
            prompt,
        })
    }

    /// Tokens of the prompt that are still to be read.
    fn remaining(&self) -> usize {
        self.prompt.len().saturating_sub(self.held)
    }

    /// Takes the token that was drawn. Returns the reason if the answer ends with it.
    fn accept(
        &mut self,
        token: LlamaToken,
        vocabulary: &Vocabulary,
        piece: &mut Vec<u8>,
        emit: &mut dyn FnMut(Frame),
    ) -> Option<Finish> {
        let mut text = String::new();
        if vocabulary.ends_generation(token) {
            self.text.finish(&mut text);
            if !text.is_empty() {
                emit(Frame::Tokens { ids: Vec::new(), text });
            }
            return Some(Finish::Stop);
        }
        self.generated += 1;
        self.next = Some(token);
        piece.clear();
        vocabulary.piece(token, piece);
        let finish = if self.text.push(piece, &mut text) {
            Some(Finish::Stop)
        } else if self.generated >= self.limit {
            self.text.finish(&mut text);
            Some(Finish::Length)
        } else {
            None
        };
        emit(Frame::Tokens { ids: vec![token.0.cast_unsigned()], text });
        finish
    }
}

/// The context of all generating requests: a sequence for each slot, each with cells of its own.
pub(super) struct Generator {
    context: Context,
    batch: LlamaBatch<'static>,
    /// Tokens of prompts in one step.
    batch_tokens: usize,
    /// The bytes of one token.
    piece: Vec<u8>,
    opening: Opening,
}

impl Generator {
    pub(super) fn new(model: &Model, options: &EngineOptions, context_tokens: u32) -> Result<Self, LoadError> {
        let memory = LoadError::Memory { slots: options.slots, context_tokens };
        // llama.cpp rounds the cells of a sequence up to a multiple of 256, never down.
        let Some(cells) = context_tokens.checked_next_multiple_of(256).and_then(|each| each.checked_mul(options.slots))
        else {
            return Err(memory);
        };
        let threads = i32::try_from(options.threads).unwrap_or(1);
        let batch = options.batch_tokens + options.slots;
        // Cells of its own for each sequence: attention does not look over those of others.
        let params = LlamaContextParams::default()
            .with_n_ctx(NonZeroU32::new(cells))
            .with_n_seq_max(options.slots)
            .with_kv_unified(false)
            .with_n_batch(batch)
            .with_n_ubatch(batch)
            .with_n_threads(threads)
            .with_n_threads_batch(threads)
            .with_no_perf(true);
        let context = Context::new(model.weights(), params).ok_or(memory)?;
        // llama.cpp aborts on a larger batch than its own, which it may have reduced.
        let slots = options.slots as usize;
        let batch = (context.n_batch() as usize).min(batch as usize).max(slots + 1);
        let batch_tokens = batch - slots;
        let opening = Opening::of(&model.openings(context_tokens), slots);
        let batch = LlamaBatch::new(batch, 1);
        let mut generator = Self { context, batch, batch_tokens, piece: Vec::new(), opening };
        if let Some(step_time) = options.step_time {
            let failed = |reason: String| LoadError::Compute { reason };
            let rate = generator.measure(context_tokens).map_err(failed)?;
            generator.batch_tokens = tokens_in(step_time, rate).min(batch_tokens);
        }
        let free: Vec<Option<Running>> = (0..slots).map(|_| None).collect();
        while generator.is_reopening(&free) {
            let failed = |error: EngineError| LoadError::Compute { reason: error.to_string() };
            generator.batch.clear();
            generator.reopen(&free).map_err(failed)?;
            generator
                .context
                .decode(&mut generator.batch)
                .map_err(|error| LoadError::Compute { reason: error.to_string() })?;
        }
        Ok(generator)
    }

    /// Whether a free slot has still to read the opening.
    fn is_reopening(&self, slots: &[Option<Running>]) -> bool {
        slots.iter().enumerate().any(|(slot, running)| running.is_none() && !self.opening.missing(slot).1.is_empty())
    }

    /// A request takes a slot: what it shares with the opening need not be read.
    pub(super) fn occupy(&mut self, slot: usize, generation: &mut Generation) {
        generation.held = self.opening.reuse(slot, &generation.prompt);
        if !self.keep(slot, generation.held) {
            generation.held = 0;
        }
    }

    /// Frees a slot's cells from a position on. False where only all of them could be freed.
    fn keep(&mut self, slot: usize, held: usize) -> bool {
        let sequence = u32::try_from(slot).expect("at most 64 slots");
        let from = u32::try_from(held).expect("an opening is shorter than a context");
        let kept = matches!(self.context.clear_kv_cache_seq(Some(sequence), Some(from), None), Ok(true));
        if !kept {
            // Removing a whole sequence never fails.
            let _ = self.context.clear_kv_cache_seq(Some(sequence), None, None);
            self.opening.lose(slot);
        }
        kept
    }

    /// Adds what free slots miss of the opening, as far as the batch has room for it.
    fn reopen(&mut self, slots: &[Option<Running>]) -> Result<(), EngineError> {
        for slot in (0..slots.len()).filter(|slot| slots[*slot].is_none()) {
            let used = usize::try_from(self.batch.n_tokens()).unwrap_or(usize::MAX);
            let room = self.batch_tokens.saturating_sub(used);
            let (from, missing) = self.opening.missing(slot);
            let read = missing.len().min(room);
            for (index, &token) in (from..).zip(&missing[..read]) {
                let position = i32::try_from(index).expect("a context has at most 2^20 tokens");
                let sequence = [i32::try_from(slot).expect("at most 64 slots")];
                let full = |_| EngineError::Compute { reason: "the batch is full".to_owned() };
                self.batch.add(LlamaToken(token), position, &sequence, false).map_err(full)?;
            }
            self.opening.add(slot, read);
        }
        Ok(())
    }

    /// Tokens of prompts in one step.
    pub(super) fn batch_tokens(&self) -> usize {
        self.batch_tokens
    }

    /// Reads a few tokens twice, to have the weights in memory first, and returns the rate in tokens a second.
    fn measure(&mut self, context_tokens: u32) -> Result<f64, String> {
        let tokens = MEASURED_TOKENS.min(self.batch_tokens).min(context_tokens as usize);
        let mut took = Duration::ZERO;
        for _ in 0..2 {
            self.batch.clear();
            for position in 0..tokens {
                let last = position + 1 == tokens;
                self.batch.add(LlamaToken(0), position as i32, &[0], last).map_err(|error| error.to_string())?;
            }
            let begin = Instant::now();
            self.context.decode(&mut self.batch).map_err(|error| error.to_string())?;
            self.context.synchronize();
            took = begin.elapsed();
            self.keep(0, 0);
        }
        Ok(tokens as f64 / took.as_secs_f64().max(1e-6))
    }

    /// Frees the cells of a slot, but for the opening.
    pub(super) fn forget(&mut self, slot: usize, generation: &Generation) {
        let held = self.opening.retain(slot, &generation.prompt, generation.held);
        self.keep(slot, held);
        self.piece.zeroize();
    }

    /// One pass for every generating request. Slots of requests that ended are added to `ended`.
    pub(super) fn step(
        &mut self,
        slots: &mut [Option<Running>],
        vocabulary: &Vocabulary,
        emit: &mut dyn FnMut(u64, Frame),
        ended: &mut Vec<usize>,
    ) -> Result<(), EngineError> {
        self.fill(slots)?;
        if self.batch.n_tokens() == 0 {
            return Ok(());
        }
        let result = self.context.decode(&mut self.batch);
        result.map_err(|error| EngineError::Compute { reason: error.to_string() })?;

        for (slot, id, generation) in generations(slots) {
            let Some(output) = generation.output.take() else { continue };
            let mut emit = |frame| emit(id, frame);
            if generation.generated == 0 {
                emit(Frame::Started { prompt_tokens: usage(generation.prompt.len(), 0).prompt_tokens });
            }
            let Some(token) = generation.sampler.sample(&self.context, output) else {
                let message = "the model gave no probabilities: its file may be damaged".to_owned();
                emit(Frame::Failed { error: TaskError::Engine { message } });
                ended.push(slot);
                continue;
            };
            if let Some(finish) = generation.accept(token, vocabulary, &mut self.piece, &mut emit) {
                emit(Frame::Done { finish, usage: usage(generation.prompt.len(), generation.generated) });
                ended.push(slot);
            }
        }
        Ok(())
    }

    /// Fills the batch in the order of slots: a token of every request that generates, a share of every prompt.
    fn fill(&mut self, slots: &mut [Option<Running>]) -> Result<(), EngineError> {
        let remaining: Vec<usize> = generations(slots).map(|(_, _, generation)| generation.remaining()).collect();
        let reading: Vec<usize> = remaining.iter().copied().filter(|&remaining| remaining > 0).collect();
        let mut shares = share(self.batch_tokens, &reading).into_iter();
        let full = |_| EngineError::Compute { reason: "the batch is full".to_owned() };
        self.batch.clear();
        for (slot, _, generation) in generations(slots) {
            let sequence = [i32::try_from(slot).expect("at most 64 slots")];
            let position = |held: usize| i32::try_from(held).expect("a context has at most 2^20 tokens");
            if let Some(token) = generation.next.take() {
                generation.output = Some(self.batch.n_tokens());
                self.batch.add(token, position(generation.held), &sequence, true).map_err(full)?;
                generation.held += 1;
                continue;
            }
            let from = generation.held;
            let to = from + shares.next().unwrap_or(0);
            for (index, &token) in (from..to).zip(&generation.prompt[from..to]) {
                let last = index + 1 == generation.prompt.len();
                if last {
                    generation.output = Some(self.batch.n_tokens());
                }
                self.batch.add(LlamaToken(token), position(index), &sequence, last).map_err(full)?;
            }
            generation.held = to;
        }
        Ok(())
    }
}

/// The largest power of two of tokens that fits into the time, at least 16.
fn tokens_in(step_time: Duration, rate: f64) -> usize {
    let fits = (step_time.as_secs_f64() * rate).clamp(16.0, 65536.0) as usize;
    1 << fits.ilog2()
}

/// The generating requests with their slots and ids, in the order of slots.
fn generations(slots: &mut [Option<Running>]) -> impl Iterator<Item = (usize, u64, &mut Generation)> {
    slots.iter_mut().enumerate().filter_map(|(slot, running)| match running {
        Some(Running { id, work: Work::Generation(generation) }) => Some((slot, *id, &mut **generation)),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_a_power_of_two_that_fits() {
        let tokens = |rate| tokens_in(Duration::from_millis(250), rate);
        assert_eq!([tokens(0.0), tokens(100.0), tokens(130.0), tokens(1000.0), tokens(1e9)], [16, 16, 32, 128, 65536]);
    }
}
