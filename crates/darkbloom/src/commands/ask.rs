//! What `run` and `chat` share: a client in this process, and the answer on standard output as it comes.

use super::daemon;
use crate::{
    cli::AskArguments,
    failure::Failure,
    home::{Home, KeyRole},
};
use client::{Answer, Pools};
use protocol::task::{Finish, Frame, Generation, Message, Sampling, Task, Usage};
use std::io::Write;

/// Connects to the pools of the tickets, or of the home.
pub async fn connect(home: &Home, arguments: &AskArguments) -> Result<Pools, Failure> {
    let tickets = match arguments.join.as_slice() {
        [] => home.tickets()?,
        given => given.to_vec(),
    };
    daemon::start_clients(home, KeyRole::Asker, &tickets, arguments.price_max).await
}

pub fn message(role: &str, content: impl Into<String>) -> Message {
    Message { role: role.to_owned(), content: content.into() }
}

pub fn task(arguments: &AskArguments, messages: Vec<Message>) -> Task {
    let default = Sampling::default();
    let sampling =
        Sampling { temperature: arguments.temperature.unwrap_or(default.temperature), seed: arguments.seed, ..default };
    let generation = Generation { max_tokens: arguments.max_tokens, sampling, ..Generation::default() };
    Task::Chat { messages, generation }
}

/// A whole answer.
pub struct Whole {
    pub text: String,
    pub finish: Finish,
    pub usage: Usage,
}

/// Reads an answer to its end; each piece goes to `print` as it comes.
pub async fn read(answer: &mut Answer, mut print: impl FnMut(&str)) -> Result<Whole, Failure> {
    let mut whole = String::new();
    while let Some(frame) = answer.next().await {
        match &frame? {
            Frame::Tokens { text, .. } => {
                print(text);
                whole.push_str(text);
            }
            Frame::Done { finish, usage } => return Ok(Whole { text: whole, finish: *finish, usage: *usage }),
            Frame::Started { .. } | Frame::Embedding { .. } | Frame::Scores { .. } | Frame::Failed { .. } => {}
        }
    }
    Err(Failure::new("the answer broke off"))
}

/// Prints a piece at once.
pub fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    // Nobody reads on where the pipe is closed; the next signal ends the program.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
