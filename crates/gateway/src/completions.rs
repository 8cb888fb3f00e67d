//! `POST /v1/completions`

use crate::{
    answer::{self, Heading, UsageBody, finish_reason},
    body,
    error::ApiError,
    generation::{Delivery, HARMLESS, SERVICE_TIER, take_delivery, take_generation, take_token_count},
    parameters::{Parameters, Unserved, is_empty, is_false, is_one, never, wrong_type},
    routes::{Arrival, Shared},
    sse::{ChunkStyle, Events},
};
use axum::{
    Extension, Json,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use protocol::task::Task;
use serde::Serialize;
use serde_json::Value;
use std::sync::Arc;

/// OpenAI's default, and what clients of this old interface expect.
const MAX_TOKENS_DEFAULT: u32 = 16;

const STYLE: ChunkStyle = ChunkStyle {
    id_prefix: "cmpl",
    object: "text_completion",
    opening: None,
    text: (r#""text":"#, ""),
    closing: r#""text":"""#,
};

const UNSERVED: &[Unserved] = &[
    ("n", is_one),
    ("best_of", is_one),
    ("echo", is_false),
    ("logprobs", never),
    ("logit_bias", is_empty),
    ("suffix", is_empty),
    SERVICE_TIER,
];

#[derive(Serialize)]
struct Completion {
    #[serde(flatten)]
    heading: Heading,
    choices: [Choice; 1],
    usage: UsageBody,
}

#[derive(Serialize)]
struct Choice {
    index: u32,
    text: String,
    logprobs: Option<()>,
    finish_reason: &'static str,
}

/// Continues one text.
pub(crate) async fn create(
    State(shared): State<Arc<Shared>>,
    Extension(arrival): Extension<Arrival>,
    request: Request,
) -> Result<Response, ApiError> {
    let parameters = body::read_parameters(&shared, request).await?;
    let (model, task, delivery) = read(parameters)?;
    let place = shared.take_place()?;
    let beginning = answer::begin(Arc::clone(&shared.asker), model, task);
    if delivery.stream {
        let interval = shared.limits.keep_alive_interval;
        let record = (arrival, Arc::clone(&shared.metrics), place);
        let events = Events::begin(Box::pin(beginning), &STYLE, delivery.include_usage, interval, record).await?;
        return Ok(events.into_response());
    }
    let mut answer = beginning.await?;
    let heading = Heading::new(STYLE.id_prefix, STYLE.object, &answer);
    let whole = answer::collect(&mut answer, arrival, &shared.metrics).await?;
    let choice = Choice { index: 0, text: whole.text, logprobs: None, finish_reason: finish_reason(whole.finish) };
    Ok(Json(Completion { heading, choices: [choice], usage: whole.usage.into() }).into_response())
}

fn read(mut parameters: Parameters) -> Result<(String, Task, Delivery), ApiError> {
    let model = parameters.require("model")?.take_text("model")?;
    let delivery = take_delivery(&mut parameters)?;
    parameters.refuse(UNSERVED)?;
    parameters.ignore(HARMLESS);
    let max_tokens = take_token_count(&mut parameters, "max_tokens")?.unwrap_or(MAX_TOKENS_DEFAULT);
    let generation = take_generation(&mut parameters, Some(max_tokens))?;
    let prompt = take_prompt(&mut parameters)?;
    parameters.finish()?;
    Ok((model, Task::Completion { prompt, generation }, delivery))
}

/// A string, or an array of exactly one.
fn take_prompt(parameters: &mut Parameters) -> Result<String, ApiError> {
    let mut value = parameters.require("prompt")?;
    match &mut *value {
        Value::String(text) => Ok(std::mem::take(text)),
        Value::Array(items) => match items.as_mut_slice() {
            [Value::String(text)] => Ok(std::mem::take(text)),
            [Value::String(_), ..] => {
                Err(ApiError::unsupported("prompt", "must hold one text: send one request for each"))
            }
            [Value::Number(_) | Value::Array(_), ..] => {
                Err(ApiError::unsupported("prompt", "must be text: token ids are not served"))
            }
            _ => Err(ApiError::invalid_value("prompt", "expected a string")),
        },
        other => Err(wrong_type("prompt", "a string", other)),
    }
}
