//! The bare wire between a member and one orchestrator of its choice: questions and answers, without what a client does
//! beyond that.

use protocol::{
    limits::LINK_MESSAGE_BYTES_MAX as LIMIT,
    link::{ALPN, Answer, Hello, HelloReply, Question, Role},
    ticket::Ticket,
};
use transport::{Connection, Listen, Transport};
use trust::MachineKey;

/// A link of a member that asks.
pub struct PoolLink {
    transport: Transport,
    connection: Connection,
}

impl PoolLink {
    /// Joins a pool through the orchestrator in this place of the ticket.
    ///
    /// # Panics
    /// If it does not let this member in.
    pub async fn join(ticket: &Ticket, orchestrator: usize, key: &MachineKey) -> Self {
        let transport = Transport::bind(key, Listen::Loopback { port: 0 }, &[]).await.expect("bound");
        let orchestrator = &ticket.orchestrators[orchestrator];
        let connection = transport.connect(orchestrator.id, &orchestrator.addresses, ALPN).await.expect("connected");
        let (mut sender, mut receiver) = connection.open_stream().await.expect("a stream");
        let redemption = trust::redeem(ticket, transport.id(), Role::Client, &[]);
        let hello = Hello { pool: ticket.pool, secret: ticket.secret, redemption, role: Role::Client, known_epoch: 0 };
        sender.message(&hello, LIMIT).await.expect("sent");
        sender.finish();
        let reply = receiver.message(LIMIT).await.expect("an answer");
        assert!(matches!(reply, Some(HelloReply::Welcome(_))), "{reply:?}");
        Self { transport, connection }
    }

    /// Asks; `None` where no answer came.
    pub async fn ask(&self, question: &Question) -> Option<Answer> {
        let (mut sender, mut receiver) = self.connection.open_stream().await.ok()?;
        sender.message(question, LIMIT).await.ok()?;
        sender.finish();
        receiver.message(LIMIT).await.ok().flatten()
    }

    /// The connection to the orchestrator.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// The member's own end.
    pub fn transport(&self) -> &Transport {
        &self.transport
    }
}
