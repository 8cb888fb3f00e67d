//! The use of an invite: signed with the key that the invited person was given.

use crate::MachineKey;
use protocol::{ids::NodeId, link::Role, pool::Redemption, signed::Signed, ticket::Ticket};

/// What a machine shows to join in a role by the invite of its ticket; `None` where the ticket has no invite.
pub fn redeem(ticket: &Ticket, node: NodeId, role: Role) -> Option<Signed<Redemption>> {
    let invite = MachineKey::from_seed(ticket.invite.as_ref()?);
    Some(invite.sign(&Redemption { pool: ticket.pool, node, role }))
}
