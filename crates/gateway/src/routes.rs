//! Which path is what, and what holds for every request: an id, admission, a count, and a refusal in one shape.

use crate::{
    asker::Asker,
    auth::Admission,
    chat, completions, embeddings,
    error::ApiError,
    health,
    limits::{Limits, REQUEST_ID_CHARS_MAX},
    metrics::{self, Metrics},
    models,
};
use axum::{
    Router,
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use protocol::ids::TaskId;
use std::{sync::Arc, time::Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const NO_SNIFF: (HeaderName, HeaderValue) =
    (HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff"));
const HEALTHZ: &str = "/healthz";
const READYZ: &str = "/readyz";

/// What every handler needs.
pub(crate) struct Shared {
    pub(crate) asker: Arc<dyn Asker>,
    pub(crate) limits: Limits,
    pub(crate) metrics: Arc<Metrics>,
    /// Bytes of request bodies that may still be read at once.
    pub(crate) body_bytes: Arc<Semaphore>,
    admission: Admission,
    tasks: Arc<Semaphore>,
}

/// A place among the tasks in flight.
pub(crate) struct Place {
    metrics: Arc<Metrics>,
    _permit: OwnedSemaphorePermit,
}

/// When a request arrived.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival(pub(crate) Instant);

impl Shared {
    pub(crate) fn new(asker: Arc<dyn Asker>, admission: Admission, limits: Limits, metrics: Arc<Metrics>) -> Self {
        let tasks = Arc::new(Semaphore::new(limits.requests_max));
        let body_bytes = Arc::new(Semaphore::new(limits.body_bytes_in_flight_max));
        Self { asker, limits, metrics, body_bytes, admission, tasks }
    }

    /// Takes a place for a task, or refuses early: waiting in line would only add to the load.
    pub(crate) fn take_place(&self) -> Result<Place, ApiError> {
        let Ok(permit) = Arc::clone(&self.tasks).try_acquire_owned() else {
            return Err(ApiError::overloaded("Too many requests are in progress on this gateway", 1000));
        };
        self.metrics.tasks_in_flight.inc();
        Ok(Place { metrics: Arc::clone(&self.metrics), _permit: permit })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.metrics.tasks_in_flight.dec();
    }
}

pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/v1/chat/completions", post(chat::create))
        .route("/v1/completions", post(completions::create))
        .route("/v1/embeddings", post(embeddings::create))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{*model}", get(models::retrieve))
        .route(HEALTHZ, get(health::healthz))
        .route(READYZ, get(health::readyz))
        .route("/metrics", get(metrics::show))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn_with_state(Arc::clone(&shared), every_request))
        .with_state(shared)
}

async fn every_request(State(shared): State<Arc<Shared>>, mut request: Request, next: Next) -> Response {
    let arrival = Arrival(Instant::now());
    let id = request_id(request.headers());
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let route = matched.as_ref().map_or("unmatched", MatchedPath::as_str);
    let record = shared.metrics.begin(route, request.method());
    let is_open = route == HEALTHZ || route == READYZ;
    let mut response = match shared.admission.check(request.uri(), request.headers(), is_open) {
        Ok(()) => {
            request.extensions_mut().insert(arrival);
            next.run(request).await
        }
        Err(error) => error.into_response(),
    };
    let status = response.status();
    tracing::debug!(route, status = status.as_u16(), request = id.to_str().unwrap_or("-"), "answered");
    record.finish(status);
    response.headers_mut().extend([(REQUEST_ID, id), NO_SNIFF]);
    response
}

/// The asker's own id if it is one, else a fresh one.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let given = headers.get(REQUEST_ID).filter(|id| {
        let id = id.as_bytes();
        (1..=REQUEST_ID_CHARS_MAX).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic)
    });
    given.cloned().unwrap_or_else(|| {
        HeaderValue::try_from(format!("req_{}", TaskId::random())).expect("base 32 fits into a header")
    })
}

async fn not_found(method: Method, uri: Uri) -> ApiError {
    let path: String = uri.path().chars().take(200).collect();
    ApiError::request(StatusCode::NOT_FOUND, format!("Invalid URL ({method} {path})")).code("unknown_url")
}

async fn method_not_allowed(method: Method, uri: Uri) -> ApiError {
    let path: String = uri.path().chars().take(200).collect();
    let message = format!("Not allowed to {method} on {path}: the `allow` header names what is");
    ApiError::request(StatusCode::METHOD_NOT_ALLOWED, message).code("method_not_allowed")
}
