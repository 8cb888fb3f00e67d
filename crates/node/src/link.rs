//! The links to orchestrators: state up, probes down, again and again.

use crate::{
    agreed::NotBelieved,
    state::{Link, Shared},
};
use protocol::{
    limits::LINK_MESSAGE_BYTES_MAX as LIMIT,
    link::{
        ALPN, Denied, FromNode, HEARTBEAT_MS, Hello, HelloReply, NodeState, Role, STATE_EVERY_HEARTBEATS, ToNode,
        Welcome,
    },
    ticket::OrchestratorAddress,
    time::unix_ms,
};
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::{sync::oneshot, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use transport::{Backoff, ConnectError, Connection, NodeId, ReceiveError, Receiver, SendError, Sender, Transport};

const WELCOME_TIME_MAX: Duration = Duration::from_secs(10);
/// Changes within this time travel together.
const COALESCE: Duration = Duration::from_millis(5);
/// Messages about money that wait for a link.
const WORDS_WAITING_MAX: usize = 4;
const GOODBYE_TIME_MAX: Duration = Duration::from_secs(1);

/// How the first attempt went.
pub(crate) enum Admission {
    Admitted,
    Denied(Denied),
    Unreachable,
}

#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("not admitted: {0}")]
    Denied(Denied),
    #[error(transparent)]
    Send(#[from] SendError),
    #[error(transparent)]
    Receive(#[from] ReceiveError),
    #[error("the orchestrator ended the link: {0}")]
    Ended(String),
    #[error("the orchestrator does not answer")]
    Silent,
    #[error("what it shows of the pool's committee is not believed: {0}")]
    NotBelieved(NotBelieved),
}

/// Keeps a link to one orchestrator or another until `stop`, then says goodbye.
pub(crate) async fn keep(
    shared: Arc<Shared>,
    transport: Transport,
    admitted: oneshot::Sender<Admission>,
    stop: CancellationToken,
) {
    let mut admitted = Some(admitted);
    let mut tell = |admission| {
        if let Some(first) = admitted.take() {
            // Nobody waits for it after start-up.
            let _ = first.send(admission);
        }
    };
    let mut backoff = Backoff::default();
    while !stop.is_cancelled() {
        let Some(orchestrator) = shared.lock().homes.take() else {
            // All that there are have a link.
            tell(Admission::Unreachable);
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(transport::jittered(Backoff::MAX)) => continue,
            }
        };
        let error = tokio::select! {
            // A link that is up ends by itself, with a goodbye.
            biased;
            result = establish(&shared, &transport, &orchestrator) => match result {
                Ok(link) => {
                    tell(Admission::Admitted);
                    backoff.reset();
                    match run(&shared, orchestrator.id, link, &stop).await {
                        Ok(()) => return,
                        Err(error) => error,
                    }
                }
                Err(error) => error,
            },
            () = stop.cancelled() => return,
        };
        tell(match &error {
            LinkError::Denied(denied) => Admission::Denied(*denied),
            _ => Admission::Unreachable,
        });
        tracing::warn!(orchestrator = %orchestrator.id.short(), %error, "link down");
        let other = shared.update(|state| {
            state.outlets.remove(&orchestrator.id);
            state.links.insert(orchestrator.id, Link { error: Some(error.to_string()), ..Link::default() });
            state.homes.failed(orchestrator.id)
        });
        // Who has failed less is tried at once, but not by all nodes in the same moment.
        let pause = if other { transport::jittered(Backoff::MIN) } else { backoff.pause() };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

struct Established {
    connection: Connection,
    sender: Sender,
    receiver: Receiver,
}

async fn establish(
    shared: &Shared,
    transport: &Transport,
    orchestrator: &OrchestratorAddress,
) -> Result<Established, LinkError> {
    let connection = transport.connect_to_say_little(orchestrator.id, &orchestrator.addresses, ALPN).await?;
    let (mut sender, mut receiver) = connection.open_stream().await?;
    let ticket = &shared.config.ticket;
    let redemption = trust::redeem(ticket, shared.id, Role::Node, &shared.config.household);
    let known_epoch = shared.lock().agreed.epoch();
    let hello = Hello { pool: ticket.pool, secret: ticket.secret, redemption, role: Role::Node, known_epoch };
    sender.message(&hello, LIMIT).await?;
    let reply = tokio::time::timeout(WELCOME_TIME_MAX, receiver.message(LIMIT));
    match reply.await.map_err(|_| LinkError::Silent)?? {
        Some(HelloReply::Welcome(welcome)) => {
            if let Err(why) = welcome_to(shared, orchestrator, welcome) {
                connection.close("not believed");
                return Err(LinkError::NotBelieved(why));
            }
            Ok(Established { connection, sender, receiver })
        }
        Some(HelloReply::Denied(denied)) => Err(LinkError::Denied(denied)),
        None => Err(LinkError::Ended(connection.closed().await)),
    }
}

/// Takes a place with an orchestrator, if it is believed about who the committee is.
fn welcome_to(shared: &Shared, orchestrator: &OrchestratorAddress, welcome: Welcome) -> Result<(), NotBelieved> {
    let now_unix_ms = unix_ms(SystemTime::now());
    shared.update(|state| {
        state.agreed.take(welcome.agreement.as_deref(), orchestrator.id, now_unix_ms)?;
        state.homes.learn(&welcome.orchestrators);
        state.homes.linked(orchestrator.id);
        let known: Vec<NodeId> = welcome.orchestrators.iter().map(|orchestrator| orchestrator.id).collect();
        state.links.retain(|id, link| link.connected || known.contains(id));
        state.links.insert(orchestrator.id, Link { connected: true, ..Link::default() });
        Ok(())
    })
}

/// Runs an established link; `Ok` after a goodbye.
async fn run(
    shared: &Shared,
    orchestrator: NodeId,
    link: Established,
    stop: &CancellationToken,
) -> Result<(), LinkError> {
    let Established { connection, mut sender, mut receiver } = link;
    let (messages, mut incoming) = tokio::sync::mpsc::channel(16);
    // Reading a message must not be interrupted half-way, so it has a task of its own.
    let reader = tokio::spawn(async move {
        loop {
            match receiver.message(LIMIT).await {
                Ok(Some(message)) => {
                    if messages.send(message).await.is_err() {
                        return Ok(());
                    }
                }
                Ok(None) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    });
    let (outlet, mut words) = tokio::sync::mpsc::channel(WORDS_WAITING_MAX);
    shared.lock().outlets.insert(orchestrator, outlet);
    let mut changes = shared.watch();
    let mut heartbeat = tokio::time::interval(Duration::from_millis(HEARTBEAT_MS));
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut said = Said::default();
    loop {
        let message = tokio::select! {
            biased;
            () = stop.cancelled() => {
                sender.message(&FromNode::Goodbye, LIMIT).await?;
                sender.finish();
                // The goodbye has arrived when the stream is acknowledged.
                let _ = tokio::time::timeout(GOODBYE_TIME_MAX, sender.stopped()).await;
                connection.close("goodbye");
                reader.abort();
                return Ok(());
            }
            message = incoming.recv() => match message {
                Some(ToNode::Probe { probe }) => FromNode::Alive { probe },
                Some(ToNode::Standing { hold }) => {
                    let standing = Some(hold);
                    shared.update(|state| state.links.insert(orchestrator, Link { connected: true, error: None, standing }));
                    continue;
                }
                Some(ToNode::Agreed(agreement)) => {
                    let now_unix_ms = unix_ms(SystemTime::now());
                    let taken = shared.update(|state| state.agreed.take(Some(&agreement), orchestrator, now_unix_ms));
                    if let Err(why) = taken {
                        // It is none any more, or there is more to know: either way the next link begins with that.
                        connection.close("not believed");
                        return Err(LinkError::NotBelieved(why));
                    }
                    continue;
                }
                Some(ToNode::Said { number, outcomes }) => {
                    shared.books.said(number, outcomes);
                    continue;
                }
                None => {
                    reader.await.unwrap_or(Ok(()))?;
                    return Err(LinkError::Ended(connection.closed().await));
                }
            },
            Some(words) = words.recv() => words,
            _ = changes.changed() => {
                tokio::time::sleep(COALESCE).await;
                changes.mark_unchanged();
                said.changed(shared.announcement())
            }
            _ = heartbeat.tick() => said.beat(shared.announcement()),
        };
        sender.message(&message, LIMIT).await?;
    }
}

/// What was said of the node's state on one link.
#[derive(Default)]
struct Said {
    state: Option<NodeState>,
    beats: u32,
}

impl Said {
    /// Something may have changed: said at once.
    fn changed(&mut self, state: NodeState) -> FromNode {
        self.beats = 0;
        self.state = Some(state.clone());
        FromNode::State(state)
    }

    /// It is time to say something.
    fn beat(&mut self, state: NodeState) -> FromNode {
        self.beats += 1;
        // Some of it changes without a signal.
        if self.beats < STATE_EVERY_HEARTBEATS && self.state.as_ref() == Some(&state) {
            return FromNode::Unchanged;
        }
        self.changed(state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(active_tasks: u32) -> NodeState {
        NodeState { label: String::new(), addresses: Vec::new(), workers: Vec::new(), active_tasks, hold: None }
    }

    #[test]
    fn the_state_is_said_first_when_it_changes_and_now_and_then() {
        let mut said = Said::default();
        assert_eq!(said.beat(state(0)), FromNode::State(state(0)), "the first of a link");
        for _ in 1..STATE_EVERY_HEARTBEATS {
            assert_eq!(said.beat(state(0)), FromNode::Unchanged);
        }
        assert_eq!(said.beat(state(0)), FromNode::State(state(0)), "it is repeated");
        assert_eq!(said.beat(state(0)), FromNode::Unchanged);
        assert_eq!(said.beat(state(1)), FromNode::State(state(1)), "it changed");
        assert_eq!(said.changed(state(1)), FromNode::State(state(1)), "somebody says that it may have");
    }
}
