//! One link: a stream for each lane and direction.

use super::Inboxes;
use bytes::Bytes;
use protocol::{ids::NodeId, peer::Lane};
use tokio::{sync::mpsc, task::JoinSet};
use transport::{Connection, ReceiveError, Receiver, SendError};

/// Messages that wait for a peer in each lane.
const WAITING_MAX: usize = 512;
/// A snapshot's part may have 32 MiB: few of them wait.
const WAITING_BULK_MAX: usize = 4;

/// Hands messages to a link.
pub(super) struct Outgoing {
    number: u64,
    lanes: [mpsc::Sender<Vec<u8>>; Lane::ALL.len()],
}

/// What waits to be sent.
pub(super) type Lanes = [mpsc::Receiver<Vec<u8>>; Lane::ALL.len()];

/// The two ends of a link's queues.
pub(super) fn queues() -> (Outgoing, Lanes) {
    let pairs = Lane::ALL.map(|lane| {
        mpsc::channel(match lane {
            Lane::Bulk => WAITING_BULK_MAX,
            _ => WAITING_MAX,
        })
    });
    let (senders, receivers) = split(pairs);
    (Outgoing { number: 0, lanes: senders }, receivers)
}

fn split<A, B, const N: usize>(pairs: [(A, B); N]) -> ([A; N], [B; N]) {
    let (mut left, mut right) = (Vec::with_capacity(N), Vec::with_capacity(N));
    for (one, other) in pairs {
        left.push(one);
        right.push(other);
    }
    let whole = "as many as there were pairs";
    (left.try_into().ok().expect(whole), right.try_into().ok().expect(whole))
}

impl Outgoing {
    pub(super) fn numbered(self, number: u64) -> Self {
        Self { number, ..self }
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn send(&self, lane: Lane, channel: u8, message: &[u8]) -> bool {
        let mut frame = Vec::with_capacity(1 + message.len());
        frame.push(channel);
        frame.extend_from_slice(message);
        frame.len() <= lane.message_bytes_max() && self.lanes[usize::from(lane.number())].try_send(frame).is_ok()
    }
}

/// Sends what comes into the queues until one lane fails; why.
pub(super) async fn write(connection: &Connection, lanes: Lanes) -> String {
    let writing = Lane::ALL.into_iter().zip(lanes).map(|(lane, queue)| Box::pin(write_lane(connection, lane, queue)));
    futures_util::future::select_all(writing).await.0
}

async fn write_lane(connection: &Connection, lane: Lane, mut queue: mpsc::Receiver<Vec<u8>>) -> String {
    let send = async {
        let (mut sender, _receiver) = connection.open_stream().await?;
        sender.frame(&[lane.number()], 1).await?;
        while let Some(frame) = queue.recv().await {
            sender.frame(&frame, lane.message_bytes_max()).await?;
        }
        Ok::<(), SendError>(())
    };
    match send.await {
        Ok(()) => "replaced by a newer link".to_owned(),
        Err(error) => error.to_string(),
    }
}

/// Hands on what the peer says until the connection ends, or it says something that it should not; why.
pub(super) async fn read(connection: &Connection, inboxes: Inboxes) -> String {
    let mut lanes = JoinSet::new();
    loop {
        tokio::select! {
            stream = connection.accept_stream() => match stream {
                Some((_, receiver)) if lanes.len() < Lane::ALL.len() => {
                    lanes.spawn(read_lane(connection.remote(), receiver, inboxes.clone()));
                }
                Some(_) => return "more streams than there are lanes".to_owned(),
                None => return connection.closed().await,
            },
            Some(ended) = lanes.join_next() => {
                return ended.unwrap_or_else(|error| error.to_string());
            }
        }
    }
}

async fn read_lane(peer: NodeId, mut receiver: Receiver, inboxes: Inboxes) -> String {
    let read = async {
        let number = receiver.frame(1).await?;
        let lane = number.and_then(|number| Lane::ALL.get(usize::from(*number.first()?)).copied());
        let Some(lane) = lane else { return Ok("a lane that there is not") };
        while let Some(frame) = receiver.frame(lane.message_bytes_max()).await? {
            let channel = frame.first().copied().filter(|channel| Lane::of(*channel) == Some(lane));
            let Some(channel) = channel else {
                return Ok("a channel in another's lane");
            };
            // Where nobody reads any more, this orchestrator ends.
            let message = Bytes::from(frame).slice(1..);
            if inboxes.of(channel).send((peer, channel, message)).await.is_err() {
                break;
            }
        }
        Ok::<_, ReceiveError>("the lane has ended")
    };
    read.await.map_or_else(|error| error.to_string(), str::to_owned)
}
