//! A node's link: its state comes up, probes go down.

use super::SEND_TIME_MAX;
use crate::{
    clock::millis, epochs, gossip, ledger, live::MODELS_BROUGHT_MAX, matching, rules::Rules, shared::Shared,
    vetting::Vetter,
};
use protocol::{
    grant::ModelRef,
    ids::{ModelDigest, NodeId},
    limits,
    link::{FromNode, ModelEntry, NodeState, ToNode},
};
use registry::Fact;
use std::sync::Arc;
use tokio::{sync::mpsc, time::timeout};
use transport::{Boxed, Connection, ReceiveError, Receiver, Sender};

/// Messages that wait for a node; one probe is under way at a time.
const OUTGOING_MAX: usize = 4;
/// Messages with words about money that are being agreed on for one node.
const WORDS_AT_ONCE: usize = 4;

/// One link of a node, as long as this lives.
pub(crate) struct NodeLink {
    shared: Arc<Shared>,
    node: NodeId,
    number: u64,
    // A channel has room for 32 messages from its beginning on: room for pointers.
    outgoing: mpsc::Receiver<Box<ToNode>>,
}

impl NodeLink {
    /// Enters the node; `None` where there is no room for it.
    pub(super) fn enter(shared: &Arc<Shared>, connection: &Connection) -> Option<Self> {
        let (sender, outgoing) = mpsc::channel(OUTGOING_MAX);
        let (node, now) = (connection.remote(), shared.now());
        let silence_max_ms = millis(shared.timings.silence_max);
        let known = {
            let registry = shared.registry();
            let agreed = registry.observed_epoch(node).zip(registry.observations(node));
            shared.observed().linked(node, agreed, now)
        };
        let number = shared.live().link(node, connection.clone(), sender, &known, now, silence_max_ms).ok()?;
        gossip::linked(shared, node);
        let is_first_home = shared.gossip().is_first_home(node);
        shared.observed().set_ours(node, is_first_home, None, now);
        shared.grudges().second_chance(node);
        epochs::score_one(shared, node);
        Some(Self { shared: Arc::clone(shared), node, number, outgoing })
    }
}

impl Drop for NodeLink {
    fn drop(&mut self) {
        if let Some(left) = gossip::unlinked(&self.shared, self.node, self.number) {
            let now = self.shared.now();
            self.shared.observed().unlinked(self.node, left, now);
        }
    }
}

/// Serves the link until it ends.
pub(super) async fn run(
    shared: &Arc<Shared>,
    connection: &Connection,
    mut sender: Sender,
    mut receiver: Receiver,
    mut link: NodeLink,
) {
    let mut vetter = Vetter::new(link.node);
    let mut told = None;
    let (saying, mut said) = mpsc::channel::<Box<ToNode>>(WORDS_AT_ONCE);
    loop {
        // A message that has begun must be read to its end, so it outlives whatever is sent meanwhile.
        let incoming = receiver.message::<FromNode>(limits::NODE_MESSAGE_BYTES_MAX);
        tokio::pin!(incoming);
        let message = loop {
            tokio::select! {
                message = &mut incoming => break message,
                Some(outgoing) = said.recv() => {
                    if !send(connection, &mut sender, &outgoing).await {
                        return;
                    }
                }
                Some(outgoing) = link.outgoing.recv() => {
                    if !send(connection, &mut sender, &outgoing).await {
                        return;
                    }
                }
            }
        };
        match message {
            Ok(Some(FromNode::Words { number, words })) => {
                // Who has too much under way already says it again.
                if let Ok(place) = saying.clone().try_reserve_owned() {
                    let owner = Arc::clone(shared);
                    shared.spawn(async move {
                        let outcomes = ledger::say(&owner, words).await;
                        place.send(Box::new(ToNode::Said { number, outcomes }));
                    });
                }
            }
            Ok(Some(message)) => {
                // Nor for this: most of the time there is no message.
                Box::pin(take(shared, &link, &mut vetter, message)).await;
                sample(shared, connection, link.node);
                let hold = shared.live().standing(link.node, shared.now());
                if told.as_ref() != Some(&hold) {
                    if !send(connection, &mut sender, &ToNode::Standing { hold: hold.clone() }).await {
                        return;
                    }
                    told = Some(hold);
                }
            }
            Err(ReceiveError::Codec(error)) => {
                shared.counters.node_messages_malformed.count();
                tracing::warn!(node = %link.node.short(), %error, "a message that is none; its link is closed");
                connection.close(&error.to_string());
                return;
            }
            Ok(None) | Err(_) => return,
        }
    }
}

/// Sends one message; false where the node does not read, and its link is closed. Seldom, so the link has no room for it.
fn send<'a>(connection: &'a Connection, sender: &'a mut Sender, message: &'a ToNode) -> Boxed<'a, bool> {
    Box::pin(async move {
        let sent = timeout(SEND_TIME_MAX, sender.message(message, limits::LINK_MESSAGE_BYTES_MAX)).await;
        let sent = matches!(sent, Ok(Ok(())));
        if !sent {
            connection.close("you do not read what you are sent");
        }
        sent
    })
}

async fn take(shared: &Shared, link: &NodeLink, vetter: &mut Vetter, message: FromNode) {
    let silence_max_ms = millis(shared.timings.silence_max);
    match message {
        FromNode::State(state) => {
            let refused = bring(shared, link.node, &state).await;
            let now = shared.now();
            let mut vetted = vetter.vet(state, &refused, now);
            {
                let registry = shared.registry();
                Rules::of(&registry, link.node).apply(&mut vetted, now.unix_ms);
                ledger::price(&registry, link.node, &mut vetted.workers);
            }
            shared.counters.states.count();
            for _ in vetted.workers.iter().filter(|worker| worker.live.hold.is_some()) {
                shared.counters.workers_refused.count();
            }
            let models: Vec<ModelDigest> = vetted.workers.iter().map(|worker| worker.live.model).collect();
            shared.live().state(link.node, link.number, vetted, now, silence_max_ms);
            for model in models {
                matching::serve(shared, model);
            }
        }
        FromNode::Unchanged => {
            let now = shared.now();
            let models = shared.live().unchanged(link.node, link.number, now, silence_max_ms);
            for model in models {
                matching::serve(shared, model);
            }
        }
        FromNode::Alive { probe } => {
            let now = shared.now();
            shared.live().alive(link.node, link.number, probe, now, silence_max_ms);
        }
        FromNode::Goodbye => {
            let now = shared.now();
            shared.live().goodbye(link.node, link.number, now);
        }
        // Taken before.
        FromNode::Words { .. } => {}
    }
}

/// Each message is an occasion to look at how it came.
fn sample(shared: &Shared, connection: &Connection, node: NodeId) {
    let now = shared.now();
    let round_trip = shared.observed().sample(node, || connection.stats(), now);
    if let Some(rtt_us) = round_trip {
        shared.live().round_trip(node, rtt_us, now);
    }
}

/// Makes models that are new facts of the pool; returns those that it does not take, and why. Each node has a share of
/// the list.
async fn bring(shared: &Shared, node: NodeId, state: &NodeState) -> Vec<(ModelDigest, String)> {
    let mut refused = Vec::new();
    for worker in state.workers.iter().take(limits::MODELS_PER_NODE_MAX) {
        let digest = worker.model.digest;
        if shared.registry().model(&ModelRef::Digest(digest)).is_some() {
            continue;
        }
        if !shared.live().may_bring(node) {
            refused.push((digest, format!("one machine brings at most {MODELS_BROUGHT_MAX} models to a pool")));
            continue;
        }
        let entry = ModelEntry { created_unix_s: shared.now().unix_ms / 1000, ..worker.model.clone() };
        match shared.say(vec![Fact::ModelAdded(entry)]).await {
            Ok(_) => shared.live().brought(node),
            Err(error) => refused.push((digest, error.to_string())),
        }
    }
    refused
}
