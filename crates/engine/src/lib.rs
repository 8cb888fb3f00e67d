//! Inference: tasks in, frames out.
//!
//! [`Engine`] is the one interface to a loaded model. It never blocks for longer than one step and does nothing between
//! calls, so that its owner decides at every token what goes on. With the
//! feature `llama`, `LlamaEngine` implements it on llama.cpp.
//!
//! ```no_run
//! # #[cfg(feature = "llama")]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use engine::{Engine, EngineOptions, LlamaEngine};
//! use protocol::task::{Frame, Task};
//!
//! let mut engine = LlamaEngine::load("model.gguf".as_ref(), EngineOptions::default())?;
//! engine.start(1, &Task::chat("What is a cat?"))?;
//! engine.start(2, &Task::chat("What is a dog?"))?;
//! // One step is one pass through the model, for all requests at once.
//! while engine.step(&mut |id, frame| {
//!     if let Frame::Tokens { text, .. } = &frame {
//!         println!("{id}: {text}");
//!     }
//! })? {}
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "llama"))]
//! # fn main() {}
//! ```
//!
//! Invariants of every engine:
//! * the frames of a request are `Started`, then `Tokens`, `Embedding`s or `Scores`, then one final frame, or `Failed` at
//!   any place; after its final frame or after [`Engine::cancel`] no frame of it follows, and its slot is free;
//! * the text of `Tokens` holds whole characters only and nothing of a stop string; all their ids together are the answer,
//!   without the end marker; each id has its log-probability under the model's own distribution;
//! * a resumed answer sends exactly what is missing: `Started` with the tokens of the prompt alone, the ids behind the
//!   given ones, the text behind the received one; its usage counts the given ids too. An answer that was complete
//!   already gets what is missing of its text and `Done`, and costs no computation;
//! * the draw of a token depends on the seed and on its number in the answer, never on what was drawn before;
//! * a score's usage has the tokens of the prompt, and no others: nothing was generated;
//! * [`Engine::start`] refuses what is outside its bounds; nothing that an asker sends ends the process;
//! * content is never logged.
//!
//! [`Answer`], [`TextAssembler`], [`ChatTemplate`] and [`ControlTokens`] are the pure parts, for other engines to use.

mod answer;
mod control;
mod info;
#[cfg(feature = "llama")]
mod llama;
mod template;
mod text;

pub use answer::Answer;
pub use control::{ControlTokens, Guarded, NoSeparator};
pub use info::ModelInfo;
#[cfg(feature = "llama")]
pub use llama::{EngineOptions, LlamaEngine, LoadError};
pub use template::{ChatTemplate, TemplateError};
pub use text::TextAssembler;

use protocol::task::{Frame, Task, TaskError};

/// How far two log-probabilities of one token may be apart where the same model file computed both, in batches that were
/// composed differently or on other machines; also how far a greedy token may be below the likeliest one when its answer
/// is read again at once.
///
/// llama.cpp rounds activations to eight bits, so a difference in the last bits grows with the layers. Measured on the
/// default model (135 million parameters, Q4_1, x86-64) over 2,841 tokens, alone, beside three streams, and scored: the
/// largest difference was 0.38, the largest gap 0.42. Means over an answer are far smaller (0.05); that is what canaries
/// compare.
pub const LOG_PROB_TOLERANCE: f32 = 0.7;

/// A loaded model that runs several requests at once.
pub trait Engine: Send {
    /// The model and its bounds.
    fn info(&self) -> &ModelInfo;

    /// Requests that may still be started now.
    fn free_slots(&self) -> usize;

    /// Takes a task in: checks it, reads its prompt into tokens, occupies a slot until the final frame. `id` names it
    /// in [`Engine::step`] and [`Engine::cancel`] and must not be running.
    ///
    /// The task is not kept. An error leaves everything as it was.
    fn start(&mut self, id: u64, task: &Task) -> Result<(), TaskError>;

    /// Ends a request at once, without a frame. Nothing happens if it is not running.
    fn cancel(&mut self, id: u64);

    /// One pass through the model for the running requests; gives what came of it to `emit`. Returns whether any
    /// request still runs. Without one it returns at once.
    ///
    /// After an error every running request has failed, each with its `Failed` frame.
    fn step(&mut self, emit: &mut dyn FnMut(u64, Frame)) -> Result<bool, EngineError>;
}

/// A pass through the model failed. Its cause is in the model or the machine, not in a task: load the model anew, in
/// a new process.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The model could not be computed.
    #[error("the model could not be computed ({reason}): restart the worker")]
    Compute {
        /// What the library said.
        reason: String,
    },
}
