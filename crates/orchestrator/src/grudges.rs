//! What one client's bad experience with a node does: at first to this client only.
//!
//! A client that says that a node failed may be right, may have a bad path to it, or may lie. So its word turns the
//! node away from *it*: after two failures in a row for a while, each further one for longer, and after five until the
//! node passes a trial or links anew. That costs a liar its own choice and nobody else's, and a node that fails
//! everything gets at most five tasks of one client. What it does to the others is the matter of [`crate::outcomes`].
//!
//! * **One crash is one failure.** Of a node that had completed tasks, what was granted before its first failure in a row
//!   and fails too fell with it: a lid that closes over eight tasks is no malice.
//! * **Need goes before grudge.** A client that finds no place elsewhere is sent to a node that failed it less than five
//!   times as soon as [`RESTED_MS`] have passed: to wait longer for it is for those who have others.

use protocol::ids::NodeId;
use std::collections::HashMap;

/// Failures in a row after which a client is not sent to a node again, until a trial says better.
const FAILURES_MAX: u32 = 5;
/// How long a node is avoided after so many failures in a row.
const AVOIDED_MS: [u64; 5] = [0, 0, RESTED_MS, 30_000, 120_000];
/// How long at least, whoever needs it.
const RESTED_MS: u64 = 5_000;
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
    // What was granted until then fell with the first failure; `None`: nothing did, each is one.
    fell: Option<u64>,
}

impl Grudge {
    /// Until when the client is not sent there; `None`: until a trial says better.
    fn avoided_until_steady_ms(&self, need: Need) -> Option<u64> {
        let avoided_ms = *AVOIDED_MS.get(self.failures as usize)?;
        let avoided_ms = if need == Need::Urgent { avoided_ms.min(RESTED_MS) } else { avoided_ms };
        Some(self.last_steady_ms.saturating_add(avoided_ms))
    }

    fn is_avoided(&self, need: Need, now_steady_ms: u64) -> bool {
        self.avoided_until_steady_ms(need).is_none_or(|until| now_steady_ms < until)
    }
}

/// How much a client needs the nodes that failed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// It may find others.
    Usual,
    /// It has found no others.
    Urgent,
}

/// A task that failed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Failure {
    pub(crate) client: NodeId,
    pub(crate) node: NodeId,
    /// The number of its permit, and of the last that anybody was given.
    pub(crate) given: u64,
    pub(crate) given_last: u64,
    /// Whether the node had completed anything since it came or was ejected.
    pub(crate) has_completed: bool,
}

/// A node that a client is not sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Avoided {
    pub(crate) node: NodeId,
    pub(crate) failures: u32,
    /// Until when, if time alone ends it.
    pub(crate) until_steady_ms: Option<u64>,
}

#[derive(Default)]
pub(crate) struct Grudges {
    clients: HashMap<NodeId, HashMap<NodeId, Grudge>>,
}

impl Grudges {
    /// A task failed. Whether that is a failure of its own, and did not fall with another.
    pub(crate) fn failed(&mut self, failure: &Failure, now_steady_ms: u64) -> bool {
        let Failure { client, node, given, given_last, has_completed } = *failure;
        if !self.clients.contains_key(&client) && self.clients.len() >= CLIENTS_MAX {
            return true;
        }
        let own = self.clients.entry(client).or_default();
        if !own.contains_key(&node) && own.len() >= NODES_PER_CLIENT_MAX {
            let oldest = own.iter().min_by_key(|(_, grudge)| grudge.last_steady_ms).map(|(node, _)| *node);
            oldest.map(|node| own.remove(&node));
        }
        let grudge = own.entry(node).or_insert(Grudge {
            failures: 0,
            last_steady_ms: now_steady_ms,
            fell: has_completed.then_some(given_last),
        });
        if grudge.failures > 0 && grudge.fell.is_some_and(|fell| given <= fell) {
            return false;
        }
        grudge.failures = (grudge.failures + 1).min(FAILURES_MAX);
        grudge.last_steady_ms = now_steady_ms;
        true
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

    /// Nodes that this client is not sent to now.
    pub(crate) fn avoided_by(&self, client: NodeId, need: Need, now_steady_ms: u64) -> Vec<Avoided> {
        let own = self.clients.get(&client).into_iter().flatten();
        let avoided = own.filter(|(_, grudge)| grudge.is_avoided(need, now_steady_ms));
        let named = avoided.map(|(node, grudge)| Avoided {
            node: *node,
            failures: grudge.failures,
            until_steady_ms: grudge.avoided_until_steady_ms(need),
        });
        named.collect()
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

    fn fail(grudges: &mut Grudges, node: NodeId, now: u64) -> bool {
        grudges.failed(&Failure { client: CLIENT, node, given: now, given_last: now, has_completed: false }, now)
    }

    fn avoided(grudges: &Grudges, need: Need, now: u64) -> Vec<(NodeId, u32)> {
        let avoided = grudges.avoided_by(CLIENT, need, now).into_iter();
        avoided.map(|Avoided { node, failures, .. }| (node, failures)).collect()
    }

    #[test]
    fn a_node_that_fails_one_client_gets_at_most_five_of_its_tasks_however_much_it_needs_it() {
        for need in [Need::Usual, Need::Urgent] {
            let mut grudges = Grudges::default();
            let (mut tasks, day_ms) = (0, 24 * 60 * 60 * 1000);
            // Every second of an hour, as far as it is sent there at all.
            for now in (day_ms..day_ms + KEPT_MS).step_by(1000) {
                if avoided(&grudges, need, now).is_empty() {
                    tasks += 1;
                    assert!(fail(&mut grudges, NODE, now));
                    assert_eq!(grudges.clients[&CLIENT][&NODE].failures, tasks.min(FAILURES_MAX));
                }
            }
            assert_eq!(tasks, FAILURES_MAX);
            assert!(grudges.avoided_by(NODE, need, day_ms).is_empty(), "others are not concerned");
            let later = day_ms + 2 * KEPT_MS;
            grudges.second_chance(NODE);
            assert!(avoided(&grudges, need, later).is_empty(), "a trial opens it again");
            fail(&mut grudges, NODE, later);
            assert_eq!(avoided(&grudges, need, later), [(NODE, FAILURES_MAX)]);
            grudges.succeeded(CLIENT, NODE);
            assert!(grudges.clients.is_empty());
        }
    }

    #[test]
    fn who_has_no_others_comes_back_sooner() {
        let mut grudges = Grudges::default();
        (0..4).for_each(|_| assert!(fail(&mut grudges, NODE, 0)));
        for (need, until) in [(Need::Usual, 120_000), (Need::Urgent, RESTED_MS)] {
            assert_eq!(grudges.avoided_by(CLIENT, need, 0)[0].until_steady_ms, Some(until));
            assert_eq!(avoided(&grudges, need, until - 1).len(), 1);
            assert!(avoided(&grudges, need, until).is_empty());
        }
        fail(&mut grudges, NODE, RESTED_MS);
        assert_eq!(grudges.avoided_by(CLIENT, Need::Urgent, KEPT_MS)[0].until_steady_ms, None, "five are enough");
    }

    #[test]
    fn what_was_granted_before_a_crash_fell_with_it() {
        let mut grudges = Grudges::default();
        let mut failed = |given, has_completed| {
            let failure = Failure { client: CLIENT, node: NODE, given, given_last: given + 5, has_completed };
            grudges.failed(&failure, 0)
        };
        assert!(failed(10, true));
        assert!(!failed(9, true) && !failed(15, true), "the same lid");
        assert!(failed(16, true) && failed(17, true), "what it is given after that counts, each");
        assert_eq!(avoided(&grudges, Need::Usual, 0), [(NODE, 3)]);
        grudges.succeeded(CLIENT, NODE);
        let failure = Failure { client: CLIENT, node: NODE, given: 0, given_last: 9, has_completed: false };
        assert!((0..5).all(|_| grudges.failed(&failure, 0)), "a node that never completed any fails each");
    }

    #[test]
    fn grudges_are_bounded_and_forgotten() {
        let mut grudges = Grudges::default();
        for number in 0..1_000u16 {
            let mut node = NodeId([0; 32]);
            node.0[..2].copy_from_slice(&number.to_be_bytes());
            fail(&mut grudges, node, u64::from(number));
            fail(&mut grudges, node, u64::from(number));
        }
        assert_eq!(avoided(&grudges, Need::Usual, 1_000).len(), NODES_PER_CLIENT_MAX);
        grudges.sweep(1_000 + KEPT_MS);
        assert!(grudges.clients.is_empty());
    }
}
