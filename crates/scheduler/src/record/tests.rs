//! One node's record, from crash to crash.

use super::*;

#[test]
fn words_bring_a_node_to_the_edge_and_what_is_seen_ejects_it() {
    let mut record = Record::NEW;
    record.started(0);
    record.ended(Ended::Completed, 0);
    (0..100).for_each(|_| record.alleged(0));
    assert_eq!((record.is_ejected(), record.hold(Attestation::Vouched, 0)), (false, None));
    record.started(0);
    assert_eq!(record.hold(Attestation::Vouched, 0), Some(Hold::Unproven), "one task at a time");
    let low_ppm = record.success_ppm();
    record.canary(true, 0);
    assert!(record.success_ppm() > low_ppm, "a passed trial makes it better");
    (0..100).for_each(|_| record.alleged(0));
    record.ended(Ended::Failed, 0);
    assert!(record.is_ejected());
    record.alleged(0);
    assert!(record.is_ejected());
}

#[test]
fn a_node_that_never_completed_anything_gets_five_tasks_whoever_tells_of_them() {
    let mut record = Record::NEW;
    for given in 0..USER_FAILURES_MAX {
        assert_eq!(record.hold(Attestation::Vouched, 0), None, "task {given}");
        record.started(0);
        record.alleged(0);
    }
    assert_eq!((record.is_ejected(), record.hold(Attestation::Vouched, 0)), (false, Some(Hold::Unproven)));
    assert_eq!(record.canary_due_steady_ms(Attestation::Vouched), Some(0), "what holds it back is looked into");
    let mut passes = record;
    passes.canary(true, 0);
    assert_eq!((passes.hold(Attestation::Vouched, 0), passes.canary_due_steady_ms(Attestation::Vouched)), (None, None));
    record.trial_broke(0, 0);
    assert!(record.is_ejected());
    // Once it is back, one failure is enough.
    (0..TRIES_TO_RETURN).for_each(|_| record.canary(true, 0));
    record.alleged(0);
    assert_eq!(record.hold(Attestation::Vouched, 0), Some(Hold::Unproven));
}

#[test]
fn relapses_fade_with_proof() {
    let mut record = Record { relapses: 4, ..Record::NEW };
    for _ in 0..PROVEN_SUCCESSES {
        record.started(0);
        record.ended(Ended::Completed, 0);
    }
    assert_eq!(record.relapses, 2);
}

#[test]
fn relapses_fade_with_time_without_a_failure() {
    let mut record = Record { relapses: 3, ..Record::NEW };
    record.canary_sent(2 * RELAPSE_KEPT_MS);
    assert_eq!(record.relapses, 1);
    record.trial_broke(3 * RELAPSE_KEPT_MS - 1, 3 * RELAPSE_KEPT_MS - 1);
    assert_eq!((record.is_ejected(), record.relapses), (true, 2), "a failure before the time is over keeps it");
    record.canary_sent(3 * RELAPSE_KEPT_MS);
    assert_eq!(record.relapses, 2, "and time runs from there");
    record.canary_sent(5 * RELAPSE_KEPT_MS);
    assert_eq!(record.relapses, 0);
}

#[test]
fn a_crash_that_tasks_and_a_trial_tell_of_is_one_failure() {
    let mut record = Record::NEW;
    record.started(0);
    record.ended(Ended::Completed, 0);
    (0..4).for_each(|_| record.started(1_000));
    (0..4).for_each(|_| record.alleged(2_000));
    record.trial_broke(2_000, 4_000);
    assert_eq!(record.failures_in_row, 1, "the trial that it set off met the same");
    record.trial_broke(2_000 + SAME_CRASH_MS, 6_000);
    assert_eq!(record.failures_in_row, 2, "later ones are failures of their own");
}

#[test]
fn a_node_that_never_completed_anything_fails_each_trial() {
    let mut record = Record::NEW;
    (0..USER_FAILURES_MAX).for_each(|_| record.trial_broke(0, 0));
    assert!(record.is_ejected());
}

#[test]
fn a_node_that_is_back_and_completes_most_is_not_ejected_by_each_crash() {
    let mut record = Record::NEW;
    let mut now = 0;
    (0..USER_FAILURES_MAX).for_each(|_| record.trial_broke(now, now));
    (0..TRIES_TO_RETURN).for_each(|_| record.canary(true, now));
    assert!(!record.is_ejected());
    for round in 0..1_000 {
        // Six of ten are completed, the others fall together.
        now += 15_000;
        for _ in 0..6 {
            assert_ne!(record.hold(Attestation::Vouched, now), Some(Hold::Unproven), "round {round}");
            record.started(now);
            record.ended(Ended::Completed, now);
        }
        (0..4).for_each(|_| record.started(now));
        (0..4).for_each(|_| record.ended(Ended::Failed, now));
        record.trial_broke(now, now + 1_000);
        assert!(!record.is_ejected(), "round {round}");
    }
}

#[test]
fn a_node_that_is_needed_is_tried_soon_and_returns_by_two_passed_trials_in_a_row() {
    let mut record = Record { relapses: 9, ..Record::NEW };
    record.canary(false, 0);
    assert_eq!(record.needed_canary_due_steady_ms(), Some(NEEDED_AGAIN_MS));
    assert!(record.canary_due_steady_ms(Attestation::Vouched).unwrap() > 60 * NEEDED_AGAIN_MS);
    assert_eq!(record.back_ms(true, 0), 2 * NEEDED_AGAIN_MS + CANARY_MS);
    record.canary_sent(NEEDED_AGAIN_MS);
    assert_eq!(record.needed_canary_due_steady_ms(), Some(2 * NEEDED_AGAIN_MS), "one at a time");
    record.canary(true, NEEDED_AGAIN_MS);
    record.trial_broke(NEEDED_AGAIN_MS, NEEDED_AGAIN_MS);
    record.canary(true, NEEDED_AGAIN_MS);
    assert!(record.is_ejected(), "not in a row");
    record.canary(true, NEEDED_AGAIN_MS);
    assert!(!record.is_ejected() && record.needed_canary_due_steady_ms().is_none());
}

#[test]
fn the_trial_that_the_ejecting_crash_set_off_is_no_relapse_and_ends_the_row() {
    let mut record = Record::NEW;
    (0..USER_FAILURES_MAX).for_each(|_| record.trial_broke(0, 0));
    let relapses = record.relapses;
    record.canary(true, 1_000);
    record.trial_broke(SAME_CRASH_MS - 1, SAME_CRASH_MS);
    assert_eq!(record.relapses, relapses);
    record.canary(true, 2 * SAME_CRASH_MS);
    assert!(record.is_ejected(), "two that passed, but not in a row");
    record.trial_broke(2 * SAME_CRASH_MS, 3 * SAME_CRASH_MS);
    assert_eq!(record.relapses, relapses + 1, "what fails later has failed again");
}
