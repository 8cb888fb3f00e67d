//! The use of an invite: signed with the key that the invited person was given.

use crate::MachineKey;
use protocol::{ids::NodeId, limits, link::Role, pool::Redemption, signed::Signed, ticket::Ticket};

/// What a machine shows to join in a role by the invite of its ticket; `None` where the ticket has no invite. `household`:
/// the keys of its home that come in with it, itself or not.
pub fn redeem(ticket: &Ticket, own: NodeId, role: Role, household: &[(NodeId, Role)]) -> Option<Signed<Redemption>> {
    let invite = MachineKey::from_seed(ticket.invite.as_ref()?);
    let others = household.iter().filter(|(key, _)| *key != own);
    // A home lends by one key.
    let others = others.filter(|(_, other)| role == Role::Client || *other == Role::Client);
    let keys = std::iter::once((own, role)).chain(others.copied()).take(limits::REDEMPTION_KEYS_MAX).collect();
    Some(invite.sign(&Redemption { pool: ticket.pool, keys }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::ids::PoolId;

    #[test]
    fn one_use_brings_the_whole_household() {
        let key = MachineKey::generate();
        let mut ticket =
            Ticket { pool: PoolId([2; 32]), orchestrators: Vec::new(), secret: None, invite: Some(*key.seed()) };
        let household =
            [1, 2, 3, 4].map(|byte| (NodeId([byte; 32]), if byte == 1 { Role::Node } else { Role::Client }));
        for (own, role) in household {
            let redemption = crate::open(&redeem(&ticket, own, role, &household).unwrap()).unwrap();
            assert!(redemption.is_valid() && redemption.keys.len() == 4 && redemption.keys[0] == (own, role));
        }
        let alone = crate::open(&redeem(&ticket, household[1].0, Role::Client, &[]).unwrap()).unwrap();
        assert_eq!(alone.keys, [household[1]]);
        ticket.invite = None;
        assert_eq!(redeem(&ticket, household[0].0, Role::Node, &household), None);
    }
}
