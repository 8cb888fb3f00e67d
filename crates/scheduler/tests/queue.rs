//! Waiting: in order, fair, bounded, and never in vain.
#![expect(clippy::unwrap_used, reason = "clippy knows test functions, but not what they call")]

use proptest::{collection::vec, prelude::*};
use protocol::{
    grant::{Priority, Purpose},
    ids::NodeId,
};
use scheduler::{
    Ask, Queue,
    queue::{BATCH_EVERY, WAITING_MAX},
};

fn ask(account: u8) -> Ask {
    Ask {
        account: NodeId([account; 32]),
        priority: Priority::Interactive,
        purpose: Purpose::First,
        work_tokens: 256,
        wait_ms_max: u32::MAX,
    }
}

fn take_all(queue: &mut Queue<u32>) -> Vec<u32> {
    std::iter::from_fn(|| {
        let number = queue.first()?.0;
        queue.take(number, 0)
    })
    .collect()
}

#[test]
fn resumes_come_first_then_interactive_and_batch_does_not_starve() {
    let mut queue = Queue::new(1);
    for item in 0..100 {
        let batch = Ask { priority: Priority::Batch, ..ask(1) };
        queue.offer(batch, 1_000 + item, 0).unwrap();
        queue.offer(ask(2), 2_000 + item, 0).unwrap();
    }
    queue.offer(Ask { purpose: Purpose::Resume, priority: Priority::Batch, ..ask(3) }, 3_000, 0).unwrap();
    let order = take_all(&mut queue);
    assert_eq!(order[0], 3_000);
    let batch_of_first_hundred = order[..100].iter().filter(|item| **item < 2_000).count();
    assert_eq!(batch_of_first_hundred, 100 / BATCH_EVERY as usize);
    assert_eq!(order.len(), 201);
}

#[test]
fn an_account_with_a_thousand_tasks_delays_anothers_first_by_one() {
    let mut queue = Queue::new(1);
    for item in 0..1_000 {
        queue.offer(ask(1), item, 0).unwrap();
    }
    for item in 0..10 {
        queue.offer(ask(2), 10_000 + item, 0).unwrap();
    }
    let order = take_all(&mut queue);
    let places: Vec<usize> = (0..10).map(|item| order.iter().position(|own| *own == 10_000 + item).unwrap()).collect();
    for (nth, place) in places.iter().enumerate() {
        assert!(*place <= 2 * nth + 1, "the {nth}th came {place}th");
    }
}

#[test]
fn tokens_are_shared_not_tasks() {
    let mut queue = Queue::new(1);
    for item in 0..100 {
        queue.offer(Ask { work_tokens: 1_000, ..ask(1) }, item, 0).unwrap();
        queue.offer(Ask { work_tokens: 100, ..ask(2) }, 1_000 + item, 0).unwrap();
    }
    let order = take_all(&mut queue);
    let long = order[..55].iter().filter(|item| **item < 1_000).count();
    assert!((4..=6).contains(&long), "{long} long tasks for fifty short ones");
}

#[test]
fn who_would_wait_in_vain_is_told_at_once() {
    let mut queue = Queue::new(100);
    for item in 0..9 {
        queue.offer(ask(item as u8), item, 0).unwrap();
    }
    let (item, too_long) = queue.offer(Ask { wait_ms_max: 500, ..ask(200) }, 77, 0).unwrap_err();
    assert_eq!(item, 77);
    assert_eq!(too_long.retry_after_ms, 500, "in half a second five have gone");
    queue.offer(Ask { wait_ms_max: 1_000, ..ask(200) }, 77, 0).unwrap();
    assert!(queue.expired(999).is_none());
    assert_eq!(queue.expired(1_000).unwrap().0, 77);
    assert!(queue.expired(1_000).is_none());
    assert_eq!(queue.len(), 9);
}

#[test]
fn a_queue_is_bounded() {
    let mut queue = Queue::new(1);
    for item in 0..WAITING_MAX {
        queue.offer(ask(1), item, 0).unwrap();
    }
    assert!(queue.offer(ask(2), 0, 0).is_err());
    queue.offer(Ask { purpose: Purpose::Resume, ..ask(2) }, 0, 0).expect("resumes have room of their own");
}

/// One server that takes 10 ms a task; tasks come at `load` times that rate and wait for 500 ms at most. Of its time,
/// how much is spent on tasks that were still wanted, in a minute.
fn goodput(load: u64) -> f64 {
    const SERVICE_US: u64 = 10_000;
    let mut queue: Queue<u64> = Queue::new(10);
    let (mut free_at_us, mut done, mut arrived) = (0u64, 0u64, 0u64);
    let end_us = 60_000_000;
    while arrived * SERVICE_US / load < end_us {
        let now_us = arrived * SERVICE_US / load;
        // Places that came free meanwhile.
        while free_at_us <= now_us {
            let at_ms = free_at_us / 1_000;
            while let Some((item, _)) = queue.expired(at_ms) {
                assert!(item < arrived);
            }
            let Some((number, ..)) = queue.first() else { break };
            let came_us = queue.take(number, at_ms).unwrap() * SERVICE_US / load;
            assert!(free_at_us.saturating_sub(came_us) <= 501_000, "served after its asker had gone");
            done += 1;
            free_at_us += SERVICE_US;
        }
        free_at_us = free_at_us.max(if queue.is_empty() { now_us } else { free_at_us });
        let _ = queue.offer(Ask { wait_ms_max: 500, ..ask((arrived % 7) as u8) }, arrived, now_us / 1_000);
        arrived += 1;
    }
    done as f64 * SERVICE_US as f64 / end_us as f64
}

#[test]
fn ten_times_the_load_costs_no_goodput() {
    let peak = goodput(1).max(goodput(2));
    assert!(peak > 0.95, "{peak}");
    let overloaded = goodput(10);
    assert!(overloaded >= 0.95 * peak, "{overloaded} of {peak}");
}

proptest! {
    #[test]
    fn everybody_let_in_comes_out_once(steps in vec((0u8..6, any::<u8>(), 0u32..5_000), 0..300)) {
        let mut queue = Queue::new(10);
        let (mut inside, mut now, mut next) = (std::collections::BTreeMap::new(), 0u64, 0u32);
        for (what, account, number) in steps {
            match what {
                0..=2 => {
                    let priority = if what == 0 { Priority::Batch } else { Priority::Interactive };
                    let purpose = if account < 9 { Purpose::Resume } else { Purpose::First };
                    let ask = Ask { priority, purpose, work_tokens: number, wait_ms_max: number, ..ask(account % 16) };
                    next += 1;
                    match queue.offer(ask, next, now) {
                        Ok(place) => prop_assert!(inside.insert(place, next).is_none()),
                        Err((item, too_long)) => {
                            prop_assert_eq!(item, next);
                            prop_assert!(too_long.retry_after_ms > 0);
                        }
                    }
                }
                3 => {
                    let first = queue.first().map(|(place, _, item)| (place, *item));
                    prop_assert_eq!(first.is_none(), inside.is_empty());
                    if let Some((place, item)) = first {
                        prop_assert_eq!(queue.take(place, now), Some(item));
                        prop_assert_eq!(inside.remove(&place), Some(item));
                    }
                }
                4 => {
                    now += u64::from(number);
                    while let Some((item, _)) = queue.expired(now) {
                        let place = inside.iter().find(|(_, own)| **own == item).map(|(place, _)| *place);
                        prop_assert!(place.and_then(|place| inside.remove(&place)).is_some());
                    }
                    prop_assert!(queue.expired(now).is_none());
                }
                _ => {
                    let place = inside.keys().next().copied();
                    if let Some(place) = place {
                        prop_assert_eq!(queue.remove(place), inside.remove(&place));
                        prop_assert_eq!(queue.remove(place), None);
                    }
                }
            }
            prop_assert_eq!(queue.len(), inside.len());
        }
    }
}

#[test]
fn who_cannot_be_served_is_passed_over_in_the_order_of_turns() {
    let mut queue = Queue::new(1);
    for (account, item) in [(1, 10), (1, 11), (2, 20)] {
        queue.offer(ask(account), item, 0).unwrap();
    }
    let turns: Vec<u32> = queue.turns().map(|(.., item)| *item).collect();
    assert_eq!(turns, [10, 20, 11]);
    assert_eq!(queue.first().map(|(.., item)| *item), Some(10));
    let passing = queue.turns().nth(1).unwrap().0;
    assert_eq!(queue.take(passing, 0), Some(20));
    assert_eq!(take_all(&mut queue), [10, 11], "who was passed over is still first");
}

#[test]
fn the_time_without_anybody_who_serves_is_no_pace() {
    let mut queue = Queue::new(100);
    let waits = |queue: &Queue<u32>, now| queue.expected_wait_ms(&ask(9), now);
    let first = queue.offer(ask(1), 1, 0).unwrap();
    assert_eq!(waits(&queue, 10_000), 20_000, "two places, of which none came in ten seconds");
    queue.pause();
    assert_eq!(waits(&queue, 10_000), 200, "but nobody served: two places at the pace that is known");
    queue.take(first, 10_000);
    assert_eq!(waits(&queue, 10_000), 100, "the first place after that is timed from nothing");
}
