use crate::Boxed;
use iroh::endpoint::{ConnectionError, ReadError, ReadExactError, RecvStream, SendStream, VarInt, WriteError};
use protocol::{
    codec::{self, CodecError},
    ids::NodeId,
};
use serde::{Serialize, de::DeserializeOwned};
use std::time::Duration;

/// A connection to a machine that has proven who it is.
#[derive(Debug, Clone)]
pub struct Connection {
    inner: iroh::endpoint::Connection,
    remote: NodeId,
}

/// What QUIC has measured on the way to a peer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PathStats {
    /// The smoothed round-trip time of the path in use (RFC 9002, section 5.3).
    pub rtt: Duration,
    /// Packets sent since the connection began, on every path.
    pub sent_packets: u64,
    /// Those of them that were lost.
    pub lost_packets: u64,
}

/// Why a message was not sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The message exceeds its limit.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The peer does not want to hear more.
    #[error("the peer stopped listening")]
    Stopped,
    /// The connection is gone.
    #[error("connection lost: {0}")]
    Lost(String),
}

/// Why a message was not received.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiveError {
    /// Too long, or not the message it should be.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The stream ended in the middle of a message.
    #[error("the stream ended in the middle of a message")]
    Truncated,
    /// The peer gave the stream up.
    #[error("the peer cancelled")]
    Reset,
    /// The connection is gone.
    #[error("connection lost: {0}")]
    Lost(String),
}

impl Connection {
    pub(crate) fn new(inner: iroh::endpoint::Connection) -> Self {
        let remote = NodeId(*inner.remote_id().as_bytes());
        Self { inner, remote }
    }

    /// The machine on the other end.
    pub fn remote(&self) -> NodeId {
        self.remote
    }

    /// Whether both are the same connection.
    pub fn is(&self, other: &Connection) -> bool {
        self.inner.stable_id() == other.inner.stable_id()
    }

    /// The protocol that both agreed on.
    pub fn alpn(&self) -> &[u8] {
        self.inner.alpn()
    }

    /// A new stream. The peer sees it with the first message.
    pub fn open_stream(&self) -> Boxed<'_, Result<(Sender, Receiver), SendError>> {
        Box::pin(async {
            let (send, receive) = self.inner.open_bi().await.map_err(|error| SendError::Lost(error.to_string()))?;
            Ok((Sender::new(send), Receiver(receive)))
        })
    }

    /// The next stream that the peer opens; `None` when the connection is gone.
    pub fn accept_stream(&self) -> Boxed<'_, Option<(Sender, Receiver)>> {
        Box::pin(async {
            let (send, receive) = self.inner.accept_bi().await.ok()?;
            Some((Sender::new(send), Receiver(receive)))
        })
    }

    /// What QUIC has measured so far. Costs a lock, no packet.
    pub fn stats(&self) -> PathStats {
        let connection = self.inner.stats();
        let paths = self.inner.paths();
        let rtt = paths.iter().find(|path| path.is_selected()).or_else(|| paths.iter().next()).map(|path| path.rtt());
        PathStats {
            rtt: rtt.unwrap_or_default(),
            sent_packets: connection.sent_packets,
            lost_packets: connection.lost_packets,
        }
    }

    /// Whether it is still there, as far as is known.
    pub fn is_open(&self) -> bool {
        self.inner.close_reason().is_none()
    }

    /// Waits for its end and says why.
    pub fn closed(&self) -> Boxed<'_, String> {
        Box::pin(async {
            match self.inner.closed().await {
                ConnectionError::ApplicationClosed(close) => String::from_utf8_lossy(&close.reason).into_owned(),
                error => error.to_string(),
            }
        })
    }

    /// Ends it; `why` reaches the peer.
    pub fn close(&self, why: &str) {
        self.inner.close(VarInt::from_u32(0), why.as_bytes());
    }
}

/// The sending half of a stream. Dropping it without [`Sender::finish`] resets the stream.
#[derive(Debug)]
pub struct Sender {
    stream: SendStream,
    ended: bool,
}

impl Sender {
    fn new(stream: SendStream) -> Self {
        Self { stream, ended: false }
    }

    /// Sends one message, at most `limit` bytes long.
    pub async fn message<T: Serialize>(&mut self, message: &T, limit: usize) -> Result<(), SendError> {
        self.bytes(&codec::encode_prefixed(message, limit)?).await
    }

    /// Sends bytes as they are, at most `limit` of them, to be read by [`Receiver::frame`].
    pub async fn frame(&mut self, frame: &[u8], limit: usize) -> Result<(), SendError> {
        self.bytes(&codec::prefix(frame, limit)?).await?;
        self.bytes(frame).await
    }

    fn bytes<'a>(&'a mut self, bytes: &'a [u8]) -> Boxed<'a, Result<(), SendError>> {
        Box::pin(async move {
            self.stream.write_all(bytes).await.map_err(|error| match error {
                WriteError::Stopped(_) | WriteError::ClosedStream => SendError::Stopped,
                error => SendError::Lost(error.to_string()),
            })
        })
    }

    /// No more messages; those sent are still delivered.
    pub fn finish(&mut self) {
        self.ended = true;
        // Fails only where the stream has ended already.
        let _ = self.stream.finish();
    }

    /// Waits until the peer stops listening, has received everything after [`Sender::finish`], or is gone.
    pub fn stopped(&self) -> Boxed<'static, ()> {
        let stopped = self.stream.stopped();
        Box::pin(async move {
            // Every outcome is an end.
            let _ = stopped.await;
        })
    }

    /// Gives the stream up; what was sent may be lost.
    pub fn reset(&mut self) {
        self.ended = true;
        let _ = self.stream.reset(VarInt::from_u32(0));
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        // A stream that is dropped is cancelled, not taken for complete.
        if !self.ended {
            self.reset();
        }
    }
}

/// The receiving half of a stream. Dropping it tells the peer to stop.
#[derive(Debug)]
pub struct Receiver(RecvStream);

impl Receiver {
    /// The next message, at most `limit` bytes long; `None` at the stream's proper end.
    pub async fn message<T: DeserializeOwned>(&mut self, limit: usize) -> Result<Option<T>, ReceiveError> {
        match self.frame(limit).await? {
            Some(bytes) => Ok(Some(codec::decode(&bytes, limit)?)),
            None => Ok(None),
        }
    }

    /// The next message as bytes, at most `limit` of them; `None` at the stream's proper end.
    pub fn frame(&mut self, limit: usize) -> Boxed<'_, Result<Option<Vec<u8>>, ReceiveError>> {
        Box::pin(async move {
            let mut prefix = [0; codec::PREFIX_BYTES];
            match self.0.read_exact(&mut prefix).await {
                Ok(()) => {}
                Err(ReadExactError::FinishedEarly(0)) => return Ok(None),
                Err(error) => return Err(receive_error(error)),
            }
            let mut bytes = Vec::new();
            let mut missing = codec::decode_prefix(prefix, limit)?;
            // Grows with what arrives, so that a length alone costs us nothing.
            while missing > 0 {
                let at = bytes.len();
                let step = missing.min(64 << 10);
                bytes.resize(at + step, 0);
                self.0.read_exact(&mut bytes[at..]).await.map_err(receive_error)?;
                missing -= step;
            }
            Ok(Some(bytes))
        })
    }

    /// Tells the peer that nobody listens.
    pub fn stop(&mut self) {
        let _ = self.0.stop(VarInt::from_u32(0));
    }
}

fn receive_error(error: ReadExactError) -> ReceiveError {
    match error {
        ReadExactError::FinishedEarly(_) => ReceiveError::Truncated,
        ReadExactError::ReadError(ReadError::Reset(_)) => ReceiveError::Reset,
        ReadExactError::ReadError(error) => ReceiveError::Lost(error.to_string()),
    }
}
