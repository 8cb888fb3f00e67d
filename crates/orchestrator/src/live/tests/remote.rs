//! Nodes that other orchestrators speak for.

use super::*;
use crate::gossip::Parts;
use protocol::peer::live::{Gossip, Seen};

const HOME: NodeId = NodeId([101; 32]);
const OTHER: NodeId = NodeId([102; 32]);
const ALL: Parts = Parts { load: true, seen: true, profile: true };

/// What `home` says of a node with so many slots and tasks.
fn word(home: NodeId, key: &MachineKey, slots: u32, active_tasks: u32) -> Word {
    let vetted = Vetter::new(key.id()).vet(said(key, slots, active_tasks), &[], at(0));
    Word { home, responsive: true, vetted: Some(vetted) }
}

fn through(pool: &mut Pool, key: &MachineKey, word: Word, now: Now) -> Option<bool> {
    pool.live.through(key.id(), word, Observations::default, now)
}

#[tokio::test]
async fn a_node_that_another_speaks_for_is_matched_until_nobody_does() {
    let (mut pool, key) = (Pool::new().await, MachineKey::generate());
    assert_eq!(through(&mut pool, &key, word(HOME, &key, 2, 0), at(0)), Some(true));
    assert_eq!(pool.grant(1, at(1)), Some(key.id()));
    assert!(pool.live.probe(key.id(), at(1)).is_none(), "there is no link to probe it by");
    assert!(pool.live.begin_own(key.id(), MODEL, Wish::Measure, at(1)).is_none(), "nor is it ours to measure");
    // Its load is what its home says.
    through(&mut pool, &key, word(HOME, &key, 2, 4), at(600));
    assert_eq!(pool.grant(2, at(600)), None);
    assert_eq!(through(&mut pool, &key, word(OTHER, &key, 2, 0), at(700)), Some(false), "through another home");
    assert_eq!((pool.live.home(key.id()), pool.grant(3, at(700))), (Some(OTHER), Some(key.id())));
    // Its home does not hear it any more, and has not heard its last load either.
    let silent = Word { home: OTHER, responsive: false, vetted: None };
    through(&mut pool, &key, silent, at(800));
    assert_eq!((pool.live.standing(key.id(), at(800)), pool.grant(4, at(800))), (Some(Hold::Unresponsive), None));
    through(&mut pool, &key, word(HOME, &key, 2, 0), at(900));
    assert_eq!(pool.live.counts(), (0, 1, 1));
    pool.live.lost(key.id(), true, at(1_000));
    assert_eq!(pool.live.standing(key.id(), at(1_000)), Some(Hold::Left));
    assert_eq!((pool.live.counts(), pool.live.places(MODEL)), ((0, 0, 0), 0));
    assert_eq!(through(&mut pool, &key, word(HOME, &key, 2, 0), at(2_000)), Some(true), "it comes again");
    assert_eq!(pool.live.counts(), (0, 1, 1));
}

#[tokio::test]
async fn a_link_counts_before_what_others_say_and_its_end_is_no_interruption() {
    let (mut pool, key) = (Pool::new().await, MachineKey::generate());
    through(&mut pool, &key, word(HOME, &key, 4, 0), at(0));
    assert_eq!(pool.grant(1, at(1)), Some(key.id()));
    pool.join(key.id(), at(2));
    assert_eq!(pool.live.counts(), (1, 0, 1));
    assert_eq!(pool.grant(2, at(3)), Some(key.id()), "what it said elsewhere holds until it says more");
    let link = pool.links[0].1;
    let vetted = Vetter::new(key.id()).vet(said(&key, 4, 3), &[], at(3));
    pool.live.state(key.id(), link, vetted, at(600), SILENCE_MS);
    assert_eq!(through(&mut pool, &key, word(HOME, &key, 4, 0), at(601)), None, "not asked");
    pool.live.lost(key.id(), true, at(602));
    assert_eq!(pool.live.rows(&pool.registry, None, at(602))[0].active_tasks, 3);
    // Its link breaks, and its other home still hears from it.
    assert_eq!(pool.live.unlink(key.id(), link, Some(HOME), at(700)), Some(false));
    assert_eq!((pool.live.counts(), pool.live.home(key.id())), ((0, 1, 1), Some(HOME)));
    assert_eq!(pool.grant(3, at(SILENCE_MS * 10)), Some(key.id()), "silence is its home's to notice");
    assert_eq!(pool.live.unlink(key.id(), link, None, at(700)), None, "the old link is none any more");
    // The same where nobody else does.
    pool.join(key.id(), at(800));
    assert_eq!(pool.live.unlink(key.id(), pool.links[1].1, None, at(900)), Some(false));
    assert_eq!(pool.live.standing(key.id(), at(900)), Some(Hold::Unresponsive));
    // Who said goodbye is gone, whatever another has not heard yet.
    pool.join(key.id(), at(1_000));
    let link = pool.links[2].1;
    pool.live.goodbye(key.id(), link, at(1_100));
    assert_eq!(pool.live.unlink(key.id(), link, Some(HOME), at(1_200)), Some(true));
    assert_eq!(pool.live.standing(key.id(), at(1_200)), Some(Hold::Left));
}

#[tokio::test]
async fn others_are_told_what_changes_and_of_tasks_by_the_first_home_only() {
    let (mut pool, key) = pool_of_one().await;
    let link = pool.links[0].1;
    let (none, load) = (Parts::default(), Parts { load: true, ..Parts::default() });
    let untold = |pool: &mut Pool, first, now| {
        let changed = pool.live.take_changed();
        changed.into_iter().map(|node| pool.live.untold(node, first, now)).next().unwrap_or_default()
    };
    assert_eq!(untold(&mut pool, true, at(1)), load);
    assert_eq!(untold(&mut pool, true, at(1)), none, "nothing has changed since");
    let state = |pool: &mut Pool, slots, active, now| {
        let mut vetter = Vetter::new(key.id());
        pool.live.state(key.id(), link, vetter.vet(said(&key, slots, active), &[], now), now, u64::MAX / 2);
    };
    state(&mut pool, 8, 0, at(2));
    // The same evidence once more, from a vetter that has never seen it: the same words all the same.
    assert_eq!(untold(&mut pool, true, at(2)), none);
    state(&mut pool, 8, 1, at(3));
    assert_eq!(untold(&mut pool, false, at(3)), none);
    state(&mut pool, 8, 2, at(4));
    assert_eq!(untold(&mut pool, true, at(4)), load);
    state(&mut pool, 4, 2, at(5));
    assert_eq!(untold(&mut pool, false, at(5)), load, "a profile is everybody's to tell");
    let mut gossip = Gossip::default();
    pool.live.tell(key.id(), ALL, at(6), &mut gossip);
    assert_eq!((gossip.loads[0].workers.as_slice(), gossip.loads[0].active_tasks), ([2].as_slice(), 2));
    assert_eq!(gossip.loads[0].profile, gossip.profiles[0].mark());
    assert!(gossip.seen.is_empty(), "nothing was found out");
    assert_eq!(pool.live.unlink(key.id(), link, None, at(7)), Some(false));
    assert_eq!(untold(&mut pool, false, at(7)), load);
    let mut gossip = Gossip::default();
    pool.live.tell(key.id(), ALL, at(8), &mut gossip);
    assert_eq!((gossip.gone.len(), gossip.loads.len(), gossip.profiles.len()), (1, 0, 0));
}

#[tokio::test]
async fn what_a_first_home_finds_delays_and_never_ejects() {
    let mut pool = Pool::new().await;
    let (suspect, other) = (MachineKey::generate(), MachineKey::generate());
    through(&mut pool, &suspect, word(HOME, &suspect, 64, 0), at(0));
    let rates = protocol::link::RateRow { model: MODEL, prefill_milli: 1_000_000, decode_milli: [100_000, 0, 0, 0] };
    let seen = |ejected| Seen { node: suspect.id(), rates: vec![rates], ejected };
    pool.live.told(&seen(vec![MODEL]), at(1));
    let row = pool.live.rows(&pool.registry, None, at(1)).remove(0);
    assert_eq!((row.hold, row.rates[0]), (None, rates));
    assert_eq!(pool.grant(1, at(1)), Some(suspect.id()), "it is all there is");
    through(&mut pool, &other, word(HOME, &other, 1, 0), at(2));
    assert_eq!(pool.grant(2, at(3)), Some(other.id()), "slower, and never measured, but nobody suspects it");
    assert_eq!(pool.grant(3, at(4)), Some(suspect.id()));
    through(&mut pool, &other, word(HOME, &other, 1, 0), at(3_000));
    pool.live.told(&seen(Vec::new()), at(3_000));
    assert_eq!(pool.grant(4, at(3_000)), Some(suspect.id()), "it is back where it was ejected");
}

#[tokio::test]
async fn there_is_always_room_for_a_node_with_a_link() {
    let mut pool = Pool::new().await;
    let key = MachineKey::generate();
    let numbered = |number: usize| {
        let mut node = NodeId([9; 32]);
        node.0[..8].copy_from_slice(&(number as u64).to_be_bytes());
        node
    };
    for number in 0..limits::NODES_MAX {
        let word = Word { home: HOME, responsive: true, vetted: None };
        assert_eq!(pool.live.through(numbered(number), word, Observations::default, at(0)), Some(true));
    }
    assert_eq!(through(&mut pool, &key, word(HOME, &key, 1, 0), at(1)), None, "no room for one more");
    pool.join(key.id(), at(2));
    assert_eq!(pool.live.counts().0 + pool.live.counts().1, limits::NODES_MAX);
    pool.live.lost(numbered(7), false, at(3));
    let another = MachineKey::generate();
    assert_eq!(through(&mut pool, &another, word(HOME, &another, 1, 0), at(4)), Some(true), "who is gone makes room");
}
