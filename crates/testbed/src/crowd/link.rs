//! One link of one node of a crowd: what `darkbloom join` says and answers, in one task.

use super::Member;
use protocol::{
    codec,
    limits::LINK_MESSAGE_BYTES_MAX as LIMIT,
    link::{ALPN, FromNode, HEARTBEAT_MS, HelloReply, STATE_EVERY_HEARTBEATS, ToNode},
};
use serde::de::DeserializeOwned;
use std::{error::Error, sync::atomic::Ordering::Relaxed, time::Duration};
use tokio::time::{MissedTickBehavior, timeout};

/// As in the crate `node`.
const WELCOME_TIME_MAX: Duration = Duration::from_secs(10);
const COALESCE: Duration = Duration::from_millis(5);

type AnyError = Box<dyn Error + Send + Sync>;

pub(super) struct Link {
    connection: noq::Connection,
    send: noq::SendStream,
    receive: Messages,
}

/// Connects and shows the ticket.
pub(super) async fn establish(member: &Member) -> Result<Link, AnyError> {
    let address = *member.orchestrator.addresses.first().ok_or("the orchestrator has no address")?;
    let config = member.identity.dial(member.orchestrator.id, ALPN);
    let connecting = member.endpoint.connect_with(config, address, "orchestrator.invalid")?;
    let connection = timeout(transport::HANDSHAKE_TIME_MAX, connecting).await??;
    let (mut send, receive) = connection.open_bi().await?;
    send.write_all(&member.hello).await?;
    let mut receive = Messages { stream: receive, bytes: Vec::new() };
    match timeout(WELCOME_TIME_MAX, receive.next()).await?? {
        HelloReply::Welcome(_) => Ok(Link { connection, send, receive }),
        HelloReply::Denied(denied) => Err(denied.into()),
    }
}

/// Keeps a link until it is lost; why it was.
pub(super) async fn run(member: &Member, link: Link) -> AnyError {
    let counts = &member.counts;
    counts.linked.fetch_add(1, Relaxed);
    let mut routed = false;
    let error = match beat(member, link, &mut routed).await {
        Ok(never) => match never {},
        Err(error) => error,
    };
    counts.linked.fetch_sub(1, Relaxed);
    counts.routed.fetch_sub(usize::from(routed), Relaxed);
    error
}

enum Never {}

async fn beat(member: &Member, link: Link, routed: &mut bool) -> Result<Never, AnyError> {
    // The connection ends when this is dropped.
    let Link { connection: _connection, mut send, mut receive } = link;
    let mut heartbeat = tokio::time::interval(Duration::from_millis(HEARTBEAT_MS));
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (unchanged, mut beats) = (codec::encode_prefixed(&FromNode::Unchanged, LIMIT)?, 0);
    loop {
        let message = tokio::select! {
            message = receive.next() => Some(message?),
            _ = heartbeat.tick() => None,
        };
        match message {
            None => {
                let message = if beats % STATE_EVERY_HEARTBEATS == 0 { &member.state } else { &unchanged };
                beats += 1;
                send.write_all(message).await?;
            }
            Some(ToNode::Probe { probe }) => {
                send.write_all(&codec::encode_prefixed(&FromNode::Alive { probe }, LIMIT)?).await?;
            }
            Some(ToNode::Standing { hold }) => {
                let before = std::mem::replace(routed, hold.is_none());
                member.counts.routed.fetch_add(usize::from(*routed), Relaxed);
                member.counts.routed.fetch_sub(usize::from(before), Relaxed);
                // For a node its standing is a change of its state like any other.
                tokio::time::sleep(COALESCE).await;
                send.write_all(&member.state).await?;
                beats = 1;
            }
            Some(ToNode::Agreed(_) | ToNode::Said { .. }) => {}
        }
    }
}

/// Messages of a stream. Waiting for the next one may be given up at any time.
struct Messages {
    stream: noq::RecvStream,
    bytes: Vec<u8>,
}

impl Messages {
    async fn next<T: DeserializeOwned>(&mut self) -> Result<T, AnyError> {
        loop {
            if let Some((prefix, rest)) = self.bytes.split_first_chunk() {
                let length = codec::decode_prefix(*prefix, LIMIT)?;
                if let Some(message) = rest.get(..length) {
                    let message = codec::decode(message, LIMIT)?;
                    self.bytes.drain(..codec::PREFIX_BYTES + length);
                    self.bytes.shrink_to_fit();
                    return Ok(message);
                }
            }
            let mut more = [0; 2048];
            let count = self.stream.read(&mut more).await?.ok_or("the orchestrator ended the link")?;
            self.bytes.extend_from_slice(&more[..count]);
        }
    }
}
