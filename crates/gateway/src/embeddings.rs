//! `POST /v1/embeddings`

use crate::{
    answer::{self, ended_early, out_of_order, unless_failed},
    asker::Answer,
    body,
    error::ApiError,
    parameters::{Parameters, Unserved, never, take_text, wrong_type},
    routes::Shared,
};
use axum::{
    Json,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use client::AskError;
use data_encoding::BASE64;
use futures_util::StreamExt;
use protocol::{
    limits::EMBEDDING_INPUTS_MAX,
    task::{Frame, Task, Usage},
};
use serde::Serialize;
use serde_json::Value;
use std::sync::Arc;

/// `dimensions` is refused: cutting a vector of a model that was not trained for it gives a worse one, silently.
const UNSERVED: &[Unserved] = &[("dimensions", never)];

/// How a vector is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Float,
    /// Little-endian 32-bit floats in base 64; the official Python client asks for it.
    Base64,
}

#[derive(Serialize)]
struct List {
    object: &'static str,
    data: Vec<Embedding>,
    model: String,
    usage: EmbeddingUsage,
}

#[derive(Serialize)]
struct Embedding {
    object: &'static str,
    index: usize,
    embedding: Vector,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Vector {
    Float(Vec<f32>),
    Base64(String),
}

#[derive(Serialize)]
struct EmbeddingUsage {
    prompt_tokens: u32,
    total_tokens: u32,
}

/// Computes one vector for each input.
pub(crate) async fn create(State(shared): State<Arc<Shared>>, request: Request) -> Result<Response, ApiError> {
    let parameters = body::read_parameters(&shared, request).await?;
    let (model, inputs, encoding) = read(parameters)?;
    let count = inputs.len();
    let _place = shared.take_place()?;
    let mut answer = answer::begin(Arc::clone(&shared.asker), model, Task::Embedding { inputs }).await?;
    let (vectors, usage) = collect(&mut answer, count).await?;
    shared.metrics.count_usage(usage);
    let data = vectors
        .into_iter()
        .enumerate()
        .map(|(index, vector)| Embedding { object: "embedding", index, embedding: encode(vector, encoding) })
        .collect();
    let usage = EmbeddingUsage { prompt_tokens: usage.prompt_tokens, total_tokens: usage.prompt_tokens };
    Ok(Json(List { object: "list", data, model: answer.model.clone(), usage }).into_response())
}

fn read(mut parameters: Parameters) -> Result<(String, Vec<String>, Encoding), ApiError> {
    let model = parameters.require("model")?.take_text("model")?;
    let encoding = match parameters.text("encoding_format")?.as_deref() {
        None | Some("float") => Encoding::Float,
        Some("base64") => Encoding::Base64,
        Some(_) => return Err(ApiError::invalid_value("encoding_format", "expected 'float' or 'base64'")),
    };
    parameters.refuse(UNSERVED)?;
    parameters.ignore(&["user"]);
    let inputs = take_inputs(&mut parameters)?;
    parameters.finish()?;
    Ok((model, inputs, encoding))
}

fn take_inputs(parameters: &mut Parameters) -> Result<Vec<String>, ApiError> {
    let mut value = parameters.require("input")?;
    let inputs = match &mut *value {
        Value::String(text) => vec![std::mem::take(text)],
        Value::Array(items) if !(1..=EMBEDDING_INPUTS_MAX).contains(&items.len()) => {
            let why = format!("expected 1 to {EMBEDDING_INPUTS_MAX} inputs, got {}", items.len());
            return Err(ApiError::invalid_value("input", why));
        }
        Value::Array(items) if matches!(items[0], Value::Number(_) | Value::Array(_)) => {
            return Err(ApiError::unsupported("input", "must be text: token ids are not served"));
        }
        Value::Array(items) => items.iter_mut().map(|item| take_text(item, "input")).collect::<Result<_, _>>()?,
        other => return Err(wrong_type("input", "a string or an array of strings", other)),
    };
    if inputs.iter().any(String::is_empty) {
        return Err(ApiError::invalid_value("input", "an input cannot be an empty string"));
    }
    Ok(inputs)
}

/// Each vector once, in the order of the inputs.
async fn collect(answer: &mut Answer, count: usize) -> Result<(Vec<Vec<f32>>, Usage), AskError> {
    let mut vectors = vec![Vec::new(); count];
    while let Some(frame) = answer.frames.next().await {
        match &mut unless_failed(frame?)? {
            Frame::Embedding { index, vector } => {
                let place = vectors.get_mut(*index as usize).ok_or_else(out_of_order)?;
                if !place.is_empty() || vector.is_empty() || !vector.iter().all(|value| value.is_finite()) {
                    return Err(out_of_order());
                }
                *place = std::mem::take(vector);
            }
            Frame::Done { .. } if vectors.iter().any(Vec::is_empty) => return Err(ended_early()),
            Frame::Done { usage, .. } => return Ok((vectors, *usage)),
            _ => return Err(out_of_order()),
        }
    }
    Err(ended_early())
}

fn encode(vector: Vec<f32>, encoding: Encoding) -> Vector {
    match encoding {
        Encoding::Float => Vector::Float(vector),
        Encoding::Base64 => {
            let bytes: Vec<u8> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
            Vector::Base64(BASE64.encode(&bytes))
        }
    }
}
