//! Plaintext: what an asker wants and what a model answers. It exists in the asker's own process and in the sandboxed
//! worker, and nowhere between.

use crate::limits;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// One task, as it is sealed to a worker. Its text is wiped when it is dropped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Task {
    /// Generate the next message of a conversation, through the model's own chat template.
    Chat {
        /// The conversation so far.
        messages: Vec<Message>,
        /// How to generate.
        generation: Generation,
    },
    /// Continue a text as it stands.
    Completion {
        /// The text.
        prompt: String,
        /// How to generate.
        generation: Generation,
    },
    /// One vector for each input.
    Embedding {
        /// The texts, at least one.
        inputs: Vec<String>,
    },
    /// How likely the model finds an answer that is given (teacher forcing). Nothing is generated.
    Score {
        /// What was answered.
        prompt: Prompt,
        /// The answer's tokens, at least one.
        ids: Vec<u32>,
    },
}

/// What an answer follows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Prompt {
    /// A conversation, through the model's own chat template.
    Chat(Vec<Message>),
    /// A text as it stands.
    Text(String),
}

impl Drop for Prompt {
    fn drop(&mut self) {
        match self {
            // Messages wipe themselves.
            Self::Chat(_) => {}
            Self::Text(text) => text.zeroize(),
        }
    }
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
pub struct Message {
    /// `system`, `user`, `assistant` or another role that the model's template knows.
    pub role: String,
    /// The text.
    pub content: String,
}

/// Length, stops and sampling of one generation.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Generation {
    /// Most tokens to generate; `None`: until the model ends or its context is full.
    pub max_tokens: Option<u32>,
    /// Generation ends before the first of these texts; at most [`limits::STOP_STRINGS_MAX`].
    pub stop: Vec<String>,
    /// How the next token is drawn.
    pub sampling: Sampling,
    /// What of the answer is there already: another node wrote it before it was lost.
    pub resume: Resume,
}

/// The beginning of an answer. The rest follows from exactly here: its tokens count to `max_tokens` and to the usage, and
/// the text that they make is not sent again. Empty: the answer begins.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
pub struct Resume {
    /// Its tokens, at most [`limits::RESUME_TOKENS_MAX`].
    pub ids: Vec<u32>,
    /// Bytes of text that the asker has received.
    pub text_bytes: u64,
}

/// How the next token is drawn. The names are those of OpenAI's API and of llama.cpp.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// 0 is greedy.
    pub temperature: f32,
    /// Nucleus: smallest set of tokens with this probability mass; 1 is all.
    pub top_p: f32,
    /// Only the `top_k` likeliest tokens; 0 is all.
    pub top_k: u32,
    /// Only tokens at least this likely relative to the likeliest; 0 is all.
    pub min_p: f32,
    /// Subtracted from a token's logit for each time it occurred, -2 to 2.
    pub frequency_penalty: f32,
    /// Subtracted once from the logit of a token that occurred, -2 to 2.
    pub presence_penalty: f32,
    /// Divides the logit of a token that occurred; 1 is none.
    pub repeat_penalty: f32,
    /// The same seed draws the same tokens from the same logits, each token by its number in the answer, so that a
    /// resumed answer goes on with the same stream; `None`: a random seed.
    pub seed: Option<u32>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 0.8,
            top_p: 0.95,
            top_k: 40,
            min_p: 0.05,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            repeat_penalty: 1.0,
            seed: None,
        }
    }
}

impl Sampling {
    /// Always the likeliest token.
    pub fn greedy() -> Self {
        Self { temperature: 0.0, ..Self::default() }
    }
}

impl Task {
    /// A chat of one user message with default generation.
    pub fn chat(content: impl Into<String>) -> Self {
        let message = Message { role: "user".to_owned(), content: content.into() };
        Self::Chat { messages: vec![message], generation: Generation::default() }
    }

    /// Checks every bound that does not need the model. A client checks before sealing, a worker after opening.
    pub fn check(&self) -> Result<(), TaskError> {
        let invalid = |why: &str| Err(TaskError::Invalid { message: why.to_owned() });
        let generation = match self {
            Self::Chat { messages, generation } => {
                check_messages(messages)?;
                generation
            }
            Self::Completion { generation, .. } => generation,
            Self::Embedding { inputs } => {
                if inputs.is_empty() || inputs.len() > limits::EMBEDDING_INPUTS_MAX {
                    return invalid(&format!("an embedding has between 1 and {} inputs", limits::EMBEDDING_INPUTS_MAX));
                }
                return Ok(());
            }
            Self::Score { prompt, ids } => {
                if ids.is_empty() || ids.len() > limits::RESUME_TOKENS_MAX {
                    return invalid(&format!("a score has between 1 and {} tokens", limits::RESUME_TOKENS_MAX));
                }
                return match prompt {
                    Prompt::Chat(messages) => check_messages(messages),
                    Prompt::Text(_) => Ok(()),
                };
            }
        };
        generation.check()
    }
}

fn check_messages(messages: &[Message]) -> Result<(), TaskError> {
    if messages.is_empty() || messages.len() > limits::MESSAGES_MAX {
        let message = format!("a chat has between 1 and {} messages", limits::MESSAGES_MAX);
        return Err(TaskError::Invalid { message });
    }
    Ok(())
}

impl Generation {
    fn check(&self) -> Result<(), TaskError> {
        let invalid = |message: String| Err(TaskError::Invalid { message });
        if self.max_tokens == Some(0) {
            return invalid("`max_tokens` is at least 1".to_owned());
        }
        if self.stop.len() > limits::STOP_STRINGS_MAX {
            return invalid(format!("at most {} stop strings", limits::STOP_STRINGS_MAX));
        }
        if self.stop.iter().any(|stop| stop.is_empty() || stop.len() > limits::STOP_STRING_BYTES_MAX) {
            return invalid(format!("a stop string has between 1 and {} bytes", limits::STOP_STRING_BYTES_MAX));
        }
        if self.resume.ids.len() > limits::RESUME_TOKENS_MAX {
            return invalid(format!("an answer is resumed after at most {} tokens", limits::RESUME_TOKENS_MAX));
        }
        let s = &self.sampling;
        for (name, value, low, high) in [
            ("temperature", s.temperature, 0.0, 2.0),
            ("top_p", s.top_p, 0.0, 1.0),
            ("min_p", s.min_p, 0.0, 1.0),
            ("frequency_penalty", s.frequency_penalty, -2.0, 2.0),
            ("presence_penalty", s.presence_penalty, -2.0, 2.0),
            ("repeat_penalty", s.repeat_penalty, 0.1, 10.0),
        ] {
            if !(low..=high).contains(&value) {
                return invalid(format!("`{name}` is between {low} and {high}"));
            }
        }
        Ok(())
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        match self {
            // Messages wipe themselves.
            Self::Chat { generation, .. } => generation.stop.zeroize(),
            Self::Completion { prompt, generation } => {
                prompt.zeroize();
                generation.stop.zeroize();
            }
            Self::Embedding { inputs } => inputs.zeroize(),
            Self::Score { prompt: _, ids } => ids.zeroize(),
        }
    }
}

/// One piece of an answer, in order: `Started`, then `Tokens`, `Embedding`s or `Scores`, then `Done`; or `Failed` at any
/// place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Frame {
    /// The worker took the task and read the prompt.
    Started {
        /// Tokens of the prompt as the model reads it.
        prompt_tokens: u32,
    },
    /// The next tokens. Whole characters only: bytes of an unfinished one wait for the next frame.
    Tokens {
        /// Their ids in the model's vocabulary, so that another node can continue from exactly here.
        ids: Vec<u32>,
        /// Their text; may be empty while a stop string or a character is undecided.
        text: String,
        /// For each id its natural log-probability under the model's own distribution, before temperature, penalties and
        /// cuts. Every answer has them, so that one that is checked looks like any other.
        log_probs: Vec<f32>,
    },
    /// The vector of one input.
    Embedding {
        /// Which input.
        index: u32,
        /// Its vector, of length one.
        vector: Vec<f32>,
    },
    /// How likely the next of the given tokens are, in order.
    Scores {
        /// The natural log-probability of each.
        log_probs: Vec<f32>,
        /// That of the likeliest token in its place.
        best: Vec<f32>,
    },
    /// The end of a complete answer. Nothing follows.
    Done {
        /// Why it ended.
        finish: Finish,
        /// What it took.
        usage: Usage,
    },
    /// The end of a failed one. Nothing follows.
    Failed {
        /// Why.
        error: TaskError,
    },
}

impl Frame {
    /// Whether the answer ends with this frame.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Done { .. } | Self::Failed { .. })
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        match self {
            Self::Tokens { ids, text, log_probs } => {
                ids.zeroize();
                text.zeroize();
                log_probs.zeroize();
            }
            Self::Scores { log_probs, best } => {
                log_probs.zeroize();
                best.zeroize();
            }
            Self::Embedding { vector, .. } => vector.zeroize(),
            Self::Started { .. } | Self::Done { .. } | Self::Failed { .. } => {}
        }
    }
}

/// Why a complete answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Finish {
    /// The model ended, or a stop string came.
    Stop,
    /// `max_tokens` or the context's end.
    Length,
}

/// Tokens read and written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Tokens generated, the end marker not counted.
    pub completion_tokens: u32,
}

/// Why a worker could not answer a task that it could open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum TaskError {
    /// The prompt leaves no room for an answer.
    #[error("the prompt has {prompt_tokens} tokens, the model's context holds {context_tokens}")]
    ContextExceeded {
        /// Tokens of the prompt.
        prompt_tokens: u32,
        /// Tokens that the context holds.
        context_tokens: u32,
    },
    /// The task is outside its bounds.
    #[error("{message}")]
    Invalid {
        /// What is wrong with it.
        message: String,
    },
    /// The model cannot do this kind of task.
    #[error("{message}")]
    Unsupported {
        /// What it cannot do.
        message: String,
    },
    /// The engine failed.
    #[error("the engine failed: {message}")]
    Engine {
        /// What it said.
        message: String,
    },
    /// The node takes its machine back.
    #[error("the worker is shutting down")]
    ShuttingDown,
}
