//! The gateway over real TCP, with a pool in memory behind it.

// Clippy takes only functions marked as tests for tests; what they share is no less one.
#![allow(clippy::unwrap_used)]

mod connections;
mod errors;
mod fake_pool;
mod http_client;
mod malformed;
mod parameters;
mod routes;
mod sdk;
mod security;
mod streaming;

use fake_pool::FakePool;
use gateway::{Gateway, GatewayConfig, GatewayError, Limits};
use http_client::{Connection, Response};
use std::{net::SocketAddr, sync::Arc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A gateway that serves a fake pool until it is dropped.
struct Served {
    address: SocketAddr,
    pool: Arc<FakePool>,
    shutdown: CancellationToken,
    serving: JoinHandle<Result<(), GatewayError>>,
}

impl Served {
    async fn start() -> Self {
        Self::with_limits(Limits::default()).await
    }

    async fn with_limits(limits: Limits) -> Self {
        Self::with_config(GatewayConfig { limits, ..GatewayConfig::loopback(0) }).await
    }

    async fn with_config(config: GatewayConfig) -> Self {
        let pool = Arc::new(FakePool::default());
        let gateway = Gateway::bind(config, pool.clone()).await.unwrap();
        let address = gateway.local_addr();
        let shutdown = CancellationToken::new();
        let serving = tokio::spawn(gateway.serve(shutdown.clone()));
        Self { address, pool, shutdown, serving }
    }

    async fn connect(&self) -> Connection {
        Connection::open(self.address).await
    }

    async fn get(&self, path: &str) -> Response {
        self.connect().await.get(path, &[]).await
    }

    async fn post(&self, path: &str, body: &str) -> Response {
        self.connect().await.post(path, &[], body).await
    }

    async fn chat(&self, body: &str) -> Response {
        self.post("/v1/chat/completions", body).await
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.serving.abort();
    }
}
