//! The door: who connects, shows its ticket in time, and is let in.

mod client;
mod node;

use crate::{clients::ClientLink, shared::Shared, writer::WriteError};
use node::NodeLink;
use protocol::{
    ids::NodeId,
    limits::{self, LINK_MESSAGE_BYTES_MAX},
    link::{Denied, Hello, HelloReply, Role, Welcome},
};
use registry::{Fact, Rejection};
use std::{sync::Arc, time::Duration};
use tokio::{sync::Semaphore, time::timeout};
use transport::{Connection, Incoming, Receiver, Sender, Transport};

/// A peer that does not take what it is sent for this long is given up.
const SEND_TIME_MAX: Duration = Duration::from_secs(2);

/// Lets machines in until the transport closes.
pub(crate) async fn accept(shared: Arc<Shared>, transport: Transport) {
    let links = Arc::new(Semaphore::new(limits::LINKS_MAX));
    let strangers = Arc::new(Semaphore::new(limits::LINKS_UNADMITTED_MAX));
    while let Some(incoming) = transport.accept().await {
        let room = (Arc::clone(&links).try_acquire_owned(), Arc::clone(&strangers).try_acquire_owned());
        let (Ok(link), Ok(stranger)) = room else {
            shared.counters.links_refused.count();
            incoming.refuse();
            continue;
        };
        let owner = Arc::clone(&shared);
        shared.spawn(async move {
            let admitted = admit(&owner, incoming).await;
            drop(stranger);
            if let Some(admitted) = admitted {
                serve(&owner, admitted).await;
            }
            drop(link);
        });
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
            client::run(shared, &connection, &link).await;
        }
    }
}

async fn admit(shared: &Arc<Shared>, incoming: Incoming) -> Option<Admitted> {
    let Ok(introduced) = timeout(shared.timings.hello_max, introduce(shared, incoming)).await else {
        // What there was of a connection has been dropped, and so closed.
        shared.counters.hellos_missing.count();
        return None;
    };
    let (connection, mut sender, receiver, hello) = introduced?;
    match decide(shared, &connection, &hello).await {
        Ok(place) => {
            let welcome = Welcome { orchestrators: shared.registry().orchestrators().to_vec() };
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

/// The handshake and the first message.
async fn introduce(shared: &Shared, incoming: Incoming) -> Option<(Connection, Sender, Receiver, Hello)> {
    let connection = match incoming.handshake().await {
        Ok(connection) => connection,
        Err(error) => {
            shared.counters.handshakes_failed.count();
            tracing::debug!(%error, "a connection came to nothing");
            return None;
        }
    };
    if let Some((sender, mut receiver)) = connection.accept_stream().await
        && let Ok(Some(hello)) = receiver.message(limits::HELLO_BYTES_MAX).await
    {
        return Some((connection, sender, receiver, hello));
    }
    shared.counters.hellos_missing.count();
    connection.close("the first message of a link is a hello");
    None
}

enum Turned {
    Away(Denied),
    Failed(WriteError),
}

/// Who may come in: members of the pool, and whoever knows its secret, who is a member from then on.
async fn decide(shared: &Arc<Shared>, connection: &Connection, hello: &Hello) -> Result<Place, Turned> {
    let (node, role) = (connection.remote(), hello.role);
    if hello.pool != shared.pool {
        return Err(Turned::Away(Denied::OtherPool));
    }
    let has_role = {
        let registry = shared.registry();
        let known = registry.is_member(node) || hello.secret.as_ref().is_some_and(|secret| registry.admits(secret));
        if !known {
            return Err(Turned::Away(Denied::NotAdmitted));
        }
        registry.member(node).is_some_and(|member| member.has_role(role))
    };
    if !has_role {
        record(shared, node, role).await?;
        // A fact may be agreed on and not admit yet: where the pool's policy wants an approval first.
        if !shared.registry().member(node).is_some_and(|member| member.has_role(role)) {
            return Err(Turned::Away(Denied::NotAdmitted));
        }
    }
    let place = match role {
        Role::Node => NodeLink::enter(shared, connection).map(Place::Node),
        Role::Client => ClientLink::enter(shared, node).map(Place::Client),
    };
    place.ok_or(Turned::Away(Denied::Full))
}

/// Makes it a member, on the disk before it hears of it.
async fn record(shared: &Shared, node: NodeId, role: Role) -> Result<(), Turned> {
    let fact = Fact::MemberAdmitted { node, role, at_unix_ms: shared.now().unix_ms };
    match shared.writer.append(fact).await {
        Ok(_) => Ok(()),
        Err(WriteError::Rejected(Rejection::MembersFull)) => Err(Turned::Away(Denied::Full)),
        Err(WriteError::Rejected(_)) => Err(Turned::Away(Denied::NotAdmitted)),
        Err(error) => Err(Turned::Failed(error)),
    }
}

async fn send_reply(sender: &mut Sender, reply: &HelloReply) -> Result<(), ()> {
    match timeout(SEND_TIME_MAX, sender.message(reply, LINK_MESSAGE_BYTES_MAX)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(()),
    }
}
