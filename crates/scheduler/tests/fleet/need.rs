//! A pool that has ejected too many of its nodes tries them sooner, and whoever asks is told when one may be back.

use crate::strategies::{CLIENT, NOW, fleet, plain, pool};
use protocol::{
    grant::{Refusal, RefusalKind},
    hold::Hold,
    ids::{ModelDigest, NodeId},
};
use scheduler::{
    Fleet, LiveNode, LiveWorker, NEED_ONE_IN, Now, Presence, Task,
    record::{NEEDED_AGAIN_MS, TRIES_TO_RETURN},
};
use trust::score::Attestation;

const MODEL: ModelDigest = ModelDigest([0; 32]);

fn idle(byte: u8) -> LiveNode {
    LiveNode {
        silent_from_steady_ms: u64::MAX,
        attestation: Attestation::Vouched,
        workers: vec![LiveWorker::new(MODEL, 4, 1_000_000_000)],
        ..LiveNode::new(NodeId([byte; 32]), NOW)
    }
}

fn later(ms: u64) -> Now {
    Now { unix_ms: NOW.unix_ms + ms, steady_ms: NOW.steady_ms + ms }
}

/// So many nodes, of which the first are ejected, and have been so often that their back-off is long.
fn of_which_ejected(nodes: usize, ejected: usize) -> Fleet {
    let live: Vec<LiveNode> = (0..nodes).map(|byte| idle(byte as u8)).collect();
    let mut fleet = fleet(&live, NOW);
    for live in &live[..ejected] {
        (0..6).for_each(|_| fleet.canary(live.node, MODEL, false, NOW));
    }
    fleet
}

fn refusal(fleet: &mut Fleet, now: Now) -> Refusal {
    let request = plain();
    fleet.rank(&pool(), &Task::new(CLIENT, &request), now, 0).expect_err("nobody has a place")
}

#[test]
fn ejected_nodes_are_tried_soon_where_more_than_a_third_are_and_only_there() {
    let nodes = 4 * NEED_ONE_IN;
    let soon = later(NEEDED_AGAIN_MS);
    let mut fleet = of_which_ejected(nodes, nodes / NEED_ONE_IN);
    assert!(fleet.canaries_due(soon, nodes).is_empty(), "a third: there are others");
    // One more is ejected.
    let one_more = NodeId([nodes as u8 - 1; 32]);
    fleet.canary(one_more, MODEL, false, NOW);
    assert_eq!(fleet.canaries_due(soon, nodes).len(), nodes / NEED_ONE_IN + 1);
    assert!(fleet.canaries_due(later(NEEDED_AGAIN_MS - 1), nodes).is_empty());
    assert_eq!(fleet.canaries_due(soon, 2).len(), 2, "no more than asked for");
    // Each at the same short distance, and one passed trial is not enough.
    let first = NodeId([0; 32]);
    assert!(
        fleet.is_tried_enough(first, MODEL, later(NEEDED_AGAIN_MS - 1)) && !fleet.is_tried_enough(first, MODEL, soon)
    );
    for round in 1..=u64::from(TRIES_TO_RETURN) {
        let now = later(round * NEEDED_AGAIN_MS);
        assert!(fleet.get(first).unwrap().record(MODEL).is_ejected());
        assert!(fleet.canaries_due(now, nodes).contains(&(first, MODEL)));
        fleet.canary_sent(first, MODEL, now);
        assert!(!fleet.canaries_due(now, nodes).contains(&(first, MODEL)) && fleet.is_tried_enough(first, MODEL, now));
        fleet.canary(first, MODEL, true, now);
    }
    assert!(!fleet.get(first).unwrap().record(MODEL).is_ejected());
    let due = fleet.canaries_due(later(60_000), nodes);
    assert_eq!(due, [(one_more, MODEL)], "it is back, and the need is over: only back-offs count");
    // Nodes that are not there need nobody, and are nobody's need.
    let others: Vec<NodeId> = (nodes / NEED_ONE_IN..nodes - 1).map(|byte| NodeId([byte as u8; 32])).collect();
    for node in others {
        fleet.update(node, NOW, |live| live.presence = Presence::Left);
    }
    assert_eq!(fleet.canaries_due(soon, nodes).len(), nodes / NEED_ONE_IN, "of those that are there it is too many");
    for byte in 0..nodes {
        fleet.remove(NodeId([byte as u8; 32]));
    }
    assert!(fleet.canaries_due(later(u64::MAX / 2), nodes).is_empty());
}

#[test]
fn a_refusal_says_when_a_node_may_be_back_if_that_can_be_said() {
    let mut fleet = of_which_ejected(1, 1);
    let said = refusal(&mut fleet, NOW);
    assert_eq!((said.kind, said.reasons[0].1.code()), (RefusalKind::NoNode, "ejected"));
    let in_time = u64::from(said.retry_after_ms.expect("two trials from now"));
    let trials_ms = u64::from(TRIES_TO_RETURN) * NEEDED_AGAIN_MS;
    assert!((trials_ms..trials_ms + NEEDED_AGAIN_MS).contains(&in_time), "{in_time}");
    let after_one_ms = u64::from(refusal(&mut fleet, later(NEEDED_AGAIN_MS)).retry_after_ms.unwrap());
    assert_eq!(after_one_ms, in_time - NEEDED_AGAIN_MS, "it comes nearer");

    let node = NodeId([0; 32]);
    let mut fleet = crate::strategies::fleet(&[idle(0)], NOW);
    let mut retry = |hold: Option<Hold>, presence, silent_from_steady_ms, now| {
        fleet.update(node, now, |live| {
            (live.hold, live.presence, live.silent_from_steady_ms) = (hold, presence, silent_from_steady_ms);
        });
        refusal(&mut fleet, now).retry_after_ms
    };
    let lost_at = NOW.steady_ms;
    assert_eq!(retry(None, Presence::Lost, lost_at, later(0)), Some(1_000), "it may have been a moment");
    assert_eq!(retry(None, Presence::Linked, lost_at, later(7_000)), Some(7_000), "as long again as it was away");
    assert_eq!(retry(None, Presence::Left, u64::MAX, NOW), None, "it said goodbye");
    let paused = |until_unix_ms| Some(Hold::Paused { until_unix_ms });
    assert_eq!(retry(paused(None), Presence::Linked, u64::MAX, NOW), None, "until its owner says otherwise");
    assert_eq!(retry(paused(Some(NOW.unix_ms + 4_000)), Presence::Linked, u64::MAX, NOW), Some(4_000));
}
