//! The context that all requests share that generate or score, one sequence for each slot.

use super::binding::Context;
use super::generation::Room;
use super::logits::Logits;
use super::model::Model;
use super::opening::Opening;
use super::options::{EngineOptions, LoadError};
use super::scoring::SCORED_TOKENS_MAX;
use super::sequence::{Purpose, Sequence};
use super::share::share;
use super::vocabulary::Vocabulary;
use super::{Running, Work};
use crate::EngineError;
use llama_cpp_2::context::params::LlamaContextParams;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::token::LlamaToken;
use protocol::task::{Frame, TaskError};
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

/// Tokens on which the rate is measured: enough to compute as a batch, few enough not to delay the start.
const MEASURED_TOKENS: usize = 32;

/// A sequence for each slot, each with cells of its own.
pub(super) struct Generator {
    context: Context,
    batch: LlamaBatch<'static>,
    /// Tokens of prompts in one step.
    batch_tokens: usize,
    room: Room,
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
        let mut generator = Self { context, batch, batch_tokens, room: Room::default(), opening };
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
    pub(super) fn occupy(&mut self, slot: usize, sequence: &mut Sequence) {
        sequence.held = self.opening.reuse(slot, &sequence.tokens, sequence.first_output());
        if !self.keep(slot, sequence.held) {
            sequence.held = 0;
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
            for (index, token) in (from..).zip(missing[..read].to_vec()) {
                self.add(token, index, slot, false)?;
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
    pub(super) fn forget(&mut self, slot: usize, sequence: &Sequence) {
        let held = self.opening.retain(slot, &sequence.tokens, sequence.held);
        self.keep(slot, held);
        self.room.clear();
    }

    /// One pass for every sequence. Slots of requests that ended are added to `ended`.
    pub(super) fn step(
        &mut self,
        slots: &mut [Option<Running>],
        vocabulary: &Vocabulary,
        emit: &mut dyn FnMut(u64, Frame),
        ended: &mut Vec<usize>,
    ) -> Result<(), EngineError> {
        self.fill(slots)?;
        if self.batch.n_tokens() > 0 {
            let result = self.context.decode(&mut self.batch);
            result.map_err(|error| EngineError::Compute { reason: error.to_string() })?;
        }
        for (slot, id, sequence) in sequences(slots) {
            match self.advance(sequence, vocabulary, &mut |frame| emit(id, frame)) {
                Ok(true) => {}
                Ok(false) => ended.push(slot),
                Err(error) => {
                    emit(id, Frame::Failed { error });
                    ended.push(slot);
                }
            }
        }
        Ok(())
    }

    /// Gives a sequence what the model said. Returns whether it goes on.
    fn advance(
        &mut self,
        sequence: &mut Sequence,
        vocabulary: &Vocabulary,
        emit: &mut dyn FnMut(Frame),
    ) -> Result<bool, TaskError> {
        let outputs = std::mem::take(&mut sequence.outputs);
        let context = &self.context;
        match &mut sequence.purpose {
            Purpose::Generation(generation) if generation.is_complete() => {
                generation.conclude(emit);
                Ok(false)
            }
            _ if outputs.is_empty() => Ok(true),
            Purpose::Generation(generation) => {
                let logits = Logits::new(context.get_logits_ith(outputs.start)).ok_or_else(super::no_probabilities)?;
                generation.advance(&logits, vocabulary, &mut self.room, emit)
            }
            Purpose::Scoring(scoring) => {
                scoring.advance(outputs.map(|output| Logits::new(context.get_logits_ith(output))), emit)
            }
        }
    }

    /// Fills the batch in the order of slots: a token of every request that generates, a share of everything that is read.
    fn fill(&mut self, slots: &mut [Option<Running>]) -> Result<(), EngineError> {
        let scoring = |sequence: &Sequence| matches!(sequence.purpose, Purpose::Scoring(_));
        let scorings = sequences(slots).filter(|(_, _, sequence)| scoring(sequence)).count();
        let scored_max = SCORED_TOKENS_MAX / scorings.max(1);
        let readable: Vec<usize> = sequences(slots).map(|(_, _, sequence)| sequence.readable(scored_max)).collect();
        let reading: Vec<usize> = readable.iter().copied().filter(|&readable| readable > 0).collect();
        let mut shares = share(self.batch_tokens, &reading).into_iter();
        self.batch.clear();
        for ((slot, _, sequence), readable) in sequences(slots).zip(readable) {
            if readable > 0 {
                self.read(slot, sequence, shares.next().unwrap_or(0))?;
            } else if let Purpose::Generation(generation) = &mut sequence.purpose
                && let Some(token) = generation.next()
            {
                let output = self.add(token.0, sequence.held, slot, true)?;
                sequence.outputs = output..output + 1;
                sequence.held += 1;
            }
        }
        Ok(())
    }

    /// Adds the next `count` tokens of what a sequence reads.
    fn read(&mut self, slot: usize, sequence: &mut Sequence, count: usize) -> Result<(), EngineError> {
        let first_output = sequence.first_output();
        let to = sequence.held + count;
        sequence.outputs = 0..0;
        for index in sequence.held..to {
            let wanted = index >= first_output;
            let output = self.add(sequence.tokens[index], index, slot, wanted)?;
            if wanted && sequence.outputs.is_empty() {
                sequence.outputs.start = output;
            }
            sequence.outputs.end = if wanted { output + 1 } else { 0 };
        }
        sequence.held = to;
        Ok(())
    }

    /// Adds one token to the batch; gives its place in it.
    fn add(&mut self, token: i32, position: usize, slot: usize, output: bool) -> Result<i32, EngineError> {
        let place = self.batch.n_tokens();
        let position = i32::try_from(position).expect("a context has at most 2^20 tokens");
        let sequence = [i32::try_from(slot).expect("at most 64 slots")];
        let full = |_| EngineError::Compute { reason: "the batch is full".to_owned() };
        self.batch.add(LlamaToken(token), position, &sequence, output).map_err(full)?;
        Ok(place)
    }
}

/// The largest power of two of tokens that fits into the time, at least 16.
fn tokens_in(step_time: Duration, rate: f64) -> usize {
    let fits = (step_time.as_secs_f64() * rate).clamp(16.0, 65536.0) as usize;
    1 << fits.ilog2()
}

/// The requests that have sequences with their slots and ids, in the order of slots.
fn sequences(slots: &mut [Option<Running>]) -> impl Iterator<Item = (usize, u64, &mut Sequence)> {
    slots.iter_mut().enumerate().filter_map(|(slot, running)| match running {
        Some(Running { id, work: Work::Sequence(sequence) }) => Some((slot, *id, &mut **sequence)),
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
