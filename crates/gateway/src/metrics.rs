//! Counts in the OpenMetrics text format. No label and no value bears anything of a prompt, an answer or an asker.

use crate::routes::Shared;
use axum::{
    extract::State,
    http::{Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use protocol::task::Usage;
use std::{sync::Arc, time::Duration};

/// Bounds of the time to a first token, in seconds: from a cache hit beside us to a cold model far away.
const FIRST_TOKEN_BOUNDS_S: [f64; 14] =
    [0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0];

/// What nginx logs when the client left before there was a status.
const CLIENT_LEFT: u16 = 499;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: String,
    method: &'static str,
    status: u16,
}

/// Everything `/metrics` shows.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    pub(crate) connections: Gauge,
    pub(crate) connections_refused: Counter,
    pub(crate) tasks_in_flight: Gauge,
    pub(crate) streams_failed: Counter,
    pub(crate) streams_cancelled: Counter,
    prompt_tokens: Counter,
    completion_tokens: Counter,
    first_token: Histogram,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("darkbloom_gateway");
        let metrics = Self {
            requests: Family::default(),
            connections: Gauge::default(),
            connections_refused: Counter::default(),
            tasks_in_flight: Gauge::default(),
            streams_failed: Counter::default(),
            streams_cancelled: Counter::default(),
            prompt_tokens: Counter::default(),
            completion_tokens: Counter::default(),
            first_token: Histogram::new(FIRST_TOKEN_BOUNDS_S),
            registry: Registry::default(),
        };
        registry.register("requests", "Requests by route, method and status", metrics.requests.clone());
        registry.register("connections", "Open connections", metrics.connections.clone());
        registry.register(
            "connections_refused",
            "Connections refused because every place had a request in progress",
            metrics.connections_refused.clone(),
        );
        registry.register("tasks_in_flight", "Tasks being answered", metrics.tasks_in_flight.clone());
        registry.register(
            "streams_failed",
            "Event streams that ended with an error after their headers were sent",
            metrics.streams_failed.clone(),
        );
        registry.register(
            "streams_cancelled",
            "Event streams whose reader left before the end",
            metrics.streams_cancelled.clone(),
        );
        registry.register("prompt_tokens", "Tokens read in complete answers", metrics.prompt_tokens.clone());
        registry.register(
            "completion_tokens",
            "Tokens generated in complete answers",
            metrics.completion_tokens.clone(),
        );
        registry.register_with_unit(
            "time_to_first_token",
            "From the request's arrival to the first text of its answer",
            Unit::Seconds,
            metrics.first_token.clone(),
        );
        Self { registry, ..metrics }
    }

    /// Starts the record of one request.
    pub(crate) fn begin(self: &Arc<Self>, route: &str, method: &Method) -> RequestRecord {
        // Methods are the peer's words: unknown ones would grow the family without bound.
        let method = match *method {
            Method::GET => "GET",
            Method::POST => "POST",
            Method::HEAD => "HEAD",
            Method::OPTIONS => "OPTIONS",
            Method::PUT => "PUT",
            Method::DELETE => "DELETE",
            _ => "other",
        };
        let labels = RequestLabels { route: route.to_owned(), method, status: CLIENT_LEFT };
        RequestRecord { metrics: Arc::clone(self), labels }
    }

    pub(crate) fn count_usage(&self, usage: Usage) {
        self.prompt_tokens.inc_by(usage.prompt_tokens.into());
        self.completion_tokens.inc_by(usage.completion_tokens.into());
    }

    pub(crate) fn observe_first_token(&self, after: Duration) {
        self.first_token.observe(after.as_secs_f64());
    }
}

/// Counts its request when it is dropped: with its status, or as left by the client.
pub(crate) struct RequestRecord {
    metrics: Arc<Metrics>,
    labels: RequestLabels,
}

impl RequestRecord {
    pub(crate) fn finish(mut self, status: StatusCode) {
        self.labels.status = status.as_u16();
    }
}

impl Drop for RequestRecord {
    fn drop(&mut self) {
        self.metrics.requests.get_or_create(&self.labels).inc();
    }
}

/// `GET /metrics`
pub(crate) async fn show(State(shared): State<Arc<Shared>>) -> Response {
    let mut text = String::new();
    encode(&mut text, &shared.metrics.registry).expect("writing to a string does not fail");
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, content_type)], text).into_response()
}
