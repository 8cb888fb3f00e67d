//! How much the words of clients against a node weigh.

use protocol::ids::NodeId;
use std::collections::HashMap;

/// Failures in a row of one client that count against a node for everybody.
pub(super) const FAILURES_PER_CLIENT: u32 = 2;
/// What a client said is forgotten after this time, and it has a say again.
const FAILURES_KEPT_MS: u64 = 60 * 60 * 1000;
/// Clients whose words together eject a node without a trial.
const CLIENTS_TO_EJECT: usize = 3;
/// For so long after a passed trial no words eject.
const TRIAL_HOLDS_MS: u64 = 5 * 60 * 1000;
/// Nodes and clients that are kept in mind; a node that is forgotten begins anew.
const NODES_MAX: usize = 1 << 14;
const CLIENTS_PER_NODE_MAX: usize = 64;

/// What clients hold against each node since it last did well.
#[derive(Default)]
pub(crate) struct Testimony {
    nodes: HashMap<NodeId, Against>,
}

#[derive(Default)]
struct Against {
    // Of each client, how many and since when.
    failures: HashMap<NodeId, (u32, u64)>,
    accused_by: Option<NodeId>,
    passed_steady_ms: Option<u64>,
}

impl Against {
    fn passed_lately(&self, now_steady_ms: u64) -> bool {
        self.passed_steady_ms.is_some_and(|at| now_steady_ms.saturating_sub(at) < TRIAL_HOLDS_MS)
    }
}

/// What one more failure that a client reports does to the node's record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weight {
    /// Nothing: the client has said enough.
    None,
    /// It counts, and ejects nobody: too few say so, or a trial has just shown otherwise.
    Word,
    /// It counts like what is seen.
    Full,
}

impl Testimony {
    fn of(&mut self, node: NodeId) -> &mut Against {
        if self.nodes.len() >= NODES_MAX && !self.nodes.contains_key(&node) {
            self.nodes.clear();
        }
        self.nodes.entry(node).or_default()
    }

    /// What one more failure that this client reports is for everybody.
    pub(super) fn failed(&mut self, node: NodeId, client: NodeId, now_steady_ms: u64) -> Weight {
        let against = self.of(node);
        let passed_lately = against.passed_lately(now_steady_ms);
        let failures = &mut against.failures;
        failures.retain(|_, (_, since)| now_steady_ms.saturating_sub(*since) < FAILURES_KEPT_MS);
        if failures.len() >= CLIENTS_PER_NODE_MAX && !failures.contains_key(&client) {
            return Weight::None;
        }
        let (own, _) = failures.entry(client).or_insert((0, now_steady_ms));
        *own = own.saturating_add(1);
        match *own <= FAILURES_PER_CLIENT {
            false => Weight::None,
            true if passed_lately || failures.len() < CLIENTS_TO_EJECT => Weight::Word,
            true => Weight::Full,
        }
    }

    /// A task went well. That a client takes back its own failures is its right; another's are taken back by others.
    pub(super) fn success(&mut self, node: NodeId, client: NodeId) {
        if let Some(against) = self.nodes.get_mut(&node) {
            let others = against.failures.keys().any(|other| *other != client);
            let own = against.failures.remove(&client).is_some();
            if others && !own {
                against.failures.clear();
            }
        }
    }

    /// An audit failed. Whether a second client says so, and no trial has just shown otherwise.
    pub(super) fn accused(&mut self, node: NodeId, client: NodeId, now_steady_ms: u64) -> bool {
        let against = self.of(node);
        let second = against.accused_by.replace(client).is_some_and(|first| first != client);
        second && !against.passed_lately(now_steady_ms)
    }

    /// A trial of our own showed how the node is. What clients have said already still counts as said: a trial that
    /// passes gives nobody a new say.
    pub(super) fn tried(&mut self, node: NodeId, passed: bool, now_steady_ms: u64) {
        let against = self.of(node);
        against.accused_by = None;
        against.passed_steady_ms = passed.then_some(now_steady_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = NodeId([1; 32]);
    const LIAR: NodeId = NodeId([2; 32]);
    const OTHER: NodeId = NodeId([3; 32]);

    #[test]
    fn one_client_s_failures_count_twice_and_another_s_success_ends_them() {
        let mut testimony = Testimony::default();
        let counted = (0..100).filter(|_| testimony.failed(NODE, LIAR, 0) != Weight::None).count();
        assert_eq!(counted, FAILURES_PER_CLIENT as usize);
        assert_eq!(testimony.failed(NODE, OTHER, 0), Weight::Word);
        testimony.success(NODE, LIAR);
        assert_eq!(testimony.failed(NODE, OTHER, 0), Weight::Word, "taking back one's own leaves the others'");
        assert_eq!(testimony.failed(NODE, OTHER, 0), Weight::None);
        testimony.success(NODE, NodeId([4; 32]));
        assert_eq!([LIAR, OTHER].map(|client| testimony.failed(NODE, client, 0)), [Weight::Word; 2]);
    }

    #[test]
    fn three_voices_eject_unless_a_trial_has_just_passed() {
        let mut testimony = Testimony::default();
        let clients = [LIAR, OTHER, NodeId([4; 32])];
        let say = |testimony: &mut Testimony, now| clients.map(|client| testimony.failed(NODE, client, now));
        assert_eq!(say(&mut testimony, 0), [Weight::Word, Weight::Word, Weight::Full]);
        testimony.tried(NODE, true, 1);
        assert_eq!(say(&mut testimony, 2), [Weight::Word; 3]);
        assert_eq!(say(&mut testimony, TRIAL_HOLDS_MS + 1), [Weight::None; 3], "a trial gives no new say");
        assert_eq!(say(&mut testimony, FAILURES_KEPT_MS), [Weight::Word, Weight::Word, Weight::Full]);
    }

    #[test]
    fn an_accusation_needs_a_second_voice() {
        let mut testimony = Testimony::default();
        assert!((0..100).all(|_| !testimony.accused(NODE, LIAR, 0)));
        assert!(testimony.accused(NODE, OTHER, 0));
        testimony.tried(NODE, true, 0);
        assert!(!testimony.accused(NODE, OTHER, 1));
        assert!(!testimony.accused(NODE, LIAR, 1), "a trial has just shown otherwise");
        assert!(testimony.accused(NODE, OTHER, TRIAL_HOLDS_MS));
    }
}
