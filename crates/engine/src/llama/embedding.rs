//! Requests for embeddings, and the context that they use one after another.

use super::binding::Context;
use super::model::{Model, Pooling};
use super::options::EngineOptions;
use super::vocabulary::{Prompt, Vocabulary, exceeded};
use super::{Running, Work, usage};
use crate::EngineError;
use llama_cpp_2::context::params::{LlamaContextParams, LlamaPoolingType};
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::token::LlamaToken;
use protocol::task::{Finish, Frame, TaskError};
use std::num::NonZeroU32;
use zeroize::Zeroizing;

/// Longest input of a model that must read an input in one step, in tokens. The memory of a step grows with it.
const WHOLE_TOKENS_MAX: u32 = 2048;

/// One request's inputs in the making.
pub(super) struct Embedding {
    inputs: Vec<Prompt>,
    /// Inputs that are done.
    done: usize,
    started: bool,
}

/// The input that occupies the context.
struct Current {
    slot: usize,
    /// Its tokens that have been read.
    held: usize,
    /// The sum of their vectors, or the last of them.
    vector: Zeroizing<Vec<f32>>,
}

/// The context of all embedding requests. It holds one input at a time.
pub(super) struct Embedder {
    context: Context,
    batch: LlamaBatch<'static>,
    pooling: Pooling,
    /// Whether an input is read in parts: possible if a token sees only those before it.
    parts: bool,
    input_tokens_max: u32,
    /// Tokens in one step.
    batch_tokens: usize,
    current: Option<Current>,
    /// The slot whose turn comes first when the context is free.
    turn: usize,
}

impl Embedder {
    /// `batch_tokens` is how much of an input one step reads, if it can be read in parts.
    pub(super) fn new(
        model: &Model,
        options: &EngineOptions,
        context_tokens: u32,
        batch_tokens: usize,
    ) -> Result<Self, TaskError> {
        let ranks = "this model ranks pairs of texts, it makes no embeddings";
        let pooling = model.pooling().ok_or_else(|| TaskError::Unsupported { message: ranks.to_owned() })?;
        let parts = model.generates() && pooling != Pooling::Own;
        let input_tokens_max = if parts { context_tokens } else { context_tokens.min(WHOLE_TOKENS_MAX) };
        let batch_tokens = if parts { batch_tokens.min(input_tokens_max as usize) } else { input_tokens_max as usize };
        let batch = u32::try_from(batch_tokens).unwrap_or(input_tokens_max);
        let threads = i32::try_from(options.threads).unwrap_or(1);
        let params = LlamaContextParams::default()
            .with_n_ctx(NonZeroU32::new(input_tokens_max))
            .with_n_seq_max(1)
            .with_n_batch(batch)
            .with_n_ubatch(batch)
            .with_n_threads(threads)
            .with_n_threads_batch(threads)
            .with_embeddings(true)
            .with_pooling_type(match (parts, pooling) {
                // The vector of every token: a part is not the whole mean.
                (true, _) => LlamaPoolingType::None,
                (false, Pooling::Mean) => LlamaPoolingType::Mean,
                (false, _) => LlamaPoolingType::Unspecified,
            })
            .with_no_perf(true);
        let memory = "no memory for the context of embeddings: lower `context_tokens`";
        let context = Context::new(model.weights(), params)
            .filter(|context| context.n_batch() >= batch && context.n_ubatch() >= batch)
            .ok_or_else(|| TaskError::Engine { message: memory.to_owned() })?;
        let batch = LlamaBatch::new(batch_tokens, 1);
        Ok(Self { context, batch, pooling, parts, input_tokens_max, batch_tokens, current: None, turn: 0 })
    }

    /// Reads the inputs into tokens.
    pub(super) fn begin(&self, vocabulary: &Vocabulary, inputs: &[String]) -> Result<Embedding, TaskError> {
        let mut read = Vec::with_capacity(inputs.len());
        for (index, input) in inputs.iter().enumerate() {
            let tokens = vocabulary.input(input, self.input_tokens_max)?;
            if tokens.is_empty() {
                return Err(TaskError::Invalid { message: format!("input {index} is empty") });
            }
            if tokens.len() > self.input_tokens_max as usize {
                return Err(exceeded(tokens.len(), self.input_tokens_max));
            }
            read.push(tokens);
        }
        Ok(Embedding { inputs: read, done: 0, started: false })
    }

    /// Frees the context if this slot has it.
    pub(super) fn forget(&mut self, slot: usize) {
        if self.current.as_ref().is_some_and(|current| current.slot == slot) {
            self.current = None;
            self.context.clear_kv_cache_seq(Some(0), None, None).ok();
        }
    }

    /// One pass: a part of one input, or one whole input. Slots of requests that ended are added to `ended`.
    pub(super) fn step(
        &mut self,
        slots: &mut [Option<Running>],
        emit: &mut dyn FnMut(u64, Frame),
        ended: &mut Vec<usize>,
    ) -> Result<(), EngineError> {
        let Some(mut current) = self.current.take().or_else(|| self.next(slots)) else { return Ok(()) };
        let Some(Running { id, work: Work::Embedding(embedding) }) = &mut slots[current.slot] else { return Ok(()) };
        let mut emit = |frame| emit(*id, frame);
        let prompt_tokens = embedding.inputs.iter().map(|input| input.len()).sum();
        if !embedding.started {
            embedding.started = true;
            emit(Frame::Started { prompt_tokens: usage(prompt_tokens, 0).prompt_tokens });
        }

        let input = &embedding.inputs[embedding.done];
        self.read(input, &mut current)?;
        if current.held < input.len() {
            self.current = Some(current);
            return Ok(());
        }
        self.context.clear_kv_cache_seq(Some(0), None, None).ok();
        let Some(vector) = normalised(&current.vector) else {
            let message = "the model gave no vector: its file may be damaged".to_owned();
            emit(Frame::Failed { error: TaskError::Engine { message } });
            ended.push(current.slot);
            return Ok(());
        };
        emit(Frame::Embedding { index: embedding.done as u32, vector });
        embedding.done += 1;
        if embedding.done == embedding.inputs.len() {
            emit(Frame::Done { finish: Finish::Stop, usage: usage(prompt_tokens, 0) });
            ended.push(current.slot);
        }
        Ok(())
    }

    /// The next input, of the requests in turn.
    fn next(&mut self, slots: &[Option<Running>]) -> Option<Current> {
        let embeds = |slot: &usize| matches!(&slots[*slot], Some(Running { work: Work::Embedding(_), .. }));
        let slot = (0..slots.len()).map(|offset| (self.turn + offset) % slots.len()).find(embeds)?;
        self.turn = slot + 1;
        Some(Current { slot, held: 0, vector: Zeroizing::new(Vec::new()) })
    }

    fn read(&mut self, input: &[i32], current: &mut Current) -> Result<(), EngineError> {
        let failed = |reason: String| EngineError::Compute { reason };
        let from = current.held;
        let to = input.len().min(from + self.batch_tokens);
        self.batch.clear();
        for (index, &token) in (from..to).zip(&input[from..to]) {
            let position = i32::try_from(index).expect("a context has at most 2^20 tokens");
            self.batch.add(LlamaToken(token), position, &[0], true).map_err(|error| failed(error.to_string()))?;
        }
        self.context.decode(&mut self.batch).map_err(|error| failed(error.to_string()))?;
        current.held = to;
        if !self.parts {
            let vector = self.context.embeddings_seq_ith(0).map_err(|error| failed(error.to_string()))?;
            current.vector.extend_from_slice(vector);
            return Ok(());
        }
        for output in 0..self.batch.n_tokens() {
            let vector = self.context.embeddings_ith(output).map_err(|error| failed(error.to_string()))?;
            if self.pooling == Pooling::Last || current.vector.is_empty() {
                current.vector.clear();
                current.vector.extend_from_slice(vector);
            } else {
                // The length is divided out at the end, so the sum serves as the mean.
                current.vector.iter_mut().zip(vector).for_each(|(sum, value)| *sum += value);
            }
        }
        Ok(())
    }
}

/// The vector at length one; `None` if it has no length.
fn normalised(vector: &[f32]) -> Option<Vec<f32>> {
    let length = vector.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt();
    let usable = length.is_finite() && length > 0.0;
    usable.then(|| vector.iter().map(|&value| (f64::from(value) / length) as f32).collect())
}

#[cfg(test)]
mod tests {
    use super::normalised;

    #[test]
    fn vectors_have_length_one() {
        assert_eq!(normalised(&[3.0, 4.0]), Some(vec![0.6, 0.8]));
        assert_eq!(normalised(&[0.0, 0.0]), None);
        assert_eq!(normalised(&[f32::NAN, 1.0]), None);
        assert_eq!(normalised(&[]), None);
    }
}
