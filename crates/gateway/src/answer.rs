//! From a task to an answer that has begun, and to a whole one for who does not stream.

use crate::{
    asker::{Answer, Asker},
    metrics::Metrics,
    routes::Arrival,
};
use client::AskError;
use futures_util::StreamExt;
use protocol::{
    task::{Finish, Frame, Task, Usage},
    time::unix_ms,
};
use serde::Serialize;
use std::{sync::Arc, time::SystemTime};

/// Sends a task and waits until its worker has begun. What goes wrong before is an error with an HTTP status.
pub(crate) async fn begin(asker: Arc<dyn Asker>, model: String, task: Task) -> Result<Answer, AskError> {
    let mut answer = asker.ask(&model, task).await?;
    match answer.frames.next().await {
        Some(Ok(frame)) => match unless_failed(frame)? {
            Frame::Started { .. } => Ok(answer),
            _ => Err(out_of_order()),
        },
        Some(Err(error)) => Err(error),
        None => Err(ended_early()),
    }
}

/// Text and usage of a whole answer.
pub(crate) struct Whole {
    pub(crate) text: String,
    pub(crate) finish: Finish,
    pub(crate) usage: Usage,
}

/// Reads an answer to its end.
pub(crate) async fn collect(answer: &mut Answer, arrival: Arrival, metrics: &Metrics) -> Result<Whole, AskError> {
    let mut text = String::new();
    while let Some(frame) = answer.frames.next().await {
        match &unless_failed(frame?)? {
            Frame::Tokens { text: piece, .. } => {
                if text.is_empty() && !piece.is_empty() {
                    metrics.observe_first_token(arrival.0.elapsed());
                }
                text.push_str(piece);
            }
            Frame::Done { finish, usage } => {
                metrics.count_usage(*usage);
                return Ok(Whole { text, finish: *finish, usage: *usage });
            }
            _ => return Err(out_of_order()),
        }
    }
    Err(ended_early())
}

/// Any frame but a failure.
pub(crate) fn unless_failed(frame: Frame) -> Result<Frame, AskError> {
    match &frame {
        Frame::Failed { error } => Err(AskError::Task(error.clone())),
        _ => Ok(frame),
    }
}

pub(crate) fn out_of_order() -> AskError {
    AskError::Broken { reason: "a frame came that has no place there".to_owned() }
}

pub(crate) fn ended_early() -> AskError {
    AskError::Broken { reason: "it ended without its final frame".to_owned() }
}

/// OpenAI's word for why an answer ended.
pub(crate) fn finish_reason(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => "stop",
        Finish::Length => "length",
    }
}

/// Usage in OpenAI's shape.
#[derive(Debug, Serialize)]
pub(crate) struct UsageBody {
    prompt_tokens: u32,
    completion_tokens: u32,
    total_tokens: u64,
}

impl From<Usage> for UsageBody {
    fn from(usage: Usage) -> Self {
        let Usage { prompt_tokens, completion_tokens } = usage;
        let total_tokens = u64::from(prompt_tokens) + u64::from(completion_tokens);
        Self { prompt_tokens, completion_tokens, total_tokens }
    }
}

/// What every answer bears beside its text.
#[derive(Debug, Serialize)]
pub(crate) struct Heading {
    id: String,
    object: &'static str,
    created: u64,
    model: String,
    /// The machine: the same seed gives the same text only on the same one.
    system_fingerprint: String,
}

impl Heading {
    pub(crate) fn new(id_prefix: &str, object: &'static str, answer: &Answer) -> Self {
        Self {
            id: format!("{id_prefix}-{}", answer.task),
            object,
            created: unix_ms(SystemTime::now()) / 1_000,
            model: answer.model.clone(),
            system_fingerprint: format!("fp_{}", answer.node.short()),
        }
    }
}
