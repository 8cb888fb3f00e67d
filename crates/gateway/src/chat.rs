//! `POST /v1/chat/completions`

use crate::{
    answer::{self, Heading, UsageBody, finish_reason},
    body,
    error::ApiError,
    generation::{Delivery, HARMLESS, SERVICE_TIER, take_delivery, take_generation, take_token_count},
    messages::take_messages,
    parameters::{Parameters, Unserved, is_empty, is_false, is_one, never},
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
use serde_json::json;
use std::sync::Arc;

const STYLE: ChunkStyle = ChunkStyle {
    id_prefix: "chatcmpl",
    object: "chat.completion.chunk",
    opening: Some(r#""delta":{"role":"assistant","content":"","refusal":null}"#),
    text: (r#""delta":{"content":"#, "}"),
    closing: r#""delta":{}"#,
};

const UNSERVED: &[Unserved] = &[
    ("n", is_one),
    ("tools", is_empty),
    ("tool_choice", |value| value == "none" || value == "auto"),
    ("parallel_tool_calls", |value| value.is_boolean()),
    ("functions", is_empty),
    ("function_call", |value| value == "none" || value == "auto"),
    ("response_format", |value| *value == json!({"type": "text"})),
    ("logprobs", is_false),
    ("top_logprobs", |value| value.as_u64() == Some(0)),
    ("logit_bias", is_empty),
    ("modalities", |value| *value == json!(["text"])),
    ("audio", never),
    ("prediction", never),
    ("reasoning_effort", |value| value == "none"),
    ("verbosity", |value| value == "medium"),
    ("web_search_options", never),
    SERVICE_TIER,
];

#[derive(Serialize)]
struct ChatCompletion {
    #[serde(flatten)]
    heading: Heading,
    choices: [Choice; 1],
    usage: UsageBody,
}

#[derive(Serialize)]
struct Choice {
    index: u32,
    message: AssistantMessage,
    logprobs: Option<()>,
    finish_reason: &'static str,
}

#[derive(Serialize)]
struct AssistantMessage {
    role: &'static str,
    content: String,
    refusal: Option<()>,
}

/// Answers one chat.
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
    let heading = Heading::new(STYLE.id_prefix, "chat.completion", &answer);
    let whole = answer::collect(&mut answer, arrival, &shared.metrics).await?;
    let message = AssistantMessage { role: "assistant", content: whole.text, refusal: None };
    let choice = Choice { index: 0, message, logprobs: None, finish_reason: finish_reason(whole.finish) };
    Ok(Json(ChatCompletion { heading, choices: [choice], usage: whole.usage.into() }).into_response())
}

fn read(mut parameters: Parameters) -> Result<(String, Task, Delivery), ApiError> {
    let model = parameters.require("model")?.take_text("model")?;
    let delivery = take_delivery(&mut parameters)?;
    parameters.refuse(UNSERVED)?;
    parameters.ignore(HARMLESS);
    let max_tokens = take_max_tokens(&mut parameters)?;
    let generation = take_generation(&mut parameters, max_tokens)?;
    let messages = take_messages(&mut parameters)?;
    parameters.finish()?;
    Ok((model, Task::Chat { messages, generation }, delivery))
}

/// The old name and the new one of the same bound.
fn take_max_tokens(parameters: &mut Parameters) -> Result<Option<u32>, ApiError> {
    let old = take_token_count(parameters, "max_tokens")?;
    let new = take_token_count(parameters, "max_completion_tokens")?;
    match (old, new) {
        (Some(old), Some(new)) if old != new => Err(ApiError::invalid_value(
            "max_tokens",
            "it is the old name of 'max_completion_tokens', which has another value",
        )),
        _ => Ok(new.or(old)),
    }
}
