//! Links between the orchestrators of a pool: what one says to another on a channel arrives there, or is lost.
//!
//! Nothing here waits for a peer. Each lane of each link has a queue of bounded length; what does not fit is dropped, and
//! those who speak through it say it again, as consensus does anyway.

mod link;

use bytes::Bytes;
use protocol::{
    ids::NodeId,
    peer::{ALPN, LIVE, Lane},
    ticket::OrchestratorAddress,
};
use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use transport::{Connection, Transport};

/// Messages that wait to be read here, of all peers together; further ones wait in QUIC's window.
const INCOMING_MAX: usize = 1_024;
const RETRY_AFTER_MIN: Duration = Duration::from_millis(100);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3);

/// A message of a peer: who says it, on which channel, and what.
pub(crate) type Message = (NodeId, u8, Bytes);

/// The links to the other orchestrators.
pub(crate) struct Peers {
    own: NodeId,
    transport: Transport,
    state: Mutex<State>,
    inboxes: Inboxes,
    stop: CancellationToken,
    tasks: TaskTracker,
}

#[derive(Default)]
struct State {
    /// Where each peer listens, and what ends the search for it.
    known: BTreeMap<NodeId, (Vec<SocketAddr>, CancellationToken)>,
    links: HashMap<NodeId, link::Outgoing>,
    last_number: u64,
}

/// Where what arrives is put.
#[derive(Clone)]
struct Inboxes {
    agreement: mpsc::Sender<Message>,
    live: mpsc::Sender<Message>,
}

impl Inboxes {
    fn of(&self, channel: u8) -> &mpsc::Sender<Message> {
        if channel == LIVE { &self.live } else { &self.agreement }
    }
}

/// What arrives from peers.
pub(crate) struct Inbox {
    /// Channels of agreement.
    pub(crate) agreement: mpsc::Receiver<Message>,
    /// What nodes say of themselves.
    pub(crate) live: mpsc::Receiver<Message>,
}

impl Peers {
    /// No links yet: [`Peers::keep`] makes them.
    pub(crate) fn new(transport: Transport) -> (Arc<Self>, Inbox) {
        let (agreement, to_agreement) = mpsc::channel(INCOMING_MAX);
        let (live, to_live) = mpsc::channel(INCOMING_MAX);
        let (own, inboxes) = (transport.id(), Inboxes { agreement, live });
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let peers = Self { own, transport, state: Mutex::default(), inboxes, stop, tasks };
        (Arc::new(peers), Inbox { agreement: to_agreement, live: to_live })
    }

    /// From now on these are the peers; links to others end.
    pub(crate) fn keep(self: &Arc<Self>, orchestrators: &[OrchestratorAddress]) {
        let mut state = self.state();
        let wanted = |id: &NodeId| *id != self.own && orchestrators.iter().any(|peer| peer.id == *id);
        state.known.retain(|id, (_, search)| {
            let keep = wanted(id);
            if !keep {
                search.cancel();
            }
            keep
        });
        state.links.retain(|id, _| wanted(id));
        for peer in orchestrators.iter().filter(|peer| peer.id != self.own) {
            let search = CancellationToken::new();
            match state.known.get_mut(&peer.id) {
                Some((addresses, _)) => addresses.clone_from(&peer.addresses),
                None => {
                    state.known.insert(peer.id, (peer.addresses.clone(), search.clone()));
                    let (own, id) = (Arc::clone(self), peer.id);
                    self.tasks.spawn(async move {
                        tokio::select! {
                            () = own.stop.cancelled() => {}
                            () = search.cancelled() => {}
                            () = own.search(id) => {}
                        }
                    });
                }
            }
        }
    }

    /// Whether this machine is one of the peers.
    pub(crate) fn is_peer(&self, id: NodeId) -> bool {
        self.state().known.contains_key(&id)
    }

    /// Every orchestrator, this one included, and where it listens.
    pub(crate) fn committee(&self) -> Vec<OrchestratorAddress> {
        let own = OrchestratorAddress { id: self.own, addresses: self.transport.addresses() };
        let state = self.state();
        let others = state.known.iter();
        let others = others.map(|(id, (addresses, _))| OrchestratorAddress { id: *id, addresses: addresses.clone() });
        std::iter::once(own).chain(others).collect()
    }

    /// Peers that have a link now.
    pub(crate) fn linked(&self) -> Vec<NodeId> {
        self.state().links.keys().copied().collect()
    }

    /// Says something to a peer. False where it is certain that it will not arrive.
    pub(crate) fn send(&self, to: NodeId, channel: u8, message: &[u8]) -> bool {
        let Some(lane) = Lane::of(channel) else { return false };
        let state = self.state();
        state.links.get(&to).is_some_and(|link| link.send(lane, channel, message))
    }

    /// Serves a connection that a peer has made, until it ends.
    pub(crate) fn accepted(self: &Arc<Self>, connection: Connection) {
        let own = Arc::clone(self);
        self.tasks.spawn(async move {
            let ended = own.serve(&connection).await;
            tracing::info!(peer = %connection.remote().short(), ended, "the link of an orchestrator is down");
        });
    }

    /// Ends every link.
    pub(crate) async fn shutdown(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Dials a peer whenever there is no link to it. The one with the lower id is first, so that there is one link and not
    /// two; the other one helps where the first does not know the way.
    async fn search(self: &Arc<Self>, id: NodeId) {
        let mut retry_after = RETRY_AFTER_MIN;
        if self.own > id {
            tokio::time::sleep(RETRY_AFTER_MAX).await;
        }
        loop {
            let (addresses, is_linked) = {
                let state = self.state();
                let Some((addresses, _)) = state.known.get(&id) else { return };
                (addresses.clone(), state.links.contains_key(&id))
            };
            if is_linked || addresses.is_empty() {
                let pause = if self.own > id { RETRY_AFTER_MAX } else { RETRY_AFTER_MIN };
                tokio::time::sleep(pause).await;
                continue;
            }
            match self.transport.connect(id, &addresses, ALPN).await {
                Ok(connection) => {
                    retry_after = RETRY_AFTER_MIN;
                    let ended = self.serve(&connection).await;
                    tracing::info!(peer = %id.short(), ended, "the link to an orchestrator is down");
                }
                Err(error) => tracing::debug!(peer = %id.short(), %error, "an orchestrator cannot be reached"),
            }
            tokio::time::sleep(transport::jittered(retry_after)).await;
            retry_after = (retry_after * 2).min(RETRY_AFTER_MAX);
        }
    }

    /// Carries messages both ways until the connection ends; why it did.
    async fn serve(self: &Arc<Self>, connection: &Connection) -> String {
        let peer = connection.remote();
        let (outgoing, lanes) = link::queues();
        let number = {
            let mut state = self.state();
            if !state.known.contains_key(&peer) {
                return "it is no orchestrator any more".to_owned();
            }
            state.last_number += 1;
            let number = state.last_number;
            state.links.insert(peer, outgoing.numbered(number));
            number
        };
        tracing::info!(peer = %peer.short(), "linked to an orchestrator");
        let ended = tokio::select! {
            ended = link::write(connection, lanes) => ended,
            ended = link::read(connection, self.inboxes.clone()) => ended,
            () = self.stop.cancelled() => "this orchestrator ends".to_owned(),
        };
        let mut state = self.state();
        if state.links.get(&peer).is_some_and(|link| link.number() == number) {
            state.links.remove(&peer);
        }
        drop(state);
        connection.close(&ended);
        ended
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change under the lock is whole, whatever happened to its holder.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
