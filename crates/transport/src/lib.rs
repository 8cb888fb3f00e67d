//! Connections between machines: QUIC by public key, through iroh.
//!
//! This is the only crate that names iroh. Its calls are generic and slow to compile, so everything here is concrete, and
//! the rest of the workspace sees machines ([`NodeId`]), connections and typed messages.
//!
//! ```
//! use transport::{Listen, Transport};
//! use trust::MachineKey;
//!
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! const ALPN: &[u8] = b"example/1";
//! let listener = Transport::bind(&MachineKey::generate(), Listen::Loopback { port: 0 }, &[ALPN]).await?;
//! let (id, addresses) = (listener.id(), listener.addresses());
//! tokio::spawn(async move {
//!     let incoming = listener.accept().await.expect("open").handshake().await.expect("a machine");
//!     let (mut send, mut receive) = incoming.accept_stream().await.expect("a stream");
//!     let number: u64 = receive.message(64).await.expect("a number").expect("one message");
//!     send.message(&(number + 1), 64).await.expect("sent");
//!     incoming.closed().await;
//! });
//!
//! let dialer = Transport::bind(&MachineKey::generate(), Listen::Loopback { port: 0 }, &[]).await?;
//! let connection = dialer.connect(id, &addresses, ALPN).await?;
//! let (mut send, mut receive) = connection.open_stream().await?;
//! send.message(&41u64, 64).await?;
//! assert_eq!(receive.message::<u64>(64).await?, Some(42));
//! dialer.close().await;
//! # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
//! ```
//!
//! Invariants: a connection's [`Connection::remote`] is proven by the handshake; a message is bounded before it is read;
//! nothing listens beyond loopback unless [`Listen::Network`] says so; no relay, port mapping or discovery service is
//! contacted.

mod backoff;
mod connection;
mod endpoint;

/// A future whose code is in this crate. That of an `async fn` would be compiled again by every crate that awaits it, and
/// iroh's takes minutes.
pub type Boxed<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;

pub use backoff::{Backoff, jittered};
pub use connection::{Connection, PathStats, ReceiveError, Receiver, SendError, Sender};
pub use endpoint::{
    BindError, ConnectError, HANDSHAKE_TIME_MAX, HandshakeError, IDLE_TIME_MAX, Incoming, KEEP_ALIVE, Listen, Transport,
};
pub use protocol::ids::NodeId;
