//! How to load a model, and why it did not load.

use std::path::PathBuf;
use std::time::Duration;

/// What an engine takes of the machine.
///
/// Memory for `context_tokens * slots` tokens is taken at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineOptions {
    /// Most tokens that one request may hold, prompt and answer together, 16 to 1,048,576. The model's own limit holds as
    /// well.
    pub context_tokens: u32,
    /// Requests that run at once, 1 to 64.
    pub slots: u32,
    /// Threads that compute, 1 to 512. The process should have `GOMP_SPINCOUNT=1000` in its environment: with the default
    /// OpenMP threads that wait take the cores from those that work as soon as the machine is busy.
    pub threads: u32,
    /// Most tokens of prompts that one step reads, 1 to 4096.
    pub batch_tokens: u32,
    /// How long one step may read prompts. That is the pause that others notice when a long prompt comes, and the time
    /// in which a cancelled one ends. The rate is measured once, while loading, on a few tokens; a step then reads the
    /// largest power of two that fits, at least 16 and at most `batch_tokens`. `None`: always `batch_tokens`, which makes
    /// batches, and so the last bits of numbers, the same on every run.
    pub step_time: Option<Duration>,
}

impl Default for EngineOptions {
    /// Contexts of 4096 tokens in four slots, on all cores, in steps of a quarter of a second.
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, |count| count.get().min(512));
        let step_time = Some(Duration::from_millis(250));
        Self { context_tokens: 4096, slots: 4, threads: threads as u32, batch_tokens: 512, step_time }
    }
}

impl EngineOptions {
    pub(super) fn check(&self) -> Result<(), LoadError> {
        for (name, value, low, high) in [
            ("context_tokens", self.context_tokens, 16, 1 << 20),
            ("slots", self.slots, 1, 64),
            ("threads", self.threads, 1, 512),
            ("batch_tokens", self.batch_tokens, 1, 4096),
        ] {
            if !(low..=high).contains(&value) {
                return Err(LoadError::Option { name, low, high });
            }
        }
        Ok(())
    }
}

/// Why a model did not load.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The file could not be opened or read.
    #[error("cannot read the model file {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not a whole GGUF model of a kind that llama.cpp knows.
    #[error("{} is not a GGUF model that llama.cpp can read: fetch it again, or use another", path.display())]
    Model {
        /// The file.
        path: PathBuf,
    },
    /// A model of another kind than this engine runs.
    #[error("models of the architecture `{architecture}` are not supported: use a decoder or an embedding model")]
    Unsupported {
        /// Its architecture.
        architecture: String,
    },
    /// The memory for the contexts could not be had.
    #[error("no memory for {slots} contexts of {context_tokens} tokens: lower `slots` or `context_tokens`")]
    Memory {
        /// Contexts.
        slots: u32,
        /// Tokens of each.
        context_tokens: u32,
    },
    /// The model loads, but cannot be computed.
    #[error("the model could not be computed ({reason}): fetch it again, or use another")]
    Compute {
        /// What the library said.
        reason: String,
    },
    /// An option is outside its bounds.
    #[error("`{name}` is between {low} and {high}")]
    Option {
        /// Which.
        name: &'static str,
        /// Its least value.
        low: u32,
        /// Its largest value.
        high: u32,
    },
}
