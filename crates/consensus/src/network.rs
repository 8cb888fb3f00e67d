use bytes::Bytes;
use protocol::ids::NodeId;
use std::{fmt, sync::Arc};
use tokio::sync::mpsc;

/// Channels that the engine uses: 0 votes, 1 certificates, 2 what is missing of those, 3 new blocks, 4 old blocks. Higher
/// ones are free for others.
pub const CHANNELS: u8 = 5;

/// How a member reaches the others.
pub struct Network {
    /// Sends a message to a member on a channel. Never waits; `false` if it is certain that nothing was sent. Messages may be
    /// lost, and are then sent again by the engine; they must not be changed, nor their sender be wrong.
    pub send: Arc<dyn Fn(NodeId, u8, Bytes) -> bool + Send + Sync>,
    /// What has come, from whom. From machines that are no members of any committee it is ignored.
    pub receive: mpsc::Receiver<(NodeId, u8, Bytes)>,
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Network")
    }
}
