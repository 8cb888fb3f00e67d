//! The cost rule: better is never worse. The record: who fails everything gets little. The budget: twice is bounded.

use proptest::{collection::vec, prelude::*};
use protocol::{
    grant::{MatchRequest, ModelRef},
    hold::Hold,
    ids::{ModelDigest, NodeId, TaskId},
    market::{PRICE_MICRO_MAX, Price, amount_micro},
};
use scheduler::{
    Budget, Ended, LiveNode, LiveWorker, Now, Record, Rule, Sizes, Task,
    cost::PRICE_MS_MAX,
    gate,
    record::{PROBATION_CANARIES, TRIES_TO_RETURN, USER_FAILURES_MAX},
};
use trust::{observations::Rates, score::Attestation};

const NOW: Now = Now { unix_ms: 1_700_000_000_000, steady_ms: 100_000_000 };
const MODEL: ModelDigest = ModelDigest([0; 32]);

fn node() -> impl Strategy<Value = LiveNode> {
    let rate = || 500u32..500_000;
    let rates = (rate(), [rate(), rate(), rate(), rate()])
        .prop_map(|(prefill_milli, decode_milli)| Rates { prefill_milli, decode_milli });
    let load = (1u32..16, 0u32..40, 0u32..20_000, 0u32..10_000);
    let life = (0u32..2_000_000, 1u32..20_000, 1u32..60_000, 0u64..=NOW.steady_ms, vec(any::<bool>(), 0..5));
    (rates, load, life).prop_map(|(rates, (slots, active_tasks, load_ms, price_micro), life)| {
        let mut live = LiveNode::new(NodeId([1; 32]), NOW);
        let price = Price { prompt_micro: u64::from(price_micro), output_micro: 2 * u64::from(price_micro) };
        live.rtt_us = life.0;
        (live.hazard.departures_milli, live.hazard.exposure_milli) = (life.1, life.2);
        live.session_since_steady_ms = life.3;
        for well in life.4 {
            live.records.get_mut(MODEL).ended(if well { Ended::Completed } else { Ended::Failed }, NOW.steady_ms);
        }
        live.workers = vec![LiveWorker { rates, active_tasks, load_ms, price, ..LiveWorker::new(MODEL, slots, 1) }];
        live
    })
}

proptest! {
    #[test]
    fn what_is_better_never_costs_more(
        live in node(), prompt in 1u32..20_000, answer in 1u32..2_000, more in 1u32..100_000
    ) {
        let rule = Rule::default();
        let sizes = Sizes { prompt_tokens: prompt, answer_tokens: answer };
        let cost = |live: &LiveNode| rule.estimate(live, &live.workers[0], sizes, NOW).cost_us;
        let before = cost(&live);
        let better = |change: &dyn Fn(&mut LiveNode)| {
            let mut better = live.clone();
            change(&mut better);
            cost(&better)
        };
        // A microsecond for rounding.
        let not_more = |cost: u64| cost <= before + 1;
        prop_assert!(not_more(better(&|live| live.rtt_us = live.rtt_us.saturating_sub(more))));
        prop_assert!(not_more(better(&|live| live.workers[0].rates.prefill_milli += more)));
        for at in 0..4 {
            prop_assert!(not_more(better(&|live| live.workers[0].rates.decode_milli[at] += more)), "batch {at}");
        }
        prop_assert!(not_more(better(&|live| live.workers[0].active_tasks /= 2)));
        prop_assert!(not_more(better(&|live| live.workers[0].load_ms = live.workers[0].load_ms.saturating_sub(more))));
        prop_assert!(not_more(better(&|live| live.workers[0].price.output_micro /= 2)));
        prop_assert!(not_more(better(&|live| live.hazard.departures_milli /= 2)));
        prop_assert!(not_more(better(&|live| live.hazard.exposure_milli += more)));
        prop_assert!(not_more(better(&|live| live.session_since_steady_ms /= 2)));
        prop_assert!(not_more(better(&|live| live.records.get_mut(MODEL).ended(Ended::Completed, NOW.steady_ms))));
        let time_us = rule.estimate(&live, &live.workers[0], sizes, NOW).time_us;
        prop_assert!(time_us * 3 / 10 <= before, "its own time counts three tenths at least");
        let shorter = Sizes { answer_tokens: answer / 2, ..sizes };
        prop_assert!(not_more(rule.estimate(&live, &live.workers[0], shorter, NOW).cost_us));
    }

    /// In whatever order tasks are given and fail, and whatever canaries say: at most five users' tasks before each
    /// ejection of a node that never succeeded, and one after each return.
    #[test]
    fn a_black_hole_gets_five_tasks_and_returns_through_canaries_only(steps in vec((0u8..4, 0u64..3_000), 0..300)) {
        let (mut record, mut now) = (Record::NEW, 0);
        let (mut given, mut returns, mut in_flight, mut passed) = (0, 0, 0, 0);
        for (what, ms) in steps {
            now += ms;
            let held = record.hold(Attestation::Vouched, now);
            match what {
                0 | 1 if held.is_none() => {
                    record.started(now);
                    (given, in_flight) = (given + 1, in_flight + 1);
                }
                2 if in_flight > 0 => {
                    record.ended(Ended::Failed, now);
                    (in_flight, passed) = (in_flight - 1, 0);
                }
                3 if record.is_ejected() => {
                    record.canary(true, now);
                    passed += 1;
                    if !record.is_ejected() {
                        prop_assert!(passed >= TRIES_TO_RETURN);
                        (returns, passed) = (returns + 1, 0);
                    }
                }
                _ => {}
            }
            prop_assert!(given <= USER_FAILURES_MAX + returns, "{given} tasks, {returns} returns");
            prop_assert_eq!(record.is_ejected() && record.hold(Attestation::Vouched, now).is_none(), false);
        }
    }

    #[test]
    fn what_is_done_twice_is_a_share_of_what_is_done_once(asks in vec((any::<bool>(), 0u64..50), 0..2_000)) {
        let mut budget = Budget::retries();
        let (mut once, mut twice, mut now) = (0u64, 0u64, 0);
        for (again, ms) in asks {
            now += ms;
            if again {
                twice += u64::from(budget.withdraw(now));
            } else {
                budget.deposit();
                once += 1;
            }
            prop_assert!(twice <= 50 + once / 5 + now / 1_000 + 1, "{twice} of {once} in {now} ms");
        }
    }
}

#[test]
fn a_proven_node_that_turns_bad_is_bounded_from_its_first_failure_on() {
    let mut record = Record::NEW;
    for _ in 0..10 {
        record.started(0);
        record.ended(Ended::Completed, 0);
    }
    // As many as it has places, while it is well.
    for _ in 0..16 {
        assert_eq!(record.hold(Attestation::Vouched, 0), None);
        record.started(0);
    }
    let mut given = 0;
    while !record.is_ejected() {
        record.ended(Ended::Failed, 0);
        while record.hold(Attestation::Vouched, 0).is_none() {
            record.started(0);
            given += 1;
        }
    }
    assert!(given < USER_FAILURES_MAX, "{given} after it had begun to fail");
    assert!(matches!(record.hold(Attestation::Vouched, 0), Some(Hold::Ejected { .. })));
}

#[test]
fn a_lid_that_closes_over_many_tasks_has_closed_once() {
    let mut record = Record::NEW;
    for _ in 0..3 {
        record.started(0);
        record.ended(Ended::Completed, 0);
    }
    let before = record.success_ppm();
    (0..8).for_each(|_| record.started(0));
    (0..8).for_each(|_| record.ended(Ended::Failed, 0));
    assert_eq!(record.hold(Attestation::Vouched, 0), None);
    assert!(record.success_ppm() * 8 >= before * 7 - 8, "one failure's decay");
    record.started(0);
    record.ended(Ended::Completed, 0);
    (0..6).for_each(|_| record.started(0));
    assert_eq!(record.hold(Attestation::Vouched, 0), None, "it is back as it was");
}

#[test]
fn back_off_grows_and_a_relapse_is_quick() {
    let mut record = Record::NEW;
    let mut last = 0;
    let mut now = 0;
    for round in 0..6 {
        let allowed = if round == 0 { USER_FAILURES_MAX } else { 1 };
        for _ in 0..allowed {
            assert_eq!(record.hold(Attestation::Vouched, now), None, "round {round}");
            record.started(now);
            record.ended(Ended::Failed, now);
        }
        assert!(record.is_ejected());
        let due = record.canary_due_steady_ms(Attestation::Vouched).unwrap();
        assert!(due - now > last, "later each time");
        last = due - now;
        now = due;
        for _ in 0..TRIES_TO_RETURN {
            record.canary(true, now);
        }
    }
    record.canary(false, now);
    assert!(record.is_ejected(), "one failed canary ejects whoever fails it");
}

#[test]
fn who_is_not_vouched_for_begins_with_canaries() {
    let mut record = Record::NEW;
    assert_eq!(record.hold(Attestation::Vouched, 0), None);
    for _ in 0..PROBATION_CANARIES {
        assert_eq!(record.hold(Attestation::SelfSigned, 0), Some(Hold::Probation));
        assert!(record.canary_due_steady_ms(Attestation::SelfSigned).is_some());
        record.canary(true, 0);
    }
    assert_eq!(record.hold(Attestation::SelfSigned, 0), None);
    assert_eq!(record.canary_due_steady_ms(Attestation::SelfSigned), None);
}

#[test]
fn a_stream_more_slows_everyone_so_a_slower_idle_machine_can_be_better() {
    let rates = |alone: u32| Rates { prefill_milli: alone * 10, decode_milli: [alone; 4] };
    let node = |alone, active_tasks| {
        let mut live = LiveNode::new(NodeId([1; 32]), NOW);
        live.workers = vec![LiveWorker { rates: rates(alone), active_tasks, ..LiveWorker::new(MODEL, 8, 1) }];
        live
    };
    let sizes = Sizes { prompt_tokens: 100, answer_tokens: 200 };
    let cost = |live: &LiveNode| Rule::default().estimate(live, &live.workers[0], sizes, NOW).cost_us;
    assert!(cost(&node(40_000, 0)) < cost(&node(20_000, 0)));
    assert!(cost(&node(40_000, 2)) > cost(&node(20_000, 0)));
}

#[test]
fn what_is_too_dear_is_named_and_ones_own_machines_are_not() {
    let price = Price { prompt_micro: 1_000, output_micro: 2_000 };
    let mut live = LiveNode::new(NodeId([1; 32]), NOW);
    live.silent_from_steady_ms = NOW.steady_ms + 1;
    live.attestation = Attestation::Vouched;
    live.workers = vec![LiveWorker { price, ..LiveWorker::new(MODEL, 1, 1) }];
    let mut request = MatchRequest::new(TaskId([0; 16]), ModelRef::Digest(MODEL), 1_024, 128);
    let client = NodeId([9; 32]);
    let needed_micro = amount_micro(price, 1_024, 128);
    let held = |request: &MatchRequest, own: &[NodeId], funds_micro| {
        gate(&live, MODEL, &Task { own, funds_micro, ..Task::new(client, request) }, NOW)
    };
    assert_eq!(held(&request, &[], None), None);
    assert_eq!(held(&request, &[], Some(needed_micro)), None);
    let available_micro = needed_micro - 1;
    let unfunded = Some(Hold::Unfunded { needed_micro, available_micro });
    assert_eq!(held(&request, &[], Some(available_micro)), unfunded);
    assert_eq!(held(&request, &[live.node], Some(0)), None, "machines of one account ask each other nothing");
    request.price_max = Some(price);
    assert_eq!(held(&request, &[], None), None);
    request.price_max = Some(Price { output_micro: 1_999, ..price });
    assert_eq!(held(&request, &[], None), Some(Hold::AboveCeiling));
    assert_eq!(held(&request, &[live.node], None), None);
    live.workers[0].price = Price::default();
    assert_eq!(gate(&live, MODEL, &Task { funds_micro: Some(0), ..Task::new(client, &request) }, NOW), None);
}

#[test]
fn no_price_counts_for_more_than_a_minute() {
    let live = |price| {
        let mut live = LiveNode::new(NodeId([1; 32]), NOW);
        live.workers = vec![LiveWorker { price, ..LiveWorker::new(MODEL, 1, 1) }];
        live
    };
    let sizes = Sizes { prompt_tokens: 1_000, answer_tokens: 1_000 };
    let cost_us = |price| {
        let live = live(price);
        Rule::default().estimate(&live, &live.workers[0], sizes, NOW).cost_us
    };
    let free = cost_us(Price::default());
    let of = |micro| cost_us(Price { prompt_micro: 0, output_micro: micro }) - free;
    // A tenth of a millisecond for each micro-credit.
    assert!((99_000..=101_000).contains(&of(1_000)), "{}", of(1_000));
    let most_us = (PRICE_MS_MAX * 1_000.0) as u64;
    assert!((most_us - 1_000..=most_us + 1_000).contains(&of(PRICE_MICRO_MAX)), "{}", of(PRICE_MICRO_MAX));
}
