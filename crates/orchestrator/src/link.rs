//! The door: who connects, shows its ticket in time, and is let in.

mod client;
mod node;
mod reading;

use crate::{anchor, clients::ClientLink, ledger, peers::Peers, shared::Shared};
use committee::SayError;
use node::NodeLink;
use protocol::{
    ids::NodeId,
    limits::{self, LINK_MESSAGE_BYTES_MAX},
    link::{Denied, Hello, HelloReply, Role, Welcome},
    peer,
};
use registry::{Fact, Rejection, State, keys};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use transport::{Connection, Incoming, Receiver, Sender, Transport};

/// A peer that does not take what it is sent for this long is given up.
const SEND_TIME_MAX: Duration = Duration::from_secs(2);

/// Who knocks before this orchestrator has taken its place in the committee waits; other orchestrators do not.
pub(crate) struct Door {
    pub(crate) peers: Arc<Peers>,
    pub(crate) shared: watch::Receiver<Option<Arc<Shared>>>,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
}

/// Lets machines in until the transport closes.
pub(crate) async fn accept(door: Door, transport: Transport) {
    let links = Arc::new(Semaphore::new(limits::LINKS_MAX));
    let strangers = Arc::new(Semaphore::new(limits::LINKS_UNADMITTED_MAX));
    while let Some(Some(incoming)) = door.stop.run_until_cancelled(transport.accept()).await {
        let room = (Arc::clone(&links).try_acquire_owned(), Arc::clone(&strangers).try_acquire_owned());
        let (Ok(link), Ok(stranger)) = room else {
            if let Some(shared) = &*door.shared.borrow() {
                shared.counters.links_refused.count();
            }
            incoming.refuse();
            continue;
        };
        let (peers, shared, stop) = (Arc::clone(&door.peers), door.shared.clone(), door.stop.clone());
        door.tasks.spawn(async move {
            // Boxed, because an `async` block keeps room for what it hands on. Either way it is over.
            let _ = stop.run_until_cancelled_owned(Box::pin(let_in(peers, shared, incoming, (link, stranger)))).await;
        });
    }
}

/// Takes one connection from the handshake to where it is served. It has a place among all, and at first one among strangers.
async fn let_in(
    peers: Arc<Peers>,
    mut shared: watch::Receiver<Option<Arc<Shared>>>,
    incoming: Incoming,
    (link, stranger): (OwnedSemaphorePermit, OwnedSemaphorePermit),
) {
    let connection = match incoming.handshake().await {
        Ok(connection) => connection,
        Err(error) => {
            if let Some(shared) = &*shared.borrow() {
                shared.counters.handshakes_failed.count();
            }
            tracing::debug!(%error, "a connection came to nothing");
            return;
        }
    };
    if connection.alpn() == peer::ALPN {
        drop(stranger);
        if peers.is_peer(connection.remote()) {
            peers.accepted(connection);
        } else {
            connection.close("no orchestrator of this pool");
        }
        return;
    }
    let shared = match shared.wait_for(Option::is_some).await {
        Ok(shared) => Arc::clone(shared.as_ref().expect("waited for")),
        // It ends before it has begun.
        Err(_) => return,
    };
    let admitted = admit(&shared, connection).await;
    drop(stranger);
    if let Some(admitted) = admitted {
        // A task of its own, as small as what it does: the memory that it took to let the machine in is free again.
        let owner = Arc::clone(&shared);
        shared.spawn(Box::pin(async move {
            serve(&owner, admitted).await;
            drop(link);
        }));
    }
}

struct Admitted {
    connection: Connection,
    sender: Sender,
    receiver: Receiver,
    place: Place,
}

/// A machine's place, until it is dropped.
enum Place {
    Node(NodeLink),
    Client(ClientLink),
}

async fn serve(shared: &Arc<Shared>, admitted: Admitted) {
    let Admitted { connection, mut sender, receiver, place } = admitted;
    match place {
        Place::Node(link) => node::run(shared, &connection, sender, receiver, link).await,
        Place::Client(link) => {
            sender.finish();
            drop(receiver);
            Box::pin(client::run(shared, &connection, &link)).await;
        }
    }
}

async fn admit(shared: &Arc<Shared>, connection: Connection) -> Option<Admitted> {
    let Ok(Some((mut sender, receiver, hello))) = timeout(shared.timings.hello_max, introduce(&connection)).await
    else {
        shared.counters.hellos_missing.count();
        connection.close("the first message of a link is a hello");
        return None;
    };
    match decide(shared, &connection, &hello).await {
        Ok(place) => {
            let welcome = welcome(shared, &hello).await;
            shared.counters.admitted.count();
            send_reply(&mut sender, &HelloReply::Welcome(welcome)).await.ok()?;
            Some(Admitted { connection, sender, receiver, place })
        }
        Err(Turned::Away(denied)) => {
            match denied {
                Denied::OtherPool => shared.counters.denied_other_pool.count(),
                Denied::Full => shared.counters.denied_full.count(),
                _ => shared.counters.denied_not_admitted.count(),
            }
            if send_reply(&mut sender, &HelloReply::Denied(denied)).await.is_ok() {
                sender.finish();
                // Closing at once could overtake the answer.
                let _ = timeout(SEND_TIME_MAX, sender.stopped()).await;
            }
            connection.close(&denied.to_string());
            None
        }
        Err(Turned::Failed(error)) => {
            connection.close(&error.to_string());
            None
        }
    }
}

/// What a machine is told on its admission; a node also who the committee is, as far as it does not know it.
async fn welcome(shared: &Shared, hello: &Hello) -> Welcome {
    let orchestrators = shared.peers.committee();
    if hello.role == Role::Client {
        return Welcome { orchestrators, agreement: None };
    }
    // Right after a start there is nothing to show yet, and in a moment there is.
    let _ = shared.anchors.first().await;
    let handovers = shared.member.handovers(hello.known_epoch).await;
    let params = shared.registry().state().read(&keys::params());
    let newest = shared.anchors.current();
    let agreement =
        params.map(|params| Box::new(anchor::agreement(anchor::lineage(params.genesis, handovers), newest.as_deref())));
    Welcome { orchestrators, agreement }
}

/// The first message.
async fn introduce(connection: &Connection) -> Option<(Sender, Receiver, Hello)> {
    let (sender, mut receiver) = connection.accept_stream().await?;
    let hello = receiver.message(limits::HELLO_BYTES_MAX).await.ok()??;
    Some((sender, receiver, hello))
}

enum Turned {
    Away(Denied),
    Failed(SayError),
}

/// Who may come in: members of the pool, and whoever knows its secret or has an invite, who is a member from then on.
async fn decide(shared: &Arc<Shared>, connection: &Connection, hello: &Hello) -> Result<Place, Turned> {
    let (node, role) = (connection.remote(), hello.role);
    if hello.pool != shared.pool {
        return Err(Turned::Away(Denied::OtherPool));
    }
    if !may_enter(shared, node, role) {
        record(shared, admitting(shared, node, hello).ok_or(Turned::Away(Denied::NotAdmitted))?).await?;
        // A fact may be agreed on and not admit yet: where the pool's policy wants an approval first.
        match shared.registry().member(node) {
            Some(member) if member.has_role(role) => {}
            Some(member) if member.is_pending => return Err(Turned::Away(Denied::AwaitsApproval)),
            None if role == Role::Client && shared.registry().may_read(node) => {}
            _ => return Err(Turned::Away(Denied::NotAdmitted)),
        }
        let is_in = |state: &State| match state.read(&keys::member(node)) {
            Some(member) => member.has_role(role),
            None => state.read(&keys::standing(node.into())).is_some(),
        };
        shared.anchors.show(is_in).await;
    }
    ledger::start(shared, node);
    let place = match role {
        Role::Node => NodeLink::enter(shared, connection).map(Place::Node),
        Role::Client => ClientLink::enter(shared, node).map(Place::Client),
    };
    place.ok_or(Turned::Away(Denied::Full))
}

/// Whether a machine takes part in this role, or comes to read as an account that may.
fn may_enter(shared: &Shared, node: NodeId, role: Role) -> bool {
    let registry = shared.registry();
    registry.member(node).is_some_and(|member| member.has_role(role))
        || (role == Role::Client && registry.may_read(node))
}

/// What makes this machine a member in the role that it comes in; `None` where nothing does.
fn admitting(shared: &Shared, node: NodeId, hello: &Hello) -> Option<Fact> {
    let registry = shared.registry();
    if registry.is_member(node) || hello.secret.as_ref().is_some_and(|secret| registry.admits(secret)) {
        return Some(Fact::MemberAdmitted { node, role: hello.role, at_unix_ms: shared.now().unix_ms });
    }
    let redemption = hello.redemption.clone()?;
    let said = redemption.decode_unverified().ok()?;
    // Whether the invite holds is decided when the fact is applied: two that use one invite come in some order.
    (said.is_valid() && said.keys.contains(&(node, hello.role))).then_some(Fact::Joined { redemption })
}

/// Makes it a member: agreed on before it hears of it.
async fn record(shared: &Shared, fact: Fact) -> Result<(), Turned> {
    match shared.say(vec![fact]).await {
        Ok(_) => Ok(()),
        Err(SayError::Rejected(Rejection::MembersFull)) => Err(Turned::Away(Denied::Full)),
        Err(SayError::Rejected(_)) => Err(Turned::Away(Denied::NotAdmitted)),
        Err(error) => Err(Turned::Failed(error)),
    }
}

async fn send_reply(sender: &mut Sender, reply: &HelloReply) -> Result<(), ()> {
    match timeout(SEND_TIME_MAX, sender.message(reply, LINK_MESSAGE_BYTES_MAX)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(()),
    }
}
