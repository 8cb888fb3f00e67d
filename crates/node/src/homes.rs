//! Which orchestrators a node is linked to: [`HOMES`] of the pool's, so that one may fail.
//! Which ones, [`preference`] says.

use protocol::{ids::NodeId, peer::preference, ticket::OrchestratorAddress};
use std::{cmp::Reverse, collections::BTreeMap, net::SocketAddr};

/// Links that a node keeps.
pub(crate) const HOMES: usize = 2;

/// The orchestrators that a node knows.
pub(crate) struct Homes {
    own: NodeId,
    known: BTreeMap<NodeId, Known>,
}

struct Known {
    addresses: Vec<SocketAddr>,
    /// It is one of the homes, or is tried now.
    taken: bool,
    /// Attempts in a row that failed.
    failures: u32,
}

impl Homes {
    /// Those of a ticket.
    pub(crate) fn new(own: NodeId, orchestrators: &[OrchestratorAddress]) -> Self {
        let mut homes = Self { own, known: BTreeMap::new() };
        homes.add(orchestrators);
        homes
    }

    fn add(&mut self, orchestrators: &[OrchestratorAddress]) {
        for orchestrator in orchestrators.iter().filter(|orchestrator| !orchestrator.addresses.is_empty()) {
            let new = || Known { addresses: Vec::new(), taken: false, failures: 0 };
            self.known.entry(orchestrator.id).or_insert_with(new).addresses.clone_from(&orchestrator.addresses);
        }
    }

    /// What an orchestrator says of who there is: others are tried no more.
    pub(crate) fn learn(&mut self, orchestrators: &[OrchestratorAddress]) {
        self.known.retain(|id, known| known.taken || orchestrators.iter().any(|other| other.id == *id));
        self.add(orchestrators);
    }

    /// The next one to be tried, if there is one: those that failed least, of these the preferred one.
    pub(crate) fn take(&mut self) -> Option<OrchestratorAddress> {
        let own = self.own;
        let free = self.known.iter_mut().filter(|(_, known)| !known.taken);
        let (id, known) = free.min_by_key(|(id, known)| (known.failures, Reverse(preference(own, **id))))?;
        known.taken = true;
        Some(OrchestratorAddress { id: *id, addresses: known.addresses.clone() })
    }

    /// It is a home.
    pub(crate) fn linked(&mut self, id: NodeId) {
        if let Some(known) = self.known.get_mut(&id) {
            known.failures = 0;
        }
    }

    /// It could not be reached, or is no home any more. Whether another one has failed less, and can be tried at once.
    pub(crate) fn failed(&mut self, id: NodeId) -> bool {
        let Some(known) = self.known.get_mut(&id) else { return true };
        known.taken = false;
        known.failures = known.failures.saturating_add(1);
        let failures = known.failures;
        self.known.values().any(|known| !known.taken && known.failures < failures)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn orchestrators(count: u8) -> Vec<OrchestratorAddress> {
        let address =
            |byte| OrchestratorAddress { id: NodeId([byte; 32]), addresses: vec!["127.0.0.1:1".parse().unwrap()] };
        (0..count).map(address).collect()
    }

    #[test]
    fn nodes_spread_over_the_orchestrators() {
        let mut homes = [0; 4];
        for node in 0..400u32 {
            let mut own = [0; 32];
            own[..4].copy_from_slice(&node.to_le_bytes());
            let mut known = Homes::new(NodeId(own), &orchestrators(4));
            (0..HOMES).for_each(|_| homes[usize::from(known.take().unwrap().id.0[0])] += 1);
        }
        assert!(homes.iter().all(|count| (150..250).contains(count)), "{homes:?}");
    }

    #[test]
    fn who_fails_comes_after_the_others() {
        let mut homes = Homes::new(NodeId([9; 32]), &orchestrators(3));
        let (first, second) = (homes.take().unwrap().id, homes.take().unwrap().id);
        assert!(homes.failed(first), "there is a third");
        let third = homes.take().unwrap().id;
        assert!(third != first && third != second);
        assert!(!homes.failed(third), "both have failed once");
        let again = homes.take().unwrap().id;
        assert!(homes.failed(again), "now the other one has failed less");
        homes.linked(second);
        assert_eq!(homes.take().unwrap().id, if again == first { third } else { first });
    }

    #[test]
    fn who_is_no_orchestrator_any_more_is_not_tried() {
        let mut homes = Homes::new(NodeId([9; 32]), &orchestrators(1));
        assert!(homes.take().is_some() && homes.take().is_none());
        homes.learn(&orchestrators(4)[1..]);
        homes.failed(NodeId([0; 32]));
        homes.learn(&orchestrators(4)[1..]);
        let tried: Vec<u8> = std::iter::from_fn(|| homes.take()).map(|home| home.id.0[0]).collect();
        assert!(tried.len() == 3 && !tried.contains(&0));
    }
}
