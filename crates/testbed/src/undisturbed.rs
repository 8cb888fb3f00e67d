//! What an answer is when nothing happens to it.

use crate::DeterministicEngine;
use engine::Engine;
use protocol::task::{Frame, Generation, Message, Sampling, Task, Usage};
use std::path::Path;

/// The text and usage that the deterministic engine gives to a chat of one message, in one go.
///
/// # Panics
/// If the model file is none, or the engine fails.
pub fn undisturbed(model: &Path, content: &str, max_tokens: u32) -> (String, Usage) {
    let mut engine = DeterministicEngine::load(model, 1).expect("a model file of the deterministic engine");
    let messages = vec![Message { role: "user".to_owned(), content: content.to_owned() }];
    let generation = Generation { max_tokens: Some(max_tokens), sampling: Sampling::greedy(), ..Generation::default() };
    engine.start(0, &Task::Chat { messages, generation }).expect("a task that it takes");
    let (mut whole, mut end) = (String::new(), None);
    while engine
        .step(&mut |_, frame| match &frame {
            Frame::Tokens { text, .. } => whole.push_str(text),
            Frame::Done { usage, .. } => end = Some(*usage),
            Frame::Failed { error } => panic!("{error}"),
            _ => {}
        })
        .expect("a step")
    {}
    (whole, end.expect("it ended"))
}
