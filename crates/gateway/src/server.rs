//! Listening, connections, and a shutdown that lets answers finish.

use crate::{
    asker::Asker,
    auth::{Admission, ApiKey},
    connections::{Busy, Connection, Connections},
    error::ApiError,
    limits::{ACCEPT_FAILURES_MAX, ACCEPT_PAUSE, LISTEN_BACKLOG, Limits},
    metrics::Metrics,
    routes::{self, Shared},
};
use axum::{Router, body::Body, body::HttpBody};
use futures_util::future::BoxFuture;
use hyper::{
    body::{Frame, Incoming, SizeHint},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use std::{
    io::{self, Write},
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// Where the gateway listens, who may ask, and how much it holds.
#[derive(Debug, Clone)]
pub struct GatewayConfig {
    /// The address. One that is not loopback needs a key.
    pub bind: SocketAddr,
    /// Keys that open the API; none: whoever is on this machine may ask.
    pub keys: Vec<ApiKey>,
    /// What it holds at most.
    pub limits: Limits,
}

impl GatewayConfig {
    /// Loopback at this port, no key, default limits. Port 0 takes any free one.
    pub fn loopback(port: u16) -> Self {
        Self { bind: SocketAddr::from(([127, 0, 0, 1], port)), keys: Vec::new(), limits: Limits::default() }
    }
}

/// Why a gateway does not serve.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GatewayError {
    /// Others can reach the address, and nothing would keep them out.
    #[error(
        "{address} can be reached from other machines: set an API key, or bind to a loopback address such as 127.0.0.1:7433"
    )]
    KeyRequired {
        /// The address that was asked for.
        address: SocketAddr,
    },
    /// The address cannot be taken.
    #[error("cannot listen on {address}: choose another port, or end what holds this one")]
    Bind {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The listener failed again and again while it served.
    #[error("{address} accepts no more connections: raise the limit of open files, or end what uses them up")]
    Accept {
        /// The address it served.
        address: SocketAddr,
        /// What the system said last.
        source: io::Error,
    },
}

/// An OpenAI-compatible HTTP server that is bound to its address.
#[derive(Debug)]
pub struct Gateway {
    listener: TcpListener,
    address: SocketAddr,
    router: Router,
    connections: Arc<Connections>,
    metrics: Arc<Metrics>,
    limits: Limits,
}

impl Gateway {
    /// Takes the address. Connections queue from now on and are answered by [`serve`](Self::serve).
    pub fn bind(config: GatewayConfig, asker: Arc<dyn Asker>) -> BoxFuture<'static, Result<Self, GatewayError>> {
        // Boxed here and below, so that the code is compiled in this crate and not again in each that awaits it.
        Box::pin(Self::listen(config, asker))
    }

    async fn listen(config: GatewayConfig, asker: Arc<dyn Asker>) -> Result<Self, GatewayError> {
        let GatewayConfig { bind: address, keys, limits } = config;
        let admission = if !keys.is_empty() {
            Admission::Keyed(keys)
        } else if address.ip().to_canonical().is_loopback() {
            Admission::Local
        } else {
            return Err(GatewayError::KeyRequired { address });
        };
        let listener = listen(address).map_err(|source| GatewayError::Bind { address, source })?;
        let address = listener.local_addr().map_err(|source| GatewayError::Bind { address, source })?;
        let metrics = Arc::new(Metrics::new());
        let shared = Shared::new(asker, admission, limits.clone(), Arc::clone(&metrics));
        let connections = Connections::new(limits.clone());
        Ok(Self { listener, address, router: routes::router(Arc::new(shared)), connections, metrics, limits })
    }

    /// The address it listens on, with the port that it got.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown`, then lets answers in flight finish within [`Limits::drain_timeout`]. Dropping the
    /// future cuts every connection.
    pub fn serve(self, shutdown: CancellationToken) -> BoxFuture<'static, Result<(), GatewayError>> {
        Box::pin(self.accept_until(shutdown))
    }

    async fn accept_until(self, shutdown: CancellationToken) -> Result<(), GatewayError> {
        let cut = CancellationToken::new();
        let _cut_on_drop = cut.clone().drop_guard();
        let draining = CancellationToken::new();
        let overdue = tokio::spawn(Arc::clone(&self.connections).close_overdue());
        let _stop_on_drop = AbortOnDrop(overdue);

        let result = tokio::select! {
            error = self.accept(&cut, &draining) => Err(error),
            () = shutdown.cancelled() => Ok(()),
        };
        let Self { listener, connections, limits, .. } = self;
        drop(listener);
        draining.cancel();
        connections.close_waiting();
        if tokio::time::timeout(limits.drain_timeout, connections.drained()).await.is_err() {
            tracing::warn!(connections = connections.open(), "answers still in flight are cut off");
            cut.cancel();
            connections.drained().await;
        }
        result
    }

    async fn accept(&self, cut: &CancellationToken, draining: &CancellationToken) -> GatewayError {
        let mut failures = 0;
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    failures = 0;
                    match self.connections.admit(cut.child_token()) {
                        Some(connection) => {
                            self.metrics.connections.inc();
                            let metrics = Arc::clone(&self.metrics);
                            let serving = serve_connection(
                                stream,
                                self.router.clone(),
                                connection,
                                draining.clone(),
                                self.limits.clone(),
                            );
                            tokio::spawn(async move {
                                serving.await;
                                metrics.connections.dec();
                            });
                        }
                        None => {
                            self.metrics.connections_refused.inc();
                            refuse(stream);
                        }
                    }
                }
                Err(source) if is_peers_fault(&source) => {}
                Err(source) => {
                    failures += 1;
                    if failures == ACCEPT_FAILURES_MAX {
                        return GatewayError::Accept { address: self.address, source };
                    }
                    tracing::warn!(error = %source, "accepting a connection failed");
                    // Most often descriptors are short: a connection that nobody uses gives one back.
                    self.connections.close_longest_waiting();
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restart must not wait for the old connections' TIME_WAIT. On Windows the option would share the port.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(LISTEN_BACKLOG)
}

fn is_peers_fault(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// Says why, as far as the socket takes it at once, and closes.
fn refuse(stream: TcpStream) {
    let body = ApiError::overloaded("Too many requests are in progress on this gateway", 1000).envelope();
    let mut response = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         retry-after: 1\r\nconnection: close\r\n\r\n",
        body.len()
    )
    .into_bytes();
    response.extend_from_slice(&body);
    // Best effort: the peer may be gone, and waiting for it is what this limit prevents.
    let _ = stream.into_std().and_then(|mut stream| stream.write_all(&response));
}

async fn serve_connection(
    stream: TcpStream,
    router: Router,
    connection: Arc<Connection>,
    draining: CancellationToken,
    limits: Limits,
) {
    // A token is smaller than a segment: without this Nagle's algorithm holds it back.
    let _ = stream.set_nodelay(true);
    let service = {
        let connection = Arc::clone(&connection);
        service_fn(move |request: hyper::Request<Incoming>| {
            let busy = connection.busy();
            let answering = router.clone().oneshot(request.map(Body::new));
            async move { answering.await.map(|response| response.map(|body| Tracked { body, busy })) }
        })
    };
    let mut serving = pin!(
        http1::Builder::new()
            // `Connections` has the deadlines: they differ for a first request and for the next.
            .header_read_timeout(None)
            .max_buf_size(limits.connection_buffer_bytes_max)
            .serve_connection(TokioIo::new(stream), service)
    );
    let mut stall_check = tokio::time::interval((limits.stall_timeout / 4).max(Duration::from_millis(10)));
    let mut is_draining = false;
    loop {
        tokio::select! {
            // An error here is the peer's: it left, or sent what is not HTTP (which hyper answers with 400 or 431).
            _ = serving.as_mut() => return,
            () = connection.closed().cancelled() => return,
            () = draining.cancelled(), if !is_draining => {
                is_draining = true;
                serving.as_mut().graceful_shutdown();
            }
            _ = stall_check.tick() => {
                if connection.is_stalled() {
                    tracing::debug!("a reader left its answer unread");
                    return;
                }
            }
        }
    }
}

/// An answer's body that tells its connection when it is taken and when it ends.
struct Tracked {
    body: Body,
    busy: Busy,
}

impl HttpBody for Tracked {
    type Data = <Body as HttpBody>::Data;
    type Error = <Body as HttpBody>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        match frame {
            Poll::Ready(Some(_)) => self.busy.handed_over(),
            Poll::Ready(None) | Poll::Pending => self.busy.asked(),
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
