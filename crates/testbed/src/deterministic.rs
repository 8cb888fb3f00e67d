use engine::{Engine, EngineError, ModelInfo};
use protocol::task::{Finish, Frame, Task, TaskError, Usage};
use std::{path::Path, thread, time::Duration};

/// Tokens of an answer where the task sets no bound.
const TOKENS: u32 = 64;
const CONTEXT_TOKENS: u32 = 1024;

/// Answers with words that depend on the prompt and the position, at a set pace: the same everywhere, always.
///
/// Its model file is `GGUF`, a line end, and `step_ms=N`: the time that one token takes.
pub struct DeterministicEngine {
    info: ModelInfo,
    step: Duration,
    running: Vec<Running>,
}

struct Running {
    id: u64,
    seed: u32,
    prompt_tokens: u32,
    done: u32,
    total: u32,
}

impl DeterministicEngine {
    /// What a model file holds.
    pub fn model_file(step_ms: u64) -> Vec<u8> {
        format!("GGUF\nstep_ms={step_ms}\n").into_bytes()
    }

    /// Reads the pace from the file.
    pub fn load(path: &Path, slots: u32) -> Result<Self, std::io::Error> {
        let text = std::fs::read_to_string(path)?;
        let step_ms = text.trim().rsplit_once("step_ms=").and_then(|(_, number)| number.parse().ok());
        let step_ms = step_ms.ok_or_else(|| std::io::Error::other("not a model of the deterministic engine"))?;
        let info = ModelInfo {
            name: "deterministic".to_owned(),
            architecture: "deterministic".to_owned(),
            parameters: 0,
            weights_bytes: 0,
            vocabulary: u32::MAX,
            embedding_length: 0,
            trained_context_tokens: CONTEXT_TOKENS,
            context_tokens: CONTEXT_TOKENS,
            slots,
            completion: true,
            chat: true,
            embedding: false,
        };
        Ok(Self { info, step: Duration::from_millis(step_ms), running: Vec::new() })
    }

    /// The token at a position, for a prompt.
    pub fn token(seed: u32, position: u32) -> (u32, String) {
        let id = seed.wrapping_mul(0x9e37_79b9).wrapping_add(position.wrapping_mul(0x85eb_ca6b)) >> 8;
        (id, format!("{id} "))
    }
}

/// FNV-1a: the same on every machine.
fn seed(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
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
        let (text, generation) = match task {
            Task::Chat { messages, generation } => {
                (messages.iter().map(|message| message.content.as_str()).collect::<Vec<_>>().join("\n"), generation)
            }
            Task::Completion { prompt, generation } => (prompt.clone(), generation),
            Task::Embedding { .. } => {
                return Err(TaskError::Unsupported { message: "this engine makes no embeddings".to_owned() });
            }
        };
        let prompt_tokens = u32::try_from(text.split_whitespace().count()).unwrap_or(u32::MAX);
        if prompt_tokens >= CONTEXT_TOKENS {
            return Err(TaskError::ContextExceeded { prompt_tokens, context_tokens: CONTEXT_TOKENS });
        }
        let total = generation.max_tokens.unwrap_or(TOKENS).min(CONTEXT_TOKENS - prompt_tokens);
        self.running.push(Running { id, seed: seed(&text), prompt_tokens, done: 0, total });
        Ok(())
    }

    fn cancel(&mut self, id: u64) {
        self.running.retain(|running| running.id != id);
    }

    fn step(&mut self, emit: &mut dyn FnMut(u64, Frame)) -> Result<bool, EngineError> {
        if self.running.is_empty() {
            return Ok(false);
        }
        // The pace of the "model"; not synchronisation.
        thread::sleep(self.step);
        for running in &mut self.running {
            if running.done == 0 {
                emit(running.id, Frame::Started { prompt_tokens: running.prompt_tokens });
            }
            let (id, text) = Self::token(running.seed, running.done);
            running.done += 1;
            emit(running.id, Frame::Tokens { ids: vec![id], text });
            if running.done == running.total {
                let usage = Usage { prompt_tokens: running.prompt_tokens, completion_tokens: running.done };
                emit(running.id, Frame::Done { finish: Finish::Length, usage });
            }
        }
        self.running.retain(|running| running.done < running.total);
        Ok(!self.running.is_empty())
    }
}
