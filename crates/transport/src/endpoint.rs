use crate::{Boxed, Connection};
use iroh::{
    Endpoint, EndpointAddr, PublicKey, RelayMode, SecretKey, TransportAddr,
    endpoint::{AckFrequencyConfig, ConnectOptions, QuicTransportConfig, QuicTransportConfigBuilder, VarInt, presets},
};
use protocol::ids::NodeId;
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};
use trust::MachineKey;

/// A handshake that takes longer is given up.
pub const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);
/// A connection says something so often: enough to keep the paths of home routers open.
pub const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// A connection on which nothing comes for so long is lost. iroh's limit for one path; a vanished machine is noticed sooner
/// by missing messages.
pub const IDLE_TIME_MAX: Duration = Duration::from_secs(15);
/// Streams that one peer may have open: tasks of one client on one node.
const STREAMS_MAX: u32 = 256;
/// What one peer may send before it is read: bounds the memory of a connection.
const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;
const STREAM_WINDOW_BYTES: u32 = 1 << 20;

/// Where a machine listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listen {
    /// On this machine only: 127.0.0.1.
    Loopback {
        /// 0 lets the system choose.
        port: u16,
    },
    /// On every interface.
    Network {
        /// 0 lets the system choose.
        port: u16,
    },
}

impl Listen {
    /// The same place with another port.
    pub fn with_port(self, port: u16) -> Self {
        match self {
            Self::Loopback { .. } => Self::Loopback { port },
            Self::Network { .. } => Self::Network { port },
        }
    }

    fn sockets(self) -> Vec<SocketAddr> {
        match self {
            Self::Loopback { port } => vec![(Ipv4Addr::LOCALHOST, port).into()],
            Self::Network { port } => vec![(Ipv4Addr::UNSPECIFIED, port).into(), (Ipv6Addr::UNSPECIFIED, port).into()],
        }
    }
}

/// Why a machine cannot listen.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {listen:?}: {why}")]
pub struct BindError {
    listen: Listen,
    why: String,
}

/// Why another machine cannot be reached.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// Its id is not a key, or no address is known.
    #[error("no address of machine {} is known", .0.short())]
    NoAddress(NodeId),
    /// It did not answer, or is somebody else.
    #[error("machine {} does not answer at {addresses:?}: {why}", .node.short())]
    Unreachable {
        /// Which.
        node: NodeId,
        /// Where it was tried.
        addresses: Vec<SocketAddr>,
        /// What the network said.
        why: String,
    },
}

/// An incoming connection that came to nothing.
#[derive(Debug, Clone, thiserror::Error)]
#[error("handshake failed: {0}")]
pub struct HandshakeError(String);

/// This machine's place in the network.
#[derive(Debug, Clone)]
pub struct Transport {
    endpoint: Endpoint,
    listen: Listen,
}

impl Transport {
    /// Listens as the machine of `key` for the given protocols; none: dials only.
    pub fn bind<'a>(key: &'a MachineKey, listen: Listen, alpns: &'a [&[u8]]) -> Boxed<'a, Result<Self, BindError>> {
        Self::bind_with(key, listen, alpns, quic_config().build())
    }

    /// The same for who holds thousands of connections on which little is said: each takes a tenth less memory, and sends
    /// a datagram at a time. Otherwise ten are handed to the system together, and a connection that has sent anything
    /// keeps room for them.
    pub fn bind_for_many<'a>(
        key: &'a MachineKey,
        listen: Listen,
        alpns: &'a [&[u8]],
    ) -> Boxed<'a, Result<Self, BindError>> {
        Self::bind_with(key, listen, alpns, quic_config().enable_segmentation_offload(false).build())
    }

    fn bind_with<'a>(
        key: &'a MachineKey,
        listen: Listen,
        alpns: &'a [&[u8]],
        config: QuicTransportConfig,
    ) -> Boxed<'a, Result<Self, BindError>> {
        Box::pin(async move {
            let fail = |why: String| BindError { listen, why };
            let mut builder = Endpoint::builder(presets::Minimal)
                .secret_key(SecretKey::from_bytes(&key.seed()))
                .alpns(alpns.iter().map(|alpn| alpn.to_vec()).collect())
                .relay_mode(RelayMode::Disabled)
                .transport_config(config)
                .clear_ip_transports();
            for socket in listen.sockets() {
                builder = builder.bind_addr(socket).map_err(|error| fail(error.to_string()))?;
            }
            let endpoint = builder.bind().await.map_err(|error| fail(root_cause(&error)))?;
            Ok(Self { endpoint, listen })
        })
    }

    /// This machine.
    pub fn id(&self) -> NodeId {
        NodeId(*self.endpoint.id().as_bytes())
    }

    /// Where other machines reach this one.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let mut addresses: Vec<SocketAddr> = match self.listen {
            Listen::Loopback { .. } => self.endpoint.bound_sockets(),
            Listen::Network { .. } => self.endpoint.addr().ip_addrs().copied().collect(),
        };
        addresses.retain(|address| is_dialable(address.ip()));
        addresses.truncate(protocol::limits::ADDRESSES_MAX);
        addresses
    }

    /// The port it listens on, to be asked for again after a restart.
    pub fn port(&self) -> u16 {
        self.endpoint.bound_sockets().first().map_or(0, SocketAddr::port)
    }

    /// Connects to a machine and makes sure that it is the one.
    pub fn connect<'a>(
        &'a self,
        node: NodeId,
        addresses: &'a [SocketAddr],
        alpn: &'static [u8],
    ) -> Boxed<'a, Result<Connection, ConnectError>> {
        self.connect_with(node, addresses, alpn, ConnectOptions::new())
    }

    /// The same, to a machine that holds thousands of connections, for little to be said: each packet is acknowledged at
    /// once. That takes it a third less than to come back to the connection for the acknowledgement alone, as it does
    /// otherwise, in the hope of a second packet.
    pub fn connect_to_say_little<'a>(
        &'a self,
        node: NodeId,
        addresses: &'a [SocketAddr],
        alpn: &'static [u8],
    ) -> Boxed<'a, Result<Connection, ConnectError>> {
        let mut acknowledged = AckFrequencyConfig::default();
        acknowledged.ack_eliciting_threshold(VarInt::from_u32(0));
        let config = quic_config().ack_frequency_config(Some(acknowledged)).build();
        self.connect_with(node, addresses, alpn, ConnectOptions::new().with_transport_config(config))
    }

    fn connect_with<'a>(
        &'a self,
        node: NodeId,
        addresses: &'a [SocketAddr],
        alpn: &'static [u8],
        options: ConnectOptions,
    ) -> Boxed<'a, Result<Connection, ConnectError>> {
        Box::pin(async move {
            let id = PublicKey::from_bytes(node.as_bytes()).map_err(|_| ConnectError::NoAddress(node))?;
            if addresses.is_empty() {
                return Err(ConnectError::NoAddress(node));
            }
            let unreachable = |why: String| ConnectError::Unreachable { node, addresses: addresses.to_vec(), why };
            let to = EndpointAddr::from_parts(id, addresses.iter().map(|address| TransportAddr::Ip(*address)));
            let connect = async {
                let connecting = self.endpoint.connect_with_opts(to, alpn, options).await;
                let connecting = connecting.map_err(|error| root_cause(&error))?;
                connecting.await.map_err(|error| root_cause(&error))
            };
            match tokio::time::timeout(HANDSHAKE_TIME_MAX, connect).await {
                Ok(Ok(connection)) => Ok(Connection::new(connection)),
                Ok(Err(why)) => Err(unreachable(why)),
                Err(_) => Err(unreachable(format!("no answer within {} s", HANDSHAKE_TIME_MAX.as_secs()))),
            }
        })
    }

    /// The next machine that knocks; `None` after [`Transport::close`]. The handshake is the caller's to await, in a
    /// task of its own, so that one slow machine does not hold up the others.
    pub fn accept(&self) -> Boxed<'_, Option<Incoming>> {
        Box::pin(async { self.endpoint.accept().await.map(Incoming) })
    }

    /// Tells every peer, and ends.
    pub fn close(&self) -> Boxed<'_, ()> {
        Box::pin(self.endpoint.close())
    }
}

/// A machine that knocks.
pub struct Incoming(iroh::endpoint::Incoming);

impl Incoming {
    /// Lets it in, once it has proven who it is.
    pub fn handshake(self) -> Boxed<'static, Result<Connection, HandshakeError>> {
        Box::pin(async move {
            let accepting = self.0.accept().map_err(|error| HandshakeError(error.to_string()))?;
            match tokio::time::timeout(HANDSHAKE_TIME_MAX, accepting).await {
                Ok(Ok(connection)) => Ok(Connection::new(connection)),
                Ok(Err(error)) => Err(HandshakeError(error.to_string())),
                Err(_) => Err(HandshakeError("too slow".to_owned())),
            }
        })
    }

    /// Turns it away, at the least cost.
    pub fn refuse(self) {
        self.0.refuse();
    }
}

fn quic_config() -> QuicTransportConfigBuilder {
    QuicTransportConfig::builder()
        .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS_MAX))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .keep_alive_interval(KEEP_ALIVE)
        .max_idle_timeout(Some(IDLE_TIME_MAX.try_into().expect("15 s fit")))
        .default_path_keep_alive_interval(KEEP_ALIVE)
        .default_path_max_idle_timeout(IDLE_TIME_MAX)
        .datagram_receive_buffer_size(None)
}

fn is_dialable(ip: IpAddr) -> bool {
    !ip.is_unspecified() && !ip.is_multicast()
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
