//! An engine without a model: it answers the same everywhere, always, so that tests compare texts byte for byte.

mod model;
#[cfg(test)]
mod tests;

pub use model::DeterministicModel;

use engine::{Answer, Engine, EngineError, ModelInfo};
use model::VOCABULARY;
use protocol::task::{Finish, Frame, Generation, Message, Prompt, Task, TaskError, Usage};
use std::{path::Path, thread, time::Duration};

/// Tokens after which an answer ends by itself, where the task sets no bound.
const TOKENS: u32 = 64;
const CONTEXT_TOKENS: u32 = 1024;
/// How long one step reads prompts, at most; one token at least.
const READING_MS: u64 = 50;
/// Tokens of a given answer that one step scores.
const SCORED_TOKENS: usize = 64;
/// A step that does nothing takes this long at least: a stalled engine is idle, not busy.
const IDLE: Duration = Duration::from_millis(1);

/// Answers with words and characters that depend on the prompt and the place, at a set pace.
///
/// A prompt has as many tokens as it has words. Characters of four bytes are cut in two tokens. Answers are resumed and
/// scored as by any other engine; how a token is to be drawn makes no difference.
pub struct DeterministicEngine {
    info: ModelInfo,
    model: DeterministicModel,
    running: Vec<Running>,
}

struct Running {
    id: u64,
    /// The hash of the prompt.
    prompt: u64,
    prompt_tokens: u32,
    /// Tokens still to be read.
    unread: u64,
    started: bool,
    work: Work,
}

enum Work {
    Generation { answer: Answer, drawn: u32, ends_by_itself: bool },
    Score { ids: Vec<u32>, scored: usize },
}

impl DeterministicEngine {
    /// What a model file holds of which only the pace matters.
    pub fn model_file(step_ms: u64) -> Vec<u8> {
        DeterministicModel { step_ms, ..DeterministicModel::default() }.file()
    }

    /// Reads a [`DeterministicModel`] from its file.
    pub fn load(path: &Path, slots: u32) -> Result<Self, std::io::Error> {
        let model = std::fs::read_to_string(path)?.parse()?;
        let info = ModelInfo {
            name: "deterministic".to_owned(),
            architecture: "deterministic".to_owned(),
            parameters: 0,
            weights_bytes: 0,
            vocabulary: VOCABULARY,
            embedding_length: 0,
            trained_context_tokens: CONTEXT_TOKENS,
            context_tokens: CONTEXT_TOKENS,
            slots,
            completion: true,
            chat: true,
            embedding: false,
        };
        Ok(Self { info, model, running: Vec::new() })
    }

    /// The same as far as anybody is told, but distorted: what a node computes that holds one file and runs another.
    #[must_use]
    pub fn distorted(mut self, percent: u32) -> Self {
        self.model.distort_percent = percent;
        self
    }
}

impl Engine for DeterministicEngine {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn free_slots(&self) -> usize {
        (self.info.slots as usize).saturating_sub(self.running.len())
    }

    fn start(&mut self, id: u64, task: &Task) -> Result<(), TaskError> {
        task.check()?;
        self.running.push(match task {
            Task::Chat { messages, generation } => generation_of(id, &joined(messages), generation)?,
            Task::Completion { prompt, generation } => generation_of(id, prompt, generation)?,
            Task::Score { prompt: Prompt::Chat(messages), ids } => score_of(id, &joined(messages), ids)?,
            Task::Score { prompt: Prompt::Text(text), ids } => score_of(id, text, ids)?,
            Task::Embedding { .. } => {
                return Err(TaskError::Unsupported { message: "this engine makes no embeddings".to_owned() });
            }
        });
        Ok(())
    }

    fn cancel(&mut self, id: u64) {
        self.running.retain(|running| running.id != id);
    }

    fn step(&mut self, emit: &mut dyn FnMut(u64, Frame)) -> Result<bool, EngineError> {
        if self.running.is_empty() {
            return Ok(false);
        }
        let read: u64 = self.running.iter_mut().map(|running| running.read(&self.model)).sum();
        let stalled = self.running.iter().all(|running| running.is_stalled(&self.model));
        let pace = Duration::from_millis(self.model.step_ms + read * self.model.prefill_ms);
        // The pace of the "model"; not synchronisation.
        thread::sleep(if stalled { pace.max(IDLE) } else { pace });
        let model = self.model;
        self.running.retain_mut(|running| {
            let id = running.id;
            running.unread > 0 || running.is_stalled(&model) || running.advance(&model, &mut |frame| emit(id, frame))
        });
        Ok(!self.running.is_empty())
    }
}

impl Running {
    /// Reads its share for this step; gives how many tokens that is.
    fn read(&mut self, model: &DeterministicModel) -> u64 {
        if matches!(&self.work, Work::Generation { answer, .. } if answer.is_complete()) {
            self.unread = 0;
        }
        let most = READING_MS.checked_div(model.prefill_ms).map_or(u64::MAX, |tokens| tokens.max(1));
        let read = self.unread.min(most);
        self.unread -= read;
        read
    }

    fn is_stalled(&self, model: &DeterministicModel) -> bool {
        let Work::Generation { drawn, .. } = &self.work else { return false };
        model.stall_after_tokens.is_some_and(|tokens| *drawn >= tokens)
    }

    /// One token of an answer, or some of a score. Whether it goes on.
    fn advance(&mut self, model: &DeterministicModel, emit: &mut dyn FnMut(Frame)) -> bool {
        let prompt_tokens = self.prompt_tokens;
        let first = !std::mem::replace(&mut self.started, true);
        if first {
            emit(Frame::Started { prompt_tokens });
        }
        let (finish, completion_tokens) = match &mut self.work {
            Work::Generation { answer, drawn, ends_by_itself } => {
                let missing = if first { answer.begin(emit) } else { None };
                let finish = missing.or_else(|| {
                    let place = answer.generated();
                    if *ends_by_itself && place >= TOKENS {
                        return Some(answer.end(emit));
                    }
                    *drawn += 1;
                    let token = model.token(self.prompt, place);
                    let mut bytes = Vec::new();
                    model::piece(token, &mut bytes);
                    answer.push(token, model.log_prob(self.prompt, place, token).0, &bytes, emit)
                });
                (finish, answer.generated())
            }
            Work::Score { ids, scored } => {
                let to = ids.len().min(*scored + SCORED_TOKENS);
                let score = |place: usize| model.log_prob(self.prompt, place as u32, ids[place]);
                let (log_probs, best) = (*scored..to).map(score).unzip();
                emit(Frame::Scores { log_probs, best });
                *scored = to;
                ((to == ids.len()).then_some(Finish::Stop), 0)
            }
        };
        if let Some(finish) = finish {
            emit(Frame::Done { finish, usage: Usage { prompt_tokens, completion_tokens } });
        }
        finish.is_none()
    }
}

fn joined(messages: &[Message]) -> String {
    messages.iter().map(|message| message.content.as_str()).collect::<Vec<_>>().join("\n")
}

fn generation_of(id: u64, prompt: &str, generation: &Generation) -> Result<Running, TaskError> {
    let ids = &generation.resume.ids;
    let prompt_tokens = checked(prompt, ids)?;
    let answer = Answer::new(generation, CONTEXT_TOKENS - prompt_tokens, model::piece)?;
    let ends_by_itself = generation.max_tokens.is_none();
    if ends_by_itself && ids.len() > TOKENS as usize {
        return Err(TaskError::Invalid { message: "the model ends this answer earlier".to_owned() });
    }
    Ok(running(id, prompt, prompt_tokens, ids, Work::Generation { answer, drawn: 0, ends_by_itself }))
}

fn score_of(id: u64, prompt: &str, ids: &[u32]) -> Result<Running, TaskError> {
    let prompt_tokens = checked(prompt, ids)?;
    Ok(running(id, prompt, prompt_tokens, ids, Work::Score { ids: ids.to_vec(), scored: 0 }))
}

fn running(id: u64, prompt: &str, prompt_tokens: u32, given: &[u32], work: Work) -> Running {
    let unread = u64::from(prompt_tokens) + given.len() as u64;
    Running { id, prompt: model::hash(prompt), prompt_tokens, unread, started: false, work }
}

/// The tokens of the prompt, if it fits together with what is given of an answer, which must be in the vocabulary.
fn checked(prompt: &str, given: &[u32]) -> Result<u32, TaskError> {
    if let Some(id) = given.iter().find(|id| **id >= VOCABULARY) {
        return Err(TaskError::Invalid { message: format!("token {id} is not one of the model's {VOCABULARY}") });
    }
    let prompt_tokens = prompt.split_whitespace().count();
    if prompt_tokens >= CONTEXT_TOKENS as usize || prompt_tokens + given.len() > CONTEXT_TOKENS as usize {
        let prompt_tokens = u32::try_from(prompt_tokens + given.len()).unwrap_or(u32::MAX);
        return Err(TaskError::ContextExceeded { prompt_tokens, context_tokens: CONTEXT_TOKENS });
    }
    Ok(u32::try_from(prompt_tokens).expect("below the context"))
}
