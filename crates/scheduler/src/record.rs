//! What became of users' tasks on one node with one model: success with fast decay, how many more it may be given, when
//! it is ejected, and how it comes back.
//!
//! * **A node that fails everything gets at most [`USER_FAILURES_MAX`] users' tasks before it is ejected**: until it
//!   has proven itself, tasks in flight count as failures to come, so that no burst slips through.
//! * One failure of a proven node puts what it is given from then on under the same bound, until it succeeds again.
//! * **One crash is one failure.** What was in flight when a node that had completed anything fails, and fails too, fell
//!   with it: a lid closes over all tasks at once. So did a trial that was set off by the failure and finds the same.
//! * An ejected node gets no user's task. It comes back through [`TRIES_TO_RETURN`] passed canaries in a row, the next
//!   of which is due later each time it fails one or is ejected again; and it comes back unproven, with one task. That
//!   it relapsed is forgotten by and by, if it fails nothing, and sooner where it proves itself.
//! * Where a pool is in need, because too many of its nodes are ejected ([`crate::Fleet::canaries_due`]), they are tried
//!   every [`NEEDED_AGAIN_MS`], whatever their back-off: patience with a bad node is for those who have others.
//! * A node that nobody vouches for begins on probation: canaries only, until [`PROBATION_CANARIES`] have passed.
//!
//! This is a circuit breaker (M. Nygard, "Release It!", 2007) whose half-open state is fed by canaries, never by users.
//! Envoy's outlier detection bounds ejection likewise (`max_ejection_percent`, and the panic threshold of its load
//! balancers), but by sending users to ejected hosts; here the need hastens the proof, and does not replace it.

use protocol::{hold::Hold, ids::ModelDigest, limits};
use trust::{observations::Results, score::Attestation};

/// Users' tasks that a node can fail before it is ejected, those in flight included, if it never succeeded.
pub const USER_FAILURES_MAX: u32 = 5;
/// Successes since it came or was ejected after which a node is proven.
pub const PROVEN_SUCCESSES: u32 = 3;
/// Canaries that a node must pass that nobody vouches for.
pub const PROBATION_CANARIES: u32 = 4;
/// Canaries in a row that bring an ejected node back.
pub const TRIES_TO_RETURN: u32 = 2;

/// The least time between two canaries to one node on probation, in milliseconds. Each ejection and each canary failed
/// since doubles it, the first one too: an ejected node is tried after 10 s at the earliest.
const BACK_OFF_MS_MIN: u64 = 5_000;
/// The longest back-off.
const BACK_OFF_MS_MAX: u64 = 60 * 60 * 1000;
/// The time between two canaries to one ejected node in a pool that needs it, in milliseconds.
pub const NEEDED_AGAIN_MS: u64 = 5_000;
/// How long a canary takes, about.
const CANARY_MS: u64 = 1_000;
/// One relapse is forgotten after so long without a failure.
const RELAPSE_KEPT_MS: u64 = 5 * 60 * 1000;
/// A trial that begins so soon after a failure finds what failed, if it fails.
const SAME_CRASH_MS: u64 = 3_000;
/// A task of which nothing was heard for so long is in flight no more.
const FORGOTTEN_MS: u64 = 10 * 60 * 1000;
/// Each result counts an eighth: after five failures in a row a perfect record is at a half.
const DECAY: u32 = 8;
const PPM: u32 = 1_000_000;
/// What is believed of a node that was never tried.
const SUCCESS_PRIOR_PPM: u32 = 900_000;
/// Below this a node is ejected, however its failures are spread: nearly two thirds of its recent tasks failed.
const SUCCESS_PPM_MIN: u32 = 350_000;

/// How a user's task on a node ended, as far as the node's record is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// With a complete answer.
    Completed,
    /// By a fault of the node: it died, stalled, or sent what is no answer.
    Failed,
    /// With what it failed before: the same crash, told of once more.
    Fell,
    /// By nobody's fault: its owner came back, it was full, the asker did not want it any more.
    Without,
}

/// What became of a node's tasks with one model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    success_ppm: u32,
    successes: u32,
    failures_in_row: u32,
    in_flight: u32,
    // Of those in flight, the ones that a node had which had completed some when it failed for the first time.
    trusted_in_flight: u32,
    last_start_steady_ms: u64,
    canaries_passed: u32,
    next_canary_steady_ms: u64,
    // How often it was ejected, or failed a canary since: each doubles the back-off.
    relapses: u32,
    // When it failed anything the last time, and since when its relapses fade.
    failed_steady_ms: u64,
    fading_steady_ms: u64,
    // When it was ejected, or a canary was sent, whichever is later.
    tried_steady_ms: u64,
    // Canaries passed in a row since it was ejected.
    ejected: Option<u32>,
}

impl Default for Record {
    fn default() -> Self {
        Self::NEW
    }
}

impl Record {
    /// Of a node that was never tried.
    pub const NEW: Self = Self {
        success_ppm: SUCCESS_PRIOR_PPM,
        successes: 0,
        failures_in_row: 0,
        in_flight: 0,
        trusted_in_flight: 0,
        last_start_steady_ms: 0,
        canaries_passed: 0,
        next_canary_steady_ms: 0,
        relapses: 0,
        failed_steady_ms: 0,
        fading_steady_ms: 0,
        tried_steady_ms: 0,
        ejected: None,
    };

    /// Of a node that comes back with agreed results: canaries that it passed lately count towards its probation.
    pub fn from_results(results: &Results) -> Self {
        Self { canaries_passed: results.canaries_passed(), ..Self::NEW }
    }

    /// The chance that its next task succeeds, in millionths: exponentially weighted over its results.
    pub fn success_ppm(&self) -> u32 {
        self.success_ppm
    }

    /// Whether it has completed tasks enough, since it came or was ejected, that its failures need not be its nature.
    pub fn is_proven(&self) -> bool {
        self.successes >= PROVEN_SUCCESSES
    }

    /// Whether it has completed any since it came or was ejected: what it fails at once is then one failure.
    pub fn has_completed(&self) -> bool {
        self.successes > 0
    }

    /// Canaries that it passed.
    pub fn canaries_passed(&self) -> u32 {
        self.canaries_passed
    }

    /// Whether it has been ejected and is not back.
    pub fn is_ejected(&self) -> bool {
        self.ejected.is_some()
    }

    /// Why it gets no user's task now, if so.
    pub fn hold(&self, attestation: Attestation, now_steady_ms: u64) -> Option<Hold> {
        if self.ejected.is_some() {
            return Some(Hold::Ejected { failures: self.failures_in_row });
        }
        if self.is_on_probation(attestation) {
            return Some(Hold::Probation);
        }
        (self.exposed(now_steady_ms) >= self.allowance()).then_some(Hold::Unproven)
    }

    /// Whether it has to pass canaries before it gets a user's task.
    pub fn is_on_probation(&self, attestation: Attestation) -> bool {
        attestation < Attestation::Vouched && self.canaries_passed < PROBATION_CANARIES
    }

    /// When it is due for a canary, if canaries are its only way to work.
    pub fn canary_due_steady_ms(&self, attestation: Attestation) -> Option<u64> {
        let is_out = self.ejected.is_some() || self.is_on_probation(attestation) || self.awaits_trial();
        is_out.then_some(self.next_canary_steady_ms)
    }

    /// Whether it failed, as is said, all that it may fail before a trial decides.
    fn awaits_trial(&self) -> bool {
        self.failures_in_row >= self.allowance()
    }

    /// When it is due for a canary in a pool that needs it, if it is ejected.
    pub fn needed_canary_due_steady_ms(&self) -> Option<u64> {
        let needed = self.tried_steady_ms.saturating_add(NEEDED_AGAIN_MS);
        self.ejected.map(|_| needed.min(self.next_canary_steady_ms))
    }

    /// In how many milliseconds it may be back, if it passes every canary from now on. `is_needed`: in a pool in need.
    pub(crate) fn back_ms(&self, is_needed: bool, now_steady_ms: u64) -> u64 {
        let (left, spacing) = match self.ejected {
            Some(passed) if is_needed => (TRIES_TO_RETURN.saturating_sub(passed), NEEDED_AGAIN_MS),
            Some(passed) => (TRIES_TO_RETURN.saturating_sub(passed), self.back_off_ms()),
            None => (PROBATION_CANARIES.saturating_sub(self.canaries_passed), self.back_off_ms()),
        };
        let due = self.needed_canary_due_steady_ms().filter(|_| is_needed).unwrap_or(self.next_canary_steady_ms);
        let first_ms = due.saturating_sub(now_steady_ms).saturating_add(CANARY_MS);
        first_ms.saturating_add(spacing.saturating_mul(u64::from(left.saturating_sub(1))))
    }

    /// When [`Self::hold`] changes by time alone, if ever.
    pub(crate) fn changes_steady_ms(&self) -> Option<u64> {
        (self.in_flight > 0).then(|| self.last_start_steady_ms.saturating_add(FORGOTTEN_MS))
    }

    /// Tasks that it may have failed before it is ejected.
    fn allowance(&self) -> u32 {
        match (self.successes, self.relapses) {
            (PROVEN_SUCCESSES.., _) if self.failures_in_row == 0 => u32::MAX,
            (0, 1..) => 1,
            _ => USER_FAILURES_MAX,
        }
    }

    /// Tasks that it failed in a row, or may fail yet.
    fn exposed(&self, now_steady_ms: u64) -> u32 {
        let forgotten = now_steady_ms >= self.last_start_steady_ms.saturating_add(FORGOTTEN_MS);
        let in_flight = if forgotten { 0 } else { self.in_flight.saturating_sub(self.trusted_in_flight) };
        self.failures_in_row.saturating_add(in_flight)
    }

    /// A user's task is given to it.
    pub fn started(&mut self, now_steady_ms: u64) {
        if now_steady_ms >= self.last_start_steady_ms.saturating_add(FORGOTTEN_MS) {
            (self.in_flight, self.trusted_in_flight) = (0, 0);
        }
        self.fade(now_steady_ms);
        self.in_flight = self.in_flight.saturating_add(1);
        self.last_start_steady_ms = now_steady_ms;
    }

    /// A user's task on it has ended.
    pub fn ended(&mut self, how: Ended, now_steady_ms: u64) {
        self.in_flight = self.in_flight.saturating_sub(1);
        match how {
            Ended::Without => {}
            Ended::Fell => self.trusted_in_flight = self.trusted_in_flight.saturating_sub(1),
            Ended::Completed => {
                self.success_ppm += (PPM - self.success_ppm) / DECAY;
                self.successes = self.successes.saturating_add(1);
                if self.successes == PROVEN_SUCCESSES {
                    // What it was once fades with each time that it proves itself.
                    self.relapses /= 2;
                }
                self.failures_in_row = 0;
                self.trusted_in_flight = 0;
            }
            // One of those that were in flight at the first failure. Which of them ended is not known: the older ones,
            // in doubt, which keeps the newer ones counted.
            Ended::Failed if self.failures_in_row > 0 && self.trusted_in_flight > 0 => self.trusted_in_flight -= 1,
            // What it had when it was ejected is judged already.
            Ended::Failed if self.ejected.is_some() => {}
            Ended::Failed => self.fail_and_judge(now_steady_ms),
        }
        self.trusted_in_flight = self.trusted_in_flight.min(self.in_flight);
    }

    /// A user's task on it has failed by the word of somebody who is not to eject it by words: it brings it to the edge,
    /// and the next failure that is seen ejects it. Until then one that has completed any gets one task at a time; one
    /// that never did gets none before a trial has passed.
    pub fn alleged(&mut self, now_steady_ms: u64) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if self.ejected.is_some() {
            return;
        }
        if self.failures_in_row > 0 && self.trusted_in_flight > 0 {
            self.trusted_in_flight -= 1;
        } else {
            let success_ppm = self.success_ppm;
            self.fail(now_steady_ms);
            let edge = self.allowance() - u32::from(self.has_completed());
            self.failures_in_row = self.failures_in_row.min(edge);
            self.success_ppm = self.success_ppm.max(SUCCESS_PPM_MIN.min(success_ppm));
        }
        self.trusted_in_flight = self.trusted_in_flight.min(self.in_flight);
    }

    /// A trial that began at `begun_steady_ms` broke off: one more failure, or the same that set it off.
    pub fn trial_broke(&mut self, begun_steady_ms: u64, now_steady_ms: u64) {
        let fell_before = self.failures_in_row > 0 && (self.has_completed() || self.ejected.is_some());
        if !fell_before || begun_steady_ms >= self.failed_steady_ms.saturating_add(SAME_CRASH_MS) {
            self.fail_and_judge(now_steady_ms);
        } else if let Some(passed) = &mut self.ejected {
            // No second failure, but not one more that it passed in a row.
            *passed = 0;
        }
    }

    fn fail_and_judge(&mut self, now_steady_ms: u64) {
        self.fail(now_steady_ms);
        if self.failures_in_row >= self.allowance() || self.success_ppm < SUCCESS_PPM_MIN {
            self.eject(now_steady_ms);
        }
    }

    fn fail(&mut self, now_steady_ms: u64) {
        self.fade(now_steady_ms);
        (self.failed_steady_ms, self.fading_steady_ms) = (now_steady_ms, now_steady_ms);
        if self.failures_in_row == 0 && self.has_completed() {
            self.trusted_in_flight = self.in_flight;
        }
        self.success_ppm -= self.success_ppm.div_ceil(DECAY);
        self.failures_in_row = self.failures_in_row.saturating_add(1);
    }

    /// A canary was sent to it: the next is not due before the back-off.
    pub fn canary_sent(&mut self, now_steady_ms: u64) {
        self.fade(now_steady_ms);
        self.tried_steady_ms = now_steady_ms;
        self.next_canary_steady_ms = now_steady_ms.saturating_add(self.back_off_ms());
    }

    /// A canary came back. One that failed ejects.
    pub fn canary(&mut self, passed: bool, now_steady_ms: u64) {
        if !passed {
            self.canaries_passed = 0;
            self.eject(now_steady_ms);
            return;
        }
        self.canaries_passed = self.canaries_passed.saturating_add(1);
        self.success_ppm += (PPM - self.success_ppm) / DECAY;
        // What it failed before is over.
        if self.ejected.is_none() {
            self.failures_in_row = 0;
        }
        if let Some(passed) = &mut self.ejected {
            *passed += 1;
            if *passed >= TRIES_TO_RETURN {
                *self = Self {
                    canaries_passed: self.canaries_passed,
                    relapses: self.relapses,
                    fading_steady_ms: self.fading_steady_ms,
                    next_canary_steady_ms: self.next_canary_steady_ms,
                    success_ppm: self.success_ppm.max(SUCCESS_PRIOR_PPM / 2),
                    ..Self::NEW
                };
            }
        }
    }

    fn eject(&mut self, now_steady_ms: u64) {
        self.fade(now_steady_ms);
        (self.fading_steady_ms, self.tried_steady_ms) = (now_steady_ms, now_steady_ms);
        self.ejected = Some(0);
        self.relapses = self.relapses.saturating_add(1);
        self.successes = 0;
        (self.in_flight, self.trusted_in_flight) = (0, 0);
        self.next_canary_steady_ms = now_steady_ms.saturating_add(self.back_off_ms());
    }

    /// What it was fades with the time in which it fails nothing.
    fn fade(&mut self, now_steady_ms: u64) {
        let times = now_steady_ms.saturating_sub(self.fading_steady_ms) / RELAPSE_KEPT_MS;
        self.relapses = self.relapses.saturating_sub(u32::try_from(times).unwrap_or(u32::MAX));
        self.fading_steady_ms += times * RELAPSE_KEPT_MS;
    }

    fn back_off_ms(&self) -> u64 {
        (BACK_OFF_MS_MIN << self.relapses.min(16)).min(BACK_OFF_MS_MAX)
    }
}

/// The records of one node, by model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Records(Vec<(ModelDigest, Record)>);

impl Records {
    /// What became of tasks with this model.
    pub fn get(&self, model: ModelDigest) -> &Record {
        self.0.iter().find(|(own, _)| *own == model).map_or(&Record::NEW, |(_, record)| record)
    }

    /// The same, to be changed. A node that has as many records as it may serve models loses the oldest.
    pub fn get_mut(&mut self, model: ModelDigest) -> &mut Record {
        let at = self.0.iter().position(|(own, _)| *own == model).unwrap_or_else(|| {
            if self.0.len() >= limits::MODELS_PER_NODE_MAX {
                self.0.remove(0);
            }
            self.0.push((model, Record::NEW));
            self.0.len() - 1
        });
        &mut self.0[at].1
    }

    /// Replaces one.
    pub fn set(&mut self, model: ModelDigest, record: Record) {
        *self.get_mut(model) = record;
    }
}

#[cfg(test)]
mod tests;
