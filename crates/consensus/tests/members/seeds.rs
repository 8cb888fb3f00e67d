//! The same members in a simulated world.

use crate::toy::{POOL, Plan, Toy, committee, key};
use consensus::{
    Config, Pace, Start,
    simulated::{self, Wire, World},
};
use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

fn config(index: u8) -> Config {
    Config {
        folder: PathBuf::new(),
        key: key(index),
        pool: POOL,
        epoch_blocks: 8,
        pace: Some(Pace { idle: Duration::from_millis(500), gather: Duration::from_millis(5) }),
        signs_from_epoch: 0,
        start: Start::Genesis,
    }
}

async fn begin(world: &mut World, index: u8, plan: &Plan) -> Arc<Toy> {
    let toy = Toy::new(8, plan.clone());
    world.start(config(index), toy.clone()).await.unwrap();
    toy
}

async fn until(world: &World, toys: &BTreeMap<u8, Arc<Toy>>, height: u64) {
    while toys.values().any(|toy| toy.height() < height) {
        world.sleep(Duration::from_millis(100)).await;
    }
}

/// Four members of which one crashes and another is cut off, in turn, while the fifth takes the place of the first.
async fn bad_times(world: &mut World) -> Vec<[u8; 32]> {
    let plan = Plan::from([(0, committee(0..4)), (3, committee(1..5))]);
    let mut toys = BTreeMap::new();
    for index in 0..5 {
        toys.insert(index, begin(world, index, &plan).await);
    }
    for round in 0..4_u64 {
        let (crashed, cut) = (1 + (round % 4) as u8, 1 + ((round + 1) % 4) as u8);
        for toy in toys.values() {
            toy.submit(round);
        }
        world.sleep(Duration::from_millis(1000 + 333 * round)).await;
        world.crash(key(crashed).id()).await;
        let before = toys.remove(&crashed).unwrap().chain();
        world.sleep(Duration::from_secs(3)).await;
        let again = begin(world, crashed, &plan).await;
        assert!(again.chain().starts_with(&before), "what was final is final");
        toys.insert(crashed, again);
        for index in 0..5 {
            world.cut(key(cut).id(), key(index).id()).await;
        }
        world.sleep(Duration::from_secs(3)).await;
        for index in (0..5).filter(|index| *index != cut) {
            world.heal(key(cut).id(), key(index).id()).await;
        }
        let height = toys.values().map(|toy| toy.height()).max().unwrap();
        toys.remove(&0);
        until(world, &toys, height + 4).await;
    }
    let mut digests: Vec<[u8; 32]> = Vec::new();
    for toy in toys.values() {
        toy.anchors();
        assert!(toy.faults.borrow().is_empty(), "whoever crashes does not contradict itself");
        for (block, known) in toy.chain().iter().zip(&digests) {
            assert_eq!(block.digest(), *known, "at height {}", block.header().height);
        }
        if toy.chain().len() > digests.len() {
            digests = toy.chain().iter().map(consensus::Block::digest).collect();
        }
    }
    digests
}

fn world_of(seed: u64) -> (Vec<[u8; 32]>, String) {
    let machines: Vec<_> = (0..5).map(|index| key(index).id()).collect();
    simulated::run(seed, Duration::from_secs(3600), &machines, Wire::default(), bad_times)
}

#[test]
fn a_seed_is_one_course_of_events() {
    let (chain, fingerprint) = world_of(1);
    assert!(chain.len() > 24, "it went on into the epoch of the new committee");
    assert_eq!(world_of(1), (chain, fingerprint.clone()));
    assert_ne!(world_of(2).1, fingerprint);
}

#[test]
fn whatever_the_seed_members_agree_and_go_on() {
    for seed in 10..18 {
        assert!(world_of(seed).0.len() > 24, "seed {seed}");
    }
}
