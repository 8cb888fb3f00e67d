//! What happens to messages on their way, beside that links are cut.

use crate::scheme::node_id;
use bytes::Bytes;
use commonware_cryptography::ed25519::PublicKey;
use commonware_p2p::{Receiver as _, simulated};
use commonware_runtime::{Clock as _, Spawner as _, Supervisor as _, deterministic::Context};
use protocol::ids::NodeId;
use rand::Rng as _;
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::mpsc;

/// How messages travel between two members.
#[derive(Debug, Clone, Copy)]
pub struct Wire {
    /// The mean time on the way.
    pub latency: Duration,
    /// Its standard deviation.
    pub jitter: Duration,
}

impl Default for Wire {
    fn default() -> Self {
        Self { latency: Duration::from_millis(10), jitter: Duration::from_millis(5) }
    }
}

/// What goes wrong with messages that get through: so many of a thousand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Weather {
    /// Are lost.
    pub lost: u64,
    /// Come twice.
    pub twice: u64,
    /// Come late, so that others that were sent later come before them.
    pub late: u64,
    /// How late at most.
    pub late_max: Duration,
}

/// A message of a machine, before it is sent.
#[derive(Debug, Clone)]
pub struct Message {
    /// 1 if it is the twin's.
    pub brain: usize,
    /// To whom.
    pub to: NodeId,
    /// On which of the channels ([`crate::CHANNELS`]).
    pub channel: u8,
    /// What.
    pub bytes: Bytes,
}

/// What a machine that lies sends in the place of a message.
pub type Hand = Arc<dyn Fn(Message) -> Vec<Message> + Send + Sync>;

pub(super) type Inbox = Arc<Mutex<Option<mpsc::Sender<(NodeId, u8, Bytes)>>>>;

/// Takes in what comes on one channel of a machine.
pub(super) async fn carry<const N: usize>(
    mut context: Context,
    channel: u8,
    mut receiver: simulated::Receiver<PublicKey>,
    inboxes: [Inbox; N],
    weather: Arc<Mutex<Weather>>,
) {
    while let Ok((from, message)) = receiver.recv().await {
        let (from, bytes) = (node_id(&from), Bytes::copy_from_slice(message.as_ref()));
        let weather = *weather.lock().unwrap_or_else(PoisonError::into_inner);
        if weather == Weather::default() {
            deliver(&inboxes, from, channel, &bytes);
            continue;
        }
        let mut is_one_of = |count: u64| context.next_u64() % 1000 < count;
        let (is_lost, is_twice, is_late) = (is_one_of(weather.lost), is_one_of(weather.twice), is_one_of(weather.late));
        let late_ms = context.next_u64() % u64::try_from(weather.late_max.as_millis()).unwrap_or(u64::MAX).max(1);
        if is_lost {
            continue;
        }
        if is_late || is_twice {
            let (inboxes, bytes) = (inboxes.clone(), bytes.clone());
            context.child("late").spawn(move |context| async move {
                context.sleep(Duration::from_millis(late_ms)).await;
                deliver(&inboxes, from, channel, &bytes);
            });
        }
        if !is_late {
            deliver(&inboxes, from, channel, &bytes);
        }
    }
}

fn deliver(inboxes: &[Inbox], from: NodeId, channel: u8, bytes: &Bytes) {
    for inbox in inboxes {
        let inbox = inbox.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(inbox) = &*inbox {
            // A full inbox loses messages, as elsewhere.
            let _ = inbox.try_send((from, channel, bytes.clone()));
        }
    }
}
