//! Accounts: how they begin, what they may spend, whose machines are theirs, and what they ask and block.

use crate::world::*;
use protocol::{
    ids::{AccountId, NodeId, TaskId},
    link::Role,
    market::Price,
    pool::PoolPolicy,
};
use registry::{Fact, LedgerError, PoolError, Rejection, Totals, keys};

#[test]
fn accounts_begin_once_within_the_quota() {
    let mut world = World::trading();
    assert_eq!(world.account(CLIENT).available_micro, STARTER);
    assert_eq!(world.orchestrator(Fact::StarterGranted { node: CLIENT }), Ok(Vec::new()));
    // A machine that has begun brings nothing more to another account, and an account begins with one machine only.
    let account = AccountId([50; 32]);
    for machine in [CLIENT, NODE, OTHER_NODE] {
        world.says(account, link(machine, account, 1)).unwrap_err();
    }
    world.owner(Fact::StandingGranted { account, standing: protocol::pool::Standing::Member }).unwrap();
    for machine in [CLIENT, NODE, OTHER_NODE] {
        world.says(account, link(machine, account, 1)).unwrap();
        world.orchestrator(Fact::StarterGranted { node: machine }).unwrap();
    }
    assert_eq!(world.account(account).available_micro, STARTER);
    assert_eq!(world.registry.state().read(&keys::totals()), Some(Totals { issued_micro: 2 * STARTER }));
    let policy = PoolPolicy { starter_micro: STARTER, issue_micro_max: 3 * STARTER - 1, ..PoolPolicy::default() };
    world.owner(Fact::PolicySet(policy)).unwrap();
    world.admit(NodeId([60; 32]), Role::Node);
    let outcome = world.orchestrator(Fact::StarterGranted { node: NodeId([60; 32]) });
    assert_eq!(outcome, refused(LedgerError::QuotaUsed));
}

#[test]
fn tasks_that_hold_credits_are_bounded_by_the_policy() {
    let mut world = World::trading();
    let policy = PoolPolicy { holds_per_account_max: 1, ..world.registry.policy().cloned().unwrap() };
    world.owner(Fact::PolicySet(policy)).unwrap();
    world.place_hold(1, HOUR_MS).unwrap();
    let second = order(TaskId([41; 16]), NODE, 1, world.now + HOUR_MS);
    assert_eq!(world.orchestrator(second), refused(LedgerError::HoldsFull { max: 1 }));
}

#[test]
fn what_an_account_spends_on_a_day_is_bounded_by_the_policy() {
    const DAY_MS: u64 = 24 * HOUR_MS;
    let mut world = World::trading();
    world.pass(DAY_MS - START_MS % DAY_MS);
    let policy = PoolPolicy { day_micro_max: Some(100), ..world.registry.policy().cloned().unwrap() };
    world.owner(Fact::PolicySet(policy)).unwrap();
    world.place_hold(70, 4 * HOUR_MS).unwrap();
    assert_eq!(world.place_hold_of(OTHER_NODE, 31, HOUR_MS), refused(LedgerError::DayUsed { left_micro: 30 }));
    // What returns on the same day was not spent.
    let fact = world.settled(NODE, 20, 20);
    world.orchestrator(fact).unwrap();
    world.place_hold_of(OTHER_NODE, 60, HOUR_MS).unwrap();
    let task = |byte| TaskId([byte; 16]);
    let now = world.now;
    let one = world.orchestrator(order(task(1), NODE, 1, now + HOUR_MS));
    assert_eq!(one, refused(LedgerError::DayUsed { left_micro: 0 }));
    // The next day begins with the block's time. What yesterday's holds return does not count for it.
    world.pass(DAY_MS);
    let now = world.now;
    world.orchestrator(order(task(2), NODE, 100, now + HOUR_MS)).unwrap();
    assert_eq!((world.account(CLIENT).day_micro, world.account(CLIENT).held_micro), (100, 100));
    let one = world.orchestrator(order(task(3), NODE, 1, now + HOUR_MS));
    assert_eq!(one, refused(LedgerError::DayUsed { left_micro: 0 }));
}

#[test]
fn a_hold_that_returns_after_midnight_gives_the_new_day_nothing() {
    const DAY_MS: u64 = 24 * HOUR_MS;
    let mut world = World::trading();
    world.pass(DAY_MS - START_MS % DAY_MS - HOUR_MS);
    let policy = PoolPolicy { day_micro_max: Some(100), ..world.registry.policy().cloned().unwrap() };
    world.owner(Fact::PolicySet(policy)).unwrap();
    world.place_hold(100, 3 * HOUR_MS).unwrap();
    world.pass(2 * HOUR_MS);
    world.place_hold_of(OTHER_NODE, 60, HOUR_MS).unwrap();
    let fact = world.settled(NODE, 1, 0);
    world.orchestrator(fact).unwrap();
    assert_eq!(world.account(CLIENT).day_micro, 60);
}

#[test]
fn a_link_counts_once_and_is_undone_by_the_account() {
    let mut world = World::trading();
    let [first, second] = [AccountId([50; 32]), AccountId([51; 32])];
    for account in [first, second] {
        world.owner(Fact::StandingGranted { account, standing: protocol::pool::Standing::Member }).unwrap();
    }
    let whose = |world: &World| world.registry.member(NODE).unwrap().account;
    let replayed = |last| Err(Rejection::Pool(PoolError::LinkReplayed { last }));
    world.says(first, link(NODE, first, 1)).unwrap();
    assert_eq!(world.says(first, link(NODE, first, 1)), Ok(Vec::new()));
    assert_eq!(world.registry.machines_of(first), [NODE]);
    world.says(second, link(NODE, second, 5)).unwrap();
    assert_eq!((world.registry.machines_of(first), world.registry.machines_of(second)), (vec![], vec![NODE]));
    assert_eq!(world.registry.machines_of(NODE.into()), []);
    for number in 1..=5 {
        assert_eq!(world.says(first, link(NODE, first, number)), replayed(5), "the machine has left");
    }
    assert_eq!(world.says(first, Fact::AccountUnlinked { node: NODE }), Err(Rejection::NotAllowed));
    world.says(second, Fact::AccountUnlinked { node: NODE }).unwrap();
    assert_eq!(whose(&world), None);
    assert_eq!(world.says(second, link(NODE, second, 5)), replayed(5), "nor does an undone link come back");
    world.says(first, link(NODE, first, 6)).unwrap();
    // A machine leaves by belonging to itself.
    world.says(NODE.into(), link(NODE, NODE.into(), 7)).unwrap();
    assert_eq!(whose(&world), None);
    assert_eq!((world.registry.machines_of(NODE.into()), world.registry.account_of(NODE)), (vec![NODE], NODE.into()));
}

#[test]
fn asks_and_blocks_are_ones_own() {
    let mut world = World::trading();
    let model = protocol::ids::ModelDigest([1; 32]);
    let ask = |price| Fact::AskSet { node: NODE, model, price };
    assert_eq!(world.orchestrator(ask(Some(PRICE))), Err(Rejection::NotAllowed));
    world.says(NODE.into(), ask(Some(PRICE))).unwrap();
    assert_eq!(world.registry.ask(NODE, model), Some(PRICE));
    assert_eq!(world.registry.state().read(&keys::ask(NODE, model)), Some(PRICE));
    let absurd = Price { prompt_micro: u64::MAX, ..PRICE };
    assert_eq!(world.says(NODE.into(), ask(Some(absurd))), refused(LedgerError::Price));
    world.says(NODE.into(), ask(None)).unwrap();
    assert_eq!(world.registry.state().read(&keys::ask(NODE, model)), None);
    assert_eq!(world.registry.ask(NODE, model), None);

    let block = |is_blocked| Fact::BlockSet { other: CLIENT.into(), is_blocked };
    world.says(NODE.into(), block(true)).unwrap();
    assert!(world.registry.is_blocked(NODE.into(), CLIENT.into()));
    assert!(world.registry.is_blocked(CLIENT.into(), NODE.into()));
    let blocked_of = |world: &World, node: NodeId| world.registry.blocked_of(node.into()).collect::<Vec<_>>();
    assert_eq!(blocked_of(&world, CLIENT), [NODE.into()]);
    assert_eq!(blocked_of(&world, NODE), [CLIENT.into()]);
    world.says(CLIENT.into(), Fact::BlockSet { other: NODE.into(), is_blocked: true }).unwrap();
    world.says(CLIENT.into(), Fact::BlockSet { other: NODE.into(), is_blocked: false }).unwrap();
    assert_eq!(blocked_of(&world, CLIENT), [NODE.into()], "the other side's block still stands");
    world.says(NODE.into(), block(false)).unwrap();
    assert!(!world.registry.is_blocked(CLIENT.into(), NODE.into()));
    assert_eq!(world.says(AccountId([98; 32]), block(true)), Err(Rejection::UnknownMember));
    // Who only reads has nothing to do with anybody anyway; what a removed machine blocks it can let go.
    let auditor = AccountId([98; 32]);
    world.owner(Fact::StandingGranted { account: auditor, standing: protocol::pool::Standing::Auditor }).unwrap();
    assert_eq!(world.says(auditor, block(true)), Err(Rejection::NotAllowed));
    world.says(NODE.into(), block(true)).unwrap();
    world.owner(Fact::MemberRemoved { node: NODE, at_unix_ms: 1 }).unwrap();
    world.says(NODE.into(), block(false)).unwrap();
    assert_eq!(world.says(NODE.into(), block(true)), Err(Rejection::NotAllowed));
}
