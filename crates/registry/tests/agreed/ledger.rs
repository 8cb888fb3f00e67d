//! Money: held, settled, claimed, returned.

use crate::world::*;
use protocol::{
    ids::{NodeId, PoolId, TaskId},
    limits::{CLAIM_WINDOW_MS, HOLD_LIFETIME_MS, RECEIPT_LINES_MAX},
    market::{Countersigned, Price, Receipt, ReceiptLine},
};
use registry::{Event, Fact, LedgerError, Rejection, keys};

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
    assert_eq!(world.orchestrator(order(TASK, NODE, 600, START_MS + HOUR_MS)), refused(LedgerError::HoldTime));
}

#[test]
fn after_a_failover_each_node_is_paid_for_its_own_tokens_once() {
    let mut world = World::trading();
    world.place_hold(1_000, HOUR_MS).unwrap();
    let first = world.settled(NODE, 100, 50);
    world.orchestrator(first.clone()).unwrap();
    assert_eq!(world.account(CLIENT).held_micro, 0, "a node that is paid gets no more: the rest returns at once");
    // The second node has its own order, and read the first one's tokens as its prompt.
    world.place_hold_of(OTHER_NODE, 1_000, HOUR_MS).unwrap();
    let second = world.settled(OTHER_NODE, 150, 70);
    world.orchestrator(second).unwrap();
    assert_eq!((world.account(NODE).available_micro, world.account(OTHER_NODE).available_micro), (150, 220));
    let hold = world.hold();
    assert_eq!(world.orchestrator(first.clone()), Ok(Vec::new()), "the same receipt, by another way");
    let more = world.settled(NODE, 100, 51);
    assert_eq!(world.orchestrator(more), refused(LedgerError::AlreadySettled));
    assert_eq!(world.hold(), hold);
    assert_eq!(world.account(CLIENT).available_micro, STARTER - 370);
    world.pass(2 * HOUR_MS);
    assert_eq!((world.hold(), world.account(CLIENT).available_micro), (None, STARTER - 370));
    // After the hold is forgotten nothing settles any more, nor can it be placed again.
    assert_eq!(world.orchestrator(first), refused(LedgerError::NoHold));
}

#[test]
fn what_is_held_for_a_node_is_nobody_elses() {
    let mut world = World::trading();
    world.place_hold(100, HOUR_MS).unwrap();
    // The asker's second machine, of the same account or of another, and anybody else it would rather pay.
    let order = world.hold().unwrap().order;
    for thief in [CLIENT, OTHER_NODE] {
        let taken = receipt(thief, vec![ReceiptLine { order, ..line(100, 0) }]);
        assert_eq!(world.orchestrator(settled(&taken)), refused(LedgerError::NoHold));
    }
    world.place_hold_of(OTHER_NODE, 100, HOUR_MS).unwrap();
    let taken = receipt(OTHER_NODE, vec![ReceiptLine { order, ..line(100, 0) }]);
    assert_eq!(world.orchestrator(settled(&taken)), refused(LedgerError::OtherOrder));
    // It cannot be had back before the node had time to file what was acknowledged.
    let closed = world.closed(NODE);
    world.orchestrator(closed).unwrap();
    world.pass(CLAIM_WINDOW_MS - 1);
    let claimed = world.claimed(NODE, 100);
    world.orchestrator(claimed).unwrap();
    world.pass(CLAIM_WINDOW_MS + 60_000);
    assert_eq!(world.account(NODE).available_micro, 100);
}

#[test]
fn what_was_signed_for_an_order_counts_for_no_later_one() {
    let mut world = World::trading();
    world.place_hold(100, 60_000).unwrap();
    let old = [world.settled(NODE, 10, 10), world.claimed(NODE, 20), world.closed(NODE)];
    world.pass(120_000);
    assert_eq!(world.hold(), None);
    world.place_hold(100, HOUR_MS).unwrap();
    for fact in old {
        assert_eq!(world.orchestrator(fact), refused(LedgerError::OtherOrder));
    }
    assert_eq!(world.account(NODE).available_micro, 0);
}

#[test]
fn a_receipt_pays_no_more_than_is_held_and_only_at_a_price_within_the_ceiling() {
    let mut world = World::trading();
    let early = world.settled(NODE, 1, 1);
    assert_eq!(world.orchestrator(early), refused(LedgerError::NoHold));
    assert_eq!(world.place_hold_of(NodeId([99; 32]), 1, HOUR_MS), refused(LedgerError::NoLender));
    assert_eq!(world.place_hold_of(CLIENT, 1, HOUR_MS), refused(LedgerError::NoLender), "it only asks");
    world.place_hold(100, HOUR_MS).unwrap();
    let price = Price { output_micro: PRICE.output_micro + 1, ..PRICE };
    let dear = receipt(NODE, vec![ReceiptLine { price, ..world.line(NODE, 1, 1) }]);
    assert_eq!(world.orchestrator(settled(&dear)), refused(LedgerError::Price));
    let fact = world.settled(NODE, 80, 80);
    world.orchestrator(fact).unwrap();
    assert_eq!(world.account(NODE).available_micro, 100);
}

#[test]
fn lines_of_a_receipt_count_for_themselves() {
    let mut world = World::trading();
    let task = |number: u8| TaskId([number; 16]);
    let mut lines = Vec::new();
    for number in 0..4 {
        let until = world.now + HOUR_MS;
        world.orchestrator(order(task(number), NODE, 100, until)).unwrap();
        let id = protocol::market::HoldId { task: task(number), ..hold_id(NODE) };
        let order = world.registry.state().read(&keys::hold(id)).unwrap().order;
        lines.push(ReceiptLine { task: task(number), order, ..line(10, u32::from(number)) });
    }
    // One without a hold, and one twice.
    lines.push(ReceiptLine { task: task(9), ..line(1, 1) });
    lines.push(lines[0].clone());
    lines.push(ReceiptLine { prompt_tokens: 11, ..lines[1].clone() });
    let fact = settled(&receipt(NODE, lines.clone()));
    let events = world.orchestrator(fact.clone()).unwrap();
    let paid = |event: &&Event| matches!(event, Event::Settled { .. });
    let why = |event: &Event| if let Event::LineRefused { hold, why } = event { Some((hold.task, *why)) } else { None };
    assert_eq!(events.iter().filter(paid).count(), 4);
    let whys: Vec<_> = events.iter().filter_map(why).collect();
    assert_eq!(whys, [(task(9), LedgerError::NoHold), (task(1), LedgerError::AlreadySettled)]);
    assert_eq!(world.account(NODE).available_micro, 10 + 11 + 12 + 13);
    assert_eq!((world.account(CLIENT).held_micro, world.account(CLIENT).holds), (0, 4));
    // The same again: nothing is new, and something is wrong.
    assert_eq!(world.orchestrator(fact), refused(LedgerError::NoHold));
    assert_eq!(world.orchestrator(settled(&receipt(NODE, lines[..4].to_vec()))), Ok(Vec::new()));
    for count in [0, RECEIPT_LINES_MAX + 1] {
        let fact = settled(&receipt(NODE, vec![lines[0].clone(); count]));
        assert_eq!(world.orchestrator(fact), Err(Rejection::Signature), "{count} lines");
    }
    // The longest receipt is a fact.
    let price = Price { prompt_micro: u64::MAX, output_micro: u64::MAX };
    let (tokens, at) = (u32::MAX, u64::MAX);
    let longest = ReceiptLine { price, started_unix_ms: at, ended_unix_ms: at, ..line(tokens, tokens) };
    assert!(settled(&receipt(NODE, vec![longest; RECEIPT_LINES_MAX])).encode().is_ok());
}

#[test]
fn both_sides_must_have_signed() {
    let mut world = World::trading();
    world.place_hold(100, HOUR_MS).unwrap();
    let of = receipt(NODE, vec![world.line(NODE, 1, 1)]);
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
    world.says(CLIENT.into(), link(NODE, CLIENT.into(), 1)).unwrap();
    world.place_hold(100, HOUR_MS).unwrap();
    let claimed = world.claimed(NODE, 10);
    assert_eq!(world.orchestrator(claimed), Ok(Vec::new()), "a claim of nothing is none");
    let fact = world.settled(NODE, 10, 10);
    let events = world.orchestrator(fact).unwrap();
    assert_eq!(events[0], Event::Settled { hold: hold_id(NODE), amount_micro: 0 });
    assert_eq!(world.account(CLIENT).available_micro, STARTER);
}

#[test]
fn a_claim_is_paid_after_its_window_even_when_the_hold_has_run_out() {
    let mut world = World::trading();
    world.place_hold(100, 60_000).unwrap();
    let [nothing, less, some, more] = [0, 20, 30, 40].map(|tokens| world.claimed(NODE, tokens));
    assert_eq!(world.orchestrator(nothing), Ok(Vec::new()));
    assert_eq!(world.hold().unwrap().share, None);
    world.orchestrator(some.clone()).unwrap();
    assert_eq!(world.orchestrator(some), Ok(Vec::new()));
    assert_eq!(world.orchestrator(less), refused(LedgerError::AlreadyClaimed));
    world.orchestrator(more).unwrap();
    world.pass(CLAIM_WINDOW_MS - 1);
    assert_eq!((world.account(NODE).available_micro, world.account(CLIENT).held_micro), (0, 40));
    world.pass(60_001);
    assert_eq!((world.account(NODE).available_micro, world.hold()), (40, None));
    assert_eq!(world.account(CLIENT).available_micro, STARTER - 40);
}

#[test]
fn a_claim_that_is_paid_ends_its_hold() {
    let mut world = World::trading();
    world.place_hold(100, HOUR_MS).unwrap();
    let [claimed, receipt] = [world.claimed(NODE, 40), world.settled(NODE, 0, 100)];
    world.orchestrator(claimed).unwrap();
    world.pass(CLAIM_WINDOW_MS + 60_000);
    assert_eq!((world.account(NODE).available_micro, world.account(CLIENT).held_micro), (40, 0));
    assert_eq!(world.orchestrator(receipt), refused(LedgerError::AlreadySettled));
}

#[test]
fn a_receipt_within_the_window_goes_before_the_claim() {
    let mut world = World::trading();
    world.place_hold(100, 60_000).unwrap();
    let [claimed, later, receipt] = [world.claimed(NODE, 40), world.claimed(NODE, 41), world.settled(NODE, 0, 25)];
    world.orchestrator(claimed).unwrap();
    world.pass(120_000);
    assert_eq!(world.account(CLIENT).held_micro, 40, "the rest has returned, the claim waits");
    assert_eq!(world.orchestrator(later), refused(LedgerError::Released));
    world.orchestrator(receipt).unwrap();
    assert_eq!((world.account(NODE).available_micro, world.account(CLIENT).held_micro), (25, 0));
    world.pass(2 * CLAIM_WINDOW_MS);
    assert_eq!(world.account(NODE).available_micro, 25, "and not the claim as well");
    assert_eq!(world.account(CLIENT).available_micro, STARTER - 25);
}

#[test]
fn what_counts_is_the_time_not_when_a_block_gets_to_a_hold() {
    let mut world = World::trading();
    world.place_hold(100, 60_000).unwrap();
    let [claimed, receipt] = [world.claimed(NODE, 40), world.settled(NODE, 0, 90)];
    world.orchestrator(claimed).unwrap();
    // One block looks at 64 holds, those that came last first.
    let until = world.now + 60_000;
    for number in 100..200 {
        world.orchestrator(order(TaskId([number; 16]), NODE, 1, until)).unwrap();
    }
    world.pass(120_000);
    assert_eq!(world.hold().unwrap().rest_micro, 100, "no block has got to it");
    world.orchestrator(receipt).unwrap();
    assert_eq!(world.account(NODE).available_micro, 40, "what was claimed in time, and not more");
}

#[test]
fn a_claim_needs_the_node_and_the_askers_acknowledgement_of_it() {
    let mut world = World::trading();
    world.place_hold(100, HOUR_MS).unwrap();
    let Fact::ClaimFiled { claim } = world.claimed(NODE, 10) else { unreachable!() };
    let inner = claim.decode_unverified().unwrap();
    let stolen = Fact::ClaimFiled { claim: signed(OTHER_NODE, &inner) };
    assert_eq!(world.orchestrator(stolen), Err(Rejection::Signature));
    let mut forged = inner.ack.clone();
    forged.signer = ORCHESTRATOR;
    let forged = Fact::ClaimFiled { claim: signed(NODE, &protocol::market::Claim { ack: forged }) };
    assert_eq!(world.orchestrator(forged), Err(Rejection::Signature));
}

#[test]
fn a_closed_hold_returns_its_rest_after_the_window_and_its_order_counts_no_more() {
    let mut world = World::trading();
    world.place_hold(100, 2 * HOUR_MS).unwrap();
    let until = world.now + 2 * HOUR_MS;
    let [closed, receipt] = [world.closed(NODE), world.settled(NODE, 5, 5)];
    assert_eq!(world.orchestrator(closed.clone()).unwrap(), [Event::HoldClosed { hold: hold_id(NODE) }]);
    world.pass(60_000);
    assert_eq!(world.orchestrator(closed), Ok(Vec::new()), "closing again puts nothing off");
    assert_eq!(world.account(CLIENT).held_micro, 100);
    world.pass(CLAIM_WINDOW_MS);
    assert_eq!(world.account(CLIENT).available_micro, STARTER);
    assert_eq!(world.orchestrator(receipt), refused(LedgerError::Released));
    assert_eq!(world.orchestrator(order(TASK, NODE, 100, until)), Ok(Vec::new()), "it is the same hold still");
    assert_eq!(world.account(CLIENT).held_micro, 0);
    world.pass(2 * HOUR_MS);
    assert_eq!((world.hold(), world.account(CLIENT).holds), (None, 0));
}
