//! Money: held, settled, claimed, returned.

use crate::world::*;
use protocol::{
    ids::{AccountId, NodeId, PoolId},
    limits::{CLAIM_WINDOW_MS, HOLD_LIFETIME_MS, PAID_NODES_MAX},
    link::Role,
    market::{AccountLink, Countersigned, Price, Receipt},
    pool::PoolPolicy,
};
use registry::{Event, Fact, LedgerError, Rejection, Share, Totals, keys};

const HOUR_MS: u64 = 3_600_000;

fn refused(error: LedgerError) -> Result<Vec<Event>, Rejection> {
    Err(Rejection::Ledger(error))
}

#[test]
fn accounts_begin_once_within_the_quota() {
    let mut world = World::trading();
    assert_eq!(world.account(CLIENT).available_micro, STARTER);
    assert_eq!(world.orchestrator(Fact::StarterGranted { node: CLIENT }), Ok(Vec::new()));
    // A machine that has begun brings nothing more to another account, and an account begins with one machine only.
    let account = AccountId([50; 32]);
    for machine in [CLIENT, NODE, OTHER_NODE] {
        let link = signed(machine, &AccountLink { pool: pool_id(), account });
        world.says(account, Fact::AccountLinked { link }).unwrap_err();
    }
    world.owner(Fact::StandingGranted { account, standing: protocol::pool::Standing::Member }).unwrap();
    for machine in [CLIENT, NODE, OTHER_NODE] {
        let link = signed(machine, &AccountLink { pool: pool_id(), account });
        world.says(account, Fact::AccountLinked { link }).unwrap();
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
fn a_hold_takes_what_there_is_for_a_bounded_time_and_returns_the_rest() {
    let mut world = World::trading();
    let too_much = LedgerError::Insufficient { available_micro: STARTER, needed_micro: STARTER + 1 };
    assert_eq!(world.place_hold(STARTER + 1, HOUR_MS), refused(too_much));
    assert_eq!(world.place_hold(0, HOUR_MS), refused(LedgerError::Nothing));
    for lasts in [0, HOLD_LIFETIME_MS + 1] {
        assert_eq!(world.place_hold(1, lasts), refused(LedgerError::HoldTime));
    }
    world.place_hold(600, HOUR_MS).unwrap();
    assert_eq!(world.place_hold(600, HOUR_MS), Ok(Vec::new()), "the same order, by another way");
    assert_eq!(world.place_hold(601, HOUR_MS), refused(LedgerError::HoldExists));
    assert_eq!((world.account(CLIENT).available_micro, world.account(CLIENT).held_micro), (STARTER - 600, 600));
    world.pass(HOUR_MS - 1);
    assert!(world.hold().is_some());
    world.pass(60_001);
    assert_eq!(world.hold(), None);
    let account = world.account(CLIENT);
    assert_eq!((account.available_micro, account.held_micro, account.holds), (STARTER, 0, 0));
    // The order itself has run out: it cannot be carried again.
    assert_eq!(world.orchestrator(order(TASK, 600, START_MS + HOUR_MS)), refused(LedgerError::HoldTime));
}

#[test]
fn tasks_that_hold_credits_are_bounded_by_the_policy() {
    let mut world = World::trading();
    let policy = PoolPolicy { holds_per_account_max: 1, ..world.registry.policy().unwrap() };
    world.owner(Fact::PolicySet(policy)).unwrap();
    world.place_hold(1, HOUR_MS).unwrap();
    let second = order(protocol::ids::TaskId([41; 16]), 1, world.now + HOUR_MS);
    assert_eq!(world.orchestrator(second), refused(LedgerError::HoldsFull { max: 1 }));
}

#[test]
fn after_a_failover_each_node_is_paid_for_its_own_tokens_once() {
    let mut world = World::trading();
    world.place_hold(1_000, HOUR_MS).unwrap();
    let first = settled(&receipt(NODE, 100, 50));
    world.orchestrator(first.clone()).unwrap();
    // The second node read the first one's tokens as its prompt.
    world.orchestrator(settled(&receipt(OTHER_NODE, 150, 70))).unwrap();
    assert_eq!((world.account(NODE).available_micro, world.account(OTHER_NODE).available_micro), (150, 220));
    let root = world.hold();
    assert_eq!(world.orchestrator(first), Ok(Vec::new()), "the same receipt, by another way");
    assert_eq!(world.orchestrator(settled(&receipt(NODE, 100, 51))), refused(LedgerError::AlreadySettled));
    assert_eq!(world.hold(), root);
    world.pass(2 * HOUR_MS);
    assert_eq!(world.account(CLIENT).available_micro, STARTER - 370);
    // After the hold is forgotten nothing settles any more, nor can it be placed again.
    assert_eq!(world.orchestrator(settled(&receipt(NODE, 100, 50))), refused(LedgerError::NoHold));
}

#[test]
fn a_receipt_pays_no_more_than_is_held_and_only_at_a_price_within_the_ceiling() {
    let mut world = World::trading();
    assert_eq!(world.orchestrator(settled(&receipt(NODE, 1, 1))), refused(LedgerError::NoHold));
    world.place_hold(100, HOUR_MS).unwrap();
    let dear = Receipt { price: Price { output_micro: PRICE.output_micro + 1, ..PRICE }, ..receipt(NODE, 1, 1) };
    assert_eq!(world.orchestrator(settled(&dear)), refused(LedgerError::Price));
    assert_eq!(world.orchestrator(settled(&receipt(NodeId([99; 32]), 1, 1))), Err(Rejection::UnknownMember));
    world.orchestrator(settled(&receipt(NODE, 80, 80))).unwrap();
    world.orchestrator(settled(&receipt(OTHER_NODE, 80, 80))).unwrap();
    assert_eq!((world.account(NODE).available_micro, world.account(OTHER_NODE).available_micro), (100, 0));
}

#[test]
fn both_sides_must_have_signed() {
    let mut world = World::trading();
    world.place_hold(100, HOUR_MS).unwrap();
    let of = receipt(NODE, 1, 1);
    for (by, counter) in [(OTHER_NODE, CLIENT), (NODE, NODE), (CLIENT, CLIENT), (NODE, ORCHESTRATOR)] {
        let fact = Fact::Settled(Countersigned::new(signed(by, &of), |message| sign_as(counter, message)));
        assert_eq!(world.orchestrator(fact), Err(Rejection::Signature), "{by} and {counter}");
    }
    let elsewhere = Receipt { pool: PoolId([0; 32]), ..of };
    assert_eq!(world.orchestrator(settled(&elsewhere)), Err(Rejection::Signature));
}

#[test]
fn ones_own_machine_is_free() {
    let mut world = World::trading();
    let link = signed(NODE, &AccountLink { pool: pool_id(), account: CLIENT.into() });
    world.says(CLIENT.into(), Fact::AccountLinked { link }).unwrap();
    world.place_hold(100, HOUR_MS).unwrap();
    let events = world.orchestrator(settled(&receipt(NODE, 10, 10))).unwrap();
    assert_eq!(events, [Event::Settled { client: CLIENT, task: TASK, node: NODE, amount_micro: 0 }]);
    world.pass(2 * HOUR_MS);
    assert_eq!(world.account(CLIENT).available_micro, STARTER);
}

#[test]
fn a_claim_is_paid_after_its_window_even_when_the_hold_has_run_out() {
    let mut world = World::trading();
    world.place_hold(100, 60_000).unwrap();
    world.orchestrator(claimed(NODE, 30)).unwrap();
    assert_eq!(world.orchestrator(claimed(NODE, 30)), Ok(Vec::new()));
    assert_eq!(world.orchestrator(claimed(NODE, 20)), refused(LedgerError::AlreadyClaimed));
    world.orchestrator(claimed(NODE, 40)).unwrap();
    // What is claimed is nobody else's.
    world.orchestrator(settled(&receipt(OTHER_NODE, 50, 50))).unwrap();
    assert_eq!(world.account(OTHER_NODE).available_micro, 60);
    world.pass(CLAIM_WINDOW_MS - 1);
    assert_eq!(world.account(NODE).available_micro, 0);
    world.pass(60_001);
    assert_eq!((world.account(NODE).available_micro, world.hold()), (40, None));
    assert_eq!(world.account(CLIENT).available_micro, STARTER - 100);
}

#[test]
fn a_receipt_within_the_window_goes_before_the_claim() {
    let mut world = World::trading();
    world.place_hold(100, 60_000).unwrap();
    world.orchestrator(claimed(NODE, 40)).unwrap();
    world.pass(120_000);
    assert_eq!(world.account(CLIENT).held_micro, 40, "the rest has returned, the claim waits");
    assert_eq!(world.orchestrator(settled(&receipt(OTHER_NODE, 0, 1))), refused(LedgerError::Released));
    assert_eq!(world.orchestrator(claimed(NODE, 41)), refused(LedgerError::Released));
    world.orchestrator(settled(&receipt(NODE, 0, 25))).unwrap();
    assert_eq!((world.account(NODE).available_micro, world.account(CLIENT).held_micro), (25, 0));
    world.pass(2 * CLAIM_WINDOW_MS);
    assert_eq!(world.account(NODE).available_micro, 25, "and not the claim as well");
    assert_eq!(world.account(CLIENT).available_micro, STARTER - 25);
}

#[test]
fn a_claim_needs_the_node_and_the_askers_acknowledgement_of_it() {
    let mut world = World::trading();
    world.place_hold(100, HOUR_MS).unwrap();
    let Fact::ClaimFiled { claim } = claimed(NODE, 10) else { unreachable!() };
    let inner = claim.decode_unverified().unwrap();
    let stolen = Fact::ClaimFiled { claim: signed(OTHER_NODE, &inner) };
    assert_eq!(world.orchestrator(stolen), Err(Rejection::Signature));
    let mut forged = inner.ack.clone();
    forged.signer = ORCHESTRATOR;
    let forged = Fact::ClaimFiled { claim: signed(NODE, &protocol::market::Claim { ack: forged }) };
    assert_eq!(world.orchestrator(forged), Err(Rejection::Signature));
}

#[test]
fn a_closed_task_returns_its_rest_after_the_window_and_its_order_counts_no_more() {
    let mut world = World::trading();
    world.place_hold(100, 2 * HOUR_MS).unwrap();
    let until = world.now + 2 * HOUR_MS;
    let closes = [Event::TaskClosed { client: CLIENT, task: TASK }];
    assert_eq!(world.orchestrator(closed()).unwrap(), closes);
    world.pass(60_000);
    assert_eq!(world.orchestrator(closed()), Ok(Vec::new()), "closing again puts nothing off");
    world.orchestrator(settled(&receipt(NODE, 5, 5))).unwrap();
    world.pass(CLAIM_WINDOW_MS);
    assert_eq!(world.account(CLIENT).available_micro, STARTER - 10);
    assert_eq!(world.orchestrator(settled(&receipt(OTHER_NODE, 5, 5))), refused(LedgerError::Released));
    assert_eq!(world.orchestrator(order(TASK, 100, until)), Ok(Vec::new()), "it is the same hold still");
    assert_eq!(world.account(CLIENT).held_micro, 0);
    world.pass(2 * HOUR_MS);
    assert_eq!((world.hold(), world.account(CLIENT).holds), (None, 0));
}

#[test]
fn a_task_pays_a_bounded_number_of_nodes() {
    let mut world = World::trading();
    world.place_hold(100, HOUR_MS).unwrap();
    for byte in 0..=PAID_NODES_MAX as u8 {
        let node = NodeId([100 + byte; 32]);
        world.admit(node, Role::Node);
        let outcome = world.orchestrator(settled(&receipt(node, 0, 1)));
        match usize::from(byte) < PAID_NODES_MAX {
            true => drop(outcome.unwrap()),
            false => assert_eq!(outcome, refused(LedgerError::TooManyNodes)),
        }
    }
    assert!(matches!(world.hold().unwrap().share(NodeId([100; 32])), Some(Share::Paid { amount_micro: 1, .. })));
}

#[test]
fn asks_and_blocks_are_ones_own() {
    let mut world = World::trading();
    let model = protocol::ids::ModelDigest([1; 32]);
    let ask = |price| Fact::AskSet { node: NODE, model, price };
    assert_eq!(world.orchestrator(ask(Some(PRICE))), Err(Rejection::NotAllowed));
    world.says(NODE.into(), ask(Some(PRICE))).unwrap();
    assert_eq!(world.registry.state().read(&keys::ask(NODE, model)), Some(PRICE));
    let absurd = Price { prompt_micro: u64::MAX, ..PRICE };
    assert_eq!(world.says(NODE.into(), ask(Some(absurd))), refused(LedgerError::Price));
    world.says(NODE.into(), ask(None)).unwrap();
    assert_eq!(world.registry.state().read(&keys::ask(NODE, model)), None);

    let block = |is_blocked| Fact::BlockSet { other: CLIENT.into(), is_blocked };
    world.says(NODE.into(), block(true)).unwrap();
    assert!(world.registry.is_blocked(NODE.into(), CLIENT.into()));
    assert!(world.registry.is_blocked(CLIENT.into(), NODE.into()));
    world.says(NODE.into(), block(false)).unwrap();
    assert!(!world.registry.is_blocked(CLIENT.into(), NODE.into()));
    assert_eq!(world.says(AccountId([98; 32]), block(true)), Err(Rejection::UnknownMember));
}
