//! The gateway: OpenAI's HTTP interface to a pool, on the asker's own machine. An application changes its base URL and
//! nothing else.
//!
//! ```no_run
//! use client::{Client, ClientConfig, MachineKey};
//! use gateway::{Gateway, GatewayConfig};
//! use std::sync::Arc;
//! use tokio_util::sync::CancellationToken;
//!
//! # async fn example(ticket: protocol::ticket::Ticket) -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::start(ClientConfig::new(MachineKey::generate(), ticket)).await?;
//! let gateway = Gateway::bind(GatewayConfig::loopback(7433), Arc::new(client)).await?;
//! println!("http://{}/v1", gateway.local_addr());
//!
//! let shutdown = CancellationToken::new();
//! gateway.serve(shutdown).await?;
//! # Ok(()) }
//! ```
//!
//! # What it serves
//!
//! | route | |
//! |---|---|
//! | `POST /v1/chat/completions` | whole or as events |
//! | `POST /v1/completions` | one prompt, whole or as events; `max_tokens` is 16 unless given |
//! | `POST /v1/embeddings` | up to 2048 texts, `float` or `base64` |
//! | `GET /v1/models`, `GET /v1/models/{model}` | by name, alias, or `default` |
//! | `GET /healthz`, `GET /readyz` | the process lives; a prompt would find a node, else why not |
//! | `GET /metrics` | OpenMetrics |
//!
//! Beside OpenAI's sampling parameters `top_k`, `min_p` and `repeat_penalty` have the names of `llama-server`; what is
//! not given is at [`protocol::task::Sampling::default`]. Up to 16 stop strings are taken. `null` is as good as absent.
//!
//! **Nothing is ignored silently.** A parameter that changes nothing in our answers (`user`, `metadata`, `store` and other
//! hints) is taken; one that is not served is taken with the value that asks for nothing and else refused with 400
//! `unsupported_parameter`; one that nobody knows is refused with 400 `unknown_parameter`, as OpenAI does.
//!
//! # Errors
//!
//! Every refusal has OpenAI's envelope, `{"error":{"message","type","param","code"}}`, and every answer an
//! `x-request-id`. After an event stream's headers an error is an event, and no `[DONE]` follows it.
//!
//! | status | `code` |
//! |---|---|
//! | 400 | `invalid_json`, `invalid_type`, `invalid_value`, `missing_required_parameter`, `unsupported_parameter`, `unknown_parameter`, `context_length_exceeded`, `unsupported_by_model`, `incomplete_body` |
//! | 401, 403 | `invalid_api_key`; `not_local` |
//! | 404, 405 | `model_not_found`, `unknown_url`; `method_not_allowed` |
//! | 408, 413, 415 | `request_timeout`; `request_too_large`; `unsupported_media_type` |
//! | 429 | `rate_limit_exceeded`, with `Retry-After` |
//! | 500, 502 | `engine_failed`; `answer_broken` |
//! | 503 | `no_node_available`, `node_leaving`, `pool_unreachable`, `pool_denied`; with `Retry-After` where a time is known |
//!
//! # Invariants
//!
//! * An address that other machines reach is served with a key or not at all; without a key no page of another origin
//!   and no rebound name gets an answer.
//! * Everything that a peer can make the gateway hold is bounded by [`Limits`].
//! * An asker that leaves cancels its task; so does one that stops reading.
//! * Nothing of a prompt or an answer is in a log or a metric. A body is wiped once it is parsed, a task when it is sent.

mod answer;
mod asker;
mod auth;
mod body;
mod chat;
mod completions;
mod connections;
mod embeddings;
mod error;
mod generation;
mod health;
mod limits;
mod messages;
mod metrics;
mod models;
mod parameters;
mod routes;
mod server;
mod sse;

pub use asker::{Answer, Asker};
pub use auth::{ApiKey, WeakKeyError};
pub use limits::Limits;
pub use server::{Gateway, GatewayConfig, GatewayError};
