//! What one client's bad experience with a node does: at first to this client only.
//!
//! A client that says that a node failed may be right, may have a bad path to it, or may lie. So its word turns the
//! node away from *it*: after two failures in a row for a while, each further one for longer, and after five until the
//! node passes a trial or links anew: a lid that closes over eight tasks is no malice. That costs a liar its own choice
//! and nobody else's, and a node that fails everything gets at most five tasks of one client. What it does to the
//! others is the matter of [`crate::outcomes`].

use protocol::ids::NodeId;
use std::collections::HashMap;

/// Failures in a row after which a client is not sent to a node again, until a trial says better.
const FAILURES_MAX: u32 = 5;
/// How long a node is avoided after so many failures in a row.
const AVOIDED_MS: [u64; 5] = [0, 0, 5_000, 30_000, 120_000];
/// A failure is forgotten after this time; a node that was given up, after a day.
const KEPT_MS: u64 = 60 * 60 * 1000;
const GIVEN_UP_KEPT_MS: u64 = 24 * KEPT_MS;
/// Nodes that one client may bear a grudge against: as many as one question may exclude.
const NODES_PER_CLIENT_MAX: usize = protocol::limits::EXCLUDED_MAX;
/// Clients that are kept in mind.
const CLIENTS_MAX: usize = 1 << 14;

#[derive(Debug, Clone, Copy)]
struct Grudge {
    failures: u32,
    last_steady_ms: u64,
}

impl Grudge {
    fn is_avoided(&self, now_steady_ms: u64) -> bool {
        let passed_ms = now_steady_ms.saturating_sub(self.last_steady_ms);
        match AVOIDED_MS.get(self.failures as usize) {
            Some(avoided_ms) => passed_ms < *avoided_ms,
            None => true,
        }
    }
}

#[derive(Default)]
pub(crate) struct Grudges {
    clients: HashMap<NodeId, HashMap<NodeId, Grudge>>,
}

impl Grudges {
    /// A task of this client failed on this node. Returns how many did in a row.
    pub(crate) fn failed(&mut self, client: NodeId, node: NodeId, now_steady_ms: u64) -> u32 {
        if !self.clients.contains_key(&client) && self.clients.len() >= CLIENTS_MAX {
            return 1;
        }
        let own = self.clients.entry(client).or_default();
        if !own.contains_key(&node) && own.len() >= NODES_PER_CLIENT_MAX {
            let oldest = own.iter().min_by_key(|(_, grudge)| grudge.last_steady_ms).map(|(node, _)| *node);
            oldest.map(|node| own.remove(&node));
        }
        let grudge = own.entry(node).or_insert(Grudge { failures: 0, last_steady_ms: now_steady_ms });
        grudge.failures = (grudge.failures + 1).min(FAILURES_MAX);
        grudge.last_steady_ms = now_steady_ms;
        grudge.failures
    }

    /// A task of this client went well on this node.
    pub(crate) fn succeeded(&mut self, client: NodeId, node: NodeId) {
        if let Some(own) = self.clients.get_mut(&client) {
            own.remove(&node);
            if own.is_empty() {
                self.clients.remove(&client);
            }
        }
    }

    /// The node passed a trial, or went and came back: whoever gave it up may try it once more, some time after its
    /// last failure.
    pub(crate) fn second_chance(&mut self, node: NodeId) {
        for own in self.clients.values_mut() {
            if let Some(grudge) = own.get_mut(&node) {
                grudge.failures = grudge.failures.min(FAILURES_MAX - 1);
            }
        }
    }

    /// Nodes that this client is not sent to now, with the failures.
    pub(crate) fn avoided_by(&self, client: NodeId, now_steady_ms: u64) -> Vec<(NodeId, u32)> {
        let own = self.clients.get(&client).into_iter().flatten();
        own.filter(|(_, grudge)| grudge.is_avoided(now_steady_ms))
            .map(|(node, grudge)| (*node, grudge.failures))
            .collect()
    }

    /// Forgets what is long ago.
    pub(crate) fn sweep(&mut self, now_steady_ms: u64) {
        self.clients.retain(|_, own| {
            own.retain(|_, grudge| {
                let kept_ms = if grudge.failures < FAILURES_MAX { KEPT_MS } else { GIVEN_UP_KEPT_MS };
                now_steady_ms.saturating_sub(grudge.last_steady_ms) < kept_ms
            });
            !own.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: NodeId = NodeId([1; 32]);
    const NODE: NodeId = NodeId([2; 32]);

    #[test]
    fn a_node_that_fails_one_client_gets_at_most_five_of_its_tasks() {
        let mut grudges = Grudges::default();
        let (mut tasks, day_ms) = (0, 24 * 60 * 60 * 1000);
        // Every second of an hour, as far as it is sent there at all.
        for now in (day_ms..day_ms + KEPT_MS).step_by(1000) {
            if grudges.avoided_by(CLIENT, now).is_empty() {
                tasks += 1;
                assert_eq!(grudges.failed(CLIENT, NODE, now), tasks.min(FAILURES_MAX));
            }
        }
        assert_eq!(tasks, FAILURES_MAX);
        assert!(grudges.avoided_by(NODE, day_ms).is_empty(), "others are not concerned");
        let later = day_ms + 2 * KEPT_MS;
        grudges.second_chance(NODE);
        assert!(grudges.avoided_by(CLIENT, later).is_empty(), "a trial opens it again");
        grudges.failed(CLIENT, NODE, later);
        assert_eq!(grudges.avoided_by(CLIENT, later), [(NODE, FAILURES_MAX)]);
        grudges.succeeded(CLIENT, NODE);
        assert!(grudges.clients.is_empty());
    }

    #[test]
    fn grudges_are_bounded_and_forgotten() {
        let mut grudges = Grudges::default();
        for number in 0..1_000u16 {
            let mut node = NodeId([0; 32]);
            node.0[..2].copy_from_slice(&number.to_be_bytes());
            grudges.failed(CLIENT, node, u64::from(number));
            grudges.failed(CLIENT, node, u64::from(number));
        }
        assert_eq!(grudges.avoided_by(CLIENT, 1_000).len(), NODES_PER_CLIENT_MAX);
        grudges.sweep(1_000 + KEPT_MS);
        assert!(grudges.clients.is_empty());
    }
}
