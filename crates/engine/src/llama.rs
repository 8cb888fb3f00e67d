//! The engine on llama.cpp: continuous batching over one context, one sequence for each slot.
//!
//! A step is one `llama_decode`: the next token of every request that generates, and a bounded share of the prompts, and
//! of the answers to be scored, that are still being read. Embeddings have a context of their own and take turns with that, so that a step is never
//! longer than one bounded batch and a cancelled request is gone before the next.
//!
//! llama.cpp aborts the process on a broken assumption (`GGML_ASSERT`), and a C++ exception that crosses into Rust does
//! the same. Whatever an asker sends is therefore bounded before it gets there: sequence ids are slots, batches have
//! fixed sizes, tokens come from the vocabulary, temperatures cannot overflow, texts are cut where a regular expression
//! would recurse over them. A model file that is itself hostile can still abort: that is what the worker's sandbox is for.

mod binding;
mod draw;
mod embedding;
mod generation;
mod generator;
mod logits;
mod model;
mod opening;
mod options;
mod sampler;
mod scoring;
mod sequence;
mod share;
mod vocabulary;

pub use options::{EngineOptions, LoadError};

use crate::{Engine, EngineError, ModelInfo};
use embedding::{Embedder, Embedding};
use generation::Generation;
use generator::Generator;
use model::Model;
use protocol::task::{self, Frame, Message, Task, TaskError, Usage};
use scoring::Scoring;
use sequence::{Purpose, Sequence};
use std::path::Path;
use std::time::SystemTime;
use vocabulary::Prompt;

/// A GGUF model, loaded by llama.cpp.
pub struct LlamaEngine {
    options: EngineOptions,
    info: ModelInfo,
    model: Model,
    generator: Option<Generator>,
    /// Made by the first embedding task.
    embedder: Option<Embedder>,
    /// The index is the slot, and the sequence id in the generator's context.
    slots: Vec<Option<Running>>,
    embedding_turn: bool,
}

/// A request in its slot.
struct Running {
    id: u64,
    work: Work,
}

/// Boxed: both are moved between the parts of the engine.
enum Work {
    Sequence(Box<Sequence>),
    Embedding(Box<Embedding>),
}

impl LlamaEngine {
    /// Loads a model. `path` may be a descriptor in the form `/proc/self/fd/N`; no other file is opened.
    ///
    /// A file that is not a readable model is an error. llama.cpp checks most of what a hostile file could do, not all.
    pub fn load(path: &Path, options: EngineOptions) -> Result<Self, LoadError> {
        options.check()?;
        let model = Model::load(path)?;
        let context_tokens = model.trained_context_tokens().min(options.context_tokens);
        let generator = match model.generates() {
            true => Some(Generator::new(&model, &options, context_tokens)?),
            false => None,
        };
        let info = model.info(context_tokens, options.slots);
        let slots = (0..options.slots).map(|_| None).collect();
        Ok(Self { options, info, model, generator, embedder: None, slots, embedding_turn: false })
    }

    fn begin(&mut self, task: &Task) -> Result<Work, TaskError> {
        match task {
            Task::Chat { messages, generation } => self.generate(self.chat(messages)?, generation),
            Task::Completion { prompt, generation } => self.generate(self.text(prompt)?, generation),
            Task::Score { prompt, ids } => {
                let mut tokens = match prompt {
                    task::Prompt::Chat(messages) => self.chat(messages)?,
                    task::Prompt::Text(text) => self.text(text)?,
                };
                let vocabulary = self.model.vocabulary();
                let scoring = Scoring::new(&mut tokens, ids, vocabulary, self.info.context_tokens)?;
                Ok(Work::Sequence(Box::new(Sequence::new(tokens, Purpose::Scoring(scoring)))))
            }
            Task::Embedding { inputs } => {
                let batch_tokens = self.generator.as_ref().map_or(usize::MAX, Generator::batch_tokens);
                let embedder = match &mut self.embedder {
                    Some(embedder) => embedder,
                    none => {
                        let context_tokens = self.info.context_tokens;
                        none.insert(Embedder::new(&self.model, &self.options, context_tokens, batch_tokens)?)
                    }
                };
                Ok(Work::Embedding(Box::new(embedder.begin(self.model.vocabulary(), inputs)?)))
            }
        }
    }

    fn generate(&self, mut tokens: Prompt, generation: &task::Generation) -> Result<Work, TaskError> {
        let generation = Generation::new(&mut tokens, generation, &self.model, self.info.context_tokens)?;
        Ok(Work::Sequence(Box::new(Sequence::new(tokens, Purpose::Generation(generation)))))
    }

    fn chat(&self, messages: &[Message]) -> Result<Prompt, TaskError> {
        self.check_generates()?;
        self.model.chat_prompt(messages, SystemTime::now(), self.info.context_tokens)
    }

    fn text(&self, text: &str) -> Result<Prompt, TaskError> {
        self.check_generates()?;
        self.model.vocabulary().prompt(text, self.info.context_tokens)
    }

    fn check_generates(&self) -> Result<(), TaskError> {
        match self.generator {
            Some(_) => Ok(()),
            None => Err(TaskError::Unsupported { message: "this model makes embeddings only".to_owned() }),
        }
    }

    /// Frees a slot: tokens and text are wiped as they are dropped, the cells of the sequence are given back.
    fn release(&mut self, slot: usize) {
        let Some(running) = self.slots[slot].take() else { return };
        match running.work {
            Work::Sequence(sequence) => {
                if let Some(generator) = &mut self.generator {
                    generator.forget(slot, &sequence);
                }
            }
            Work::Embedding(_) => {
                if let Some(embedder) = &mut self.embedder {
                    embedder.forget(slot);
                }
            }
        }
    }

    /// Whether this step is the embedder's: if both have work they take turns.
    fn embedding_is_next(&mut self) -> bool {
        let mut kinds = self.slots.iter().flatten().map(|running| matches!(running.work, Work::Embedding(_)));
        let embeds = kinds.clone().any(|embedding| embedding);
        let generates = kinds.any(|embedding| !embedding);
        self.embedding_turn = embeds && !(generates && self.embedding_turn);
        self.embedding_turn
    }

    /// Ends every request after a failed computation.
    fn fail_all(&mut self, emit: &mut dyn FnMut(u64, Frame), error: &EngineError) {
        for slot in 0..self.slots.len() {
            if let Some(id) = self.slots[slot].as_ref().map(|running| running.id) {
                self.release(slot);
                emit(id, Frame::Failed { error: TaskError::Engine { message: error.to_string() } });
            }
        }
    }
}

impl Engine for LlamaEngine {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn free_slots(&self) -> usize {
        self.slots.iter().filter(|slot| slot.is_none()).count()
    }

    fn start(&mut self, id: u64, task: &Task) -> Result<(), TaskError> {
        task.check()?;
        if self.slots.iter().flatten().any(|running| running.id == id) {
            return Err(TaskError::Invalid { message: "a task with this id is running".to_owned() });
        }
        // The lowest: sequences that are neighbours are computed together.
        let Some(slot) = self.slots.iter().position(Option::is_none) else {
            return Err(TaskError::Engine { message: "no free slot".to_owned() });
        };
        let mut work = self.begin(task)?;
        if let (Work::Sequence(sequence), Some(generator)) = (&mut work, &mut self.generator) {
            generator.occupy(slot, sequence);
        }
        self.slots[slot] = Some(Running { id, work });
        Ok(())
    }

    fn cancel(&mut self, id: u64) {
        if let Some(slot) = self.slots.iter().position(|slot| slot.as_ref().is_some_and(|running| running.id == id)) {
            self.release(slot);
        }
    }

    fn step(&mut self, emit: &mut dyn FnMut(u64, Frame)) -> Result<bool, EngineError> {
        let embed = self.embedding_is_next();
        let vocabulary = self.model.vocabulary();
        let mut ended = Vec::new();
        let result = match (embed, &mut self.embedder, &mut self.generator) {
            (true, Some(embedder), _) => embedder.step(&mut self.slots, emit, &mut ended),
            (false, _, Some(generator)) => generator.step(&mut self.slots, vocabulary, emit, &mut ended),
            _ => Ok(()),
        };
        for slot in ended {
            self.release(slot);
        }
        if let Err(error) = result {
            self.fail_all(emit, &error);
            return Err(error);
        }
        Ok(self.slots.iter().any(Option::is_some))
    }
}

/// The model's numbers are not usable.
fn no_probabilities() -> TaskError {
    TaskError::Engine { message: "the model gave no probabilities: its file may be damaged".to_owned() }
}

/// Token counts are bounded by the context, which is a `u32`.
fn usage(prompt_tokens: usize, completion_tokens: u32) -> Usage {
    Usage { prompt_tokens: u32::try_from(prompt_tokens).unwrap_or(u32::MAX), completion_tokens }
}
