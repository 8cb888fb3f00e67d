//! Every byte that crosses a wire, a pipe between processes, or a pasted line: ids, tickets, messages, sealing, frames.
//!
//! Nothing else in the workspace defines a wire format. The crate is pure: no sockets, no files, no clock. Randomness is
//! used for one purpose, fresh encapsulations and keys in [`sealing`].
//!
//! The way of one task, in the types of this crate:
//!
//! ```
//! use protocol::{ids::TaskId, sealing::{self, WorkerKey}, task::{Frame, Task}};
//!
//! // In the worker: a key born in its memory. Only the public half leaves.
//! let key = WorkerKey::generate(sealing::Suite::XWing);
//!
//! // In the client: seal a task to it. What travels is `SealedTask`, padded.
//! let id = TaskId::random();
//! let task = Task::chat("Hello");
//! let (sealed, mut answers) = sealing::seal_task(key.public(), id, &task).expect("a well-formed key");
//!
//! // In the worker: open it, and seal numbered frames back.
//! let (opened, mut frames) = key.open_task(id, &sealed).expect("sealed to this key");
//! assert_eq!(opened, task);
//! let wire = frames.seal(&Frame::Started { prompt_tokens: 3 }).expect("a small frame");
//!
//! assert_eq!(answers.open(&wire).expect("authentic"), Frame::Started { prompt_tokens: 3 });
//! assert!(answers.open(&wire).is_err(), "a frame opens once, in its place");
//! ```
//!
//! Invariants:
//! * every decoder is total and bounded by [`limits`]; trailing bytes are an error;
//! * a sealed task and every sealed frame have a length that is a power of two plus a constant;
//! * a frame opens only in its place, once, and a stream without its final frame is not an answer.

pub mod codec;
pub mod fault;
pub mod founding;
pub mod genesis;
pub mod grant;
pub mod header;
pub mod hold;
pub mod ids;
pub mod ipc;
pub mod limits;
pub mod line;
pub mod link;
pub mod market;
pub mod padding;
pub mod peer;
pub mod pool;
pub mod proof;
pub mod sealing;
pub mod signed;
pub mod statement;
pub mod stream;
pub mod task;
pub mod ticket;
pub mod time;
pub mod witness;
