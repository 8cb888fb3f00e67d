//! Whether the process lives, and whether it could answer a prompt now.

use crate::routes::Shared;
use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use std::sync::Arc;

/// What `/healthz` and `/readyz` answer.
#[derive(Serialize)]
struct Health {
    status: &'static str,
    /// Why not, if not.
    reasons: Vec<String>,
}

/// `GET /healthz`: 200 while the process serves.
pub(crate) async fn healthz() -> Response {
    Json(Health { status: "ok", reasons: Vec::new() }).into_response()
}

/// `GET /readyz`: 200 if a prompt would find a node now, else 503 with the reasons.
pub(crate) async fn readyz(State(shared): State<Arc<Shared>>) -> Response {
    match hindrance(&shared).await {
        None => Json(Health { status: "ready", reasons: Vec::new() }).into_response(),
        Some(reason) => {
            let health = Health { status: "not_ready", reasons: vec![reason] };
            (StatusCode::SERVICE_UNAVAILABLE, Json(health)).into_response()
        }
    }
}

async fn hindrance(shared: &Shared) -> Option<String> {
    if !shared.asker.is_connected() {
        return Some("no link to an orchestrator is up".to_owned());
    }
    match tokio::time::timeout(shared.limits.models_timeout, shared.asker.models()).await {
        Err(_) => Some("the pool did not answer in time".to_owned()),
        Ok(Err(error)) => Some(error.to_string()),
        Ok(Ok(models)) if models.is_empty() => Some("the pool has no model".to_owned()),
        Ok(Ok(models)) if models.iter().all(|model| model.ready_nodes == 0) => {
            Some("no node of the pool is ready to serve a model".to_owned())
        }
        Ok(Ok(_)) => None,
    }
}
