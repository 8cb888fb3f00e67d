//! `GET /v1/models` and `GET /v1/models/{model}`.

use crate::{error::ApiError, routes::Shared};
use axum::{
    Json,
    extract::{Path, State, rejection::PathRejection},
};
use client::{AskError, Model as PoolModel};
use serde::Serialize;
use std::sync::Arc;

/// A model in OpenAI's shape, and what only a pool knows of it.
#[derive(Serialize)]
pub(crate) struct Model {
    id: String,
    object: &'static str,
    created: u64,
    owned_by: &'static str,
    aliases: Vec<String>,
    digest: String,
    context_tokens: u32,
    default: bool,
    ready_nodes: u32,
}

#[derive(Serialize)]
pub(crate) struct List {
    object: &'static str,
    data: Vec<Model>,
}

impl From<PoolModel> for Model {
    fn from(entry: PoolModel) -> Self {
        Self {
            id: entry.name,
            object: "model",
            created: entry.created_unix_s,
            owned_by: "pool",
            aliases: entry.aliases,
            digest: entry.digest.to_string(),
            context_tokens: entry.context_tokens,
            default: entry.default,
            ready_nodes: entry.ready_nodes,
        }
    }
}

/// Every model of the pool.
pub(crate) async fn list(State(shared): State<Arc<Shared>>) -> Result<Json<List>, ApiError> {
    let data = entries(&shared).await?.into_iter().map(Model::from).collect();
    Ok(Json(List { object: "list", data }))
}

/// One model, by its name, an alias, or `default`.
pub(crate) async fn retrieve(
    State(shared): State<Arc<Shared>>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<Model>, ApiError> {
    let Path(model) = path.map_err(|_| ApiError::invalid("The model's name in the URL is not UTF-8"))?;
    let entries = entries(&shared).await?;
    let is_meant = |entry: &&PoolModel| {
        entry.name == model || entry.aliases.contains(&model) || (entry.default && model == "default")
    };
    match entries.iter().find(is_meant) {
        Some(entry) => Ok(Json(entry.clone().into())),
        None => {
            let known = entries.into_iter().map(|entry| entry.name).collect();
            Err(AskError::UnknownModel { model, known }.into())
        }
    }
}

async fn entries(shared: &Shared) -> Result<Vec<PoolModel>, ApiError> {
    let asked = tokio::time::timeout(shared.limits.models_timeout, shared.asker.models()).await;
    let late = || AskError::Unreachable { reason: "it did not answer in time".to_owned() };
    Ok(asked.map_err(|_| late())??)
}
