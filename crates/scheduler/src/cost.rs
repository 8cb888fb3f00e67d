//! The expected time to a completed answer: one number for "fastest" and "most likely to complete".
//!
//! **Time.** With *b* streams on the worker (of *S* slots), a prompt of *P* tokens and an answer of *A*:
//!
//! > T = load + wait + rtt + (b + 1) · P/prefill + A · step(b + 1)
//!
//! The worker reads one prompt's worth of tokens at a time, whoever it belongs to. Whoever ends is replaced, so while this
//! task is there, each of the *b* others reads a prompt once on average, and everybody waits for it; theirs are taken to
//! be as long as this one. `step(n)` is the measured time of one step with *n* streams
//! ([`trust::observations::Rates::step_ms`]), that is, after this task has joined. Where all slots are taken the task
//! waits for the `tasks − S + 1`th of them to end: with *S*
//! tasks like this one under way that takes `(tasks − S + 1) / S · A · step(S)`.
//!
//! **Others.** What a task takes from the streams beside it is a cost like its own: minimising only T would fill the
//! fastest machine until everyone on it is slow. While this task writes, each of *b* others steps slower than without it;
//! who leaves meanwhile is replaced where load is high, so there are *b* all the time. If the step is w + c·n (one pass
//! over the weights, and arithmetic for each stream), they lose together b·c·A, and c ≤ step(b+1)/(b+1). While its prompt
//! is read they wait. So
//!
//! > others = A · step(b + 1) · b/(b + 1) + b · P/prefill
//!
//! The first term is an upper bound; unlike the difference of two measured steps it needs nothing that was not measured
//! with as many streams, and it grows with *b* and with each step time, so that better measurements never cost rank.
//!
//! **Failure.** A client resumes from the exact token: a departure loses no token, it costs a pause. If *h* is the hazard
//! over the time the task takes, and each departure is answered by a resumption on a node like this one, the parts
//! computed before and after add up to T whatever their number, and the number of departures is Poisson with mean
//! h·T = −ln P(stays T). A node can also fail without leaving (probability 1 − s each time it is tried): then it is
//! another one's turn after the time it took to notice, on average (1 − s)/s times. With the pause
//!
//! > F = detection + wait elsewhere + (P + A/2)/prefill elsewhere
//!
//! **Weight.** What is minimised is the sum of squared times, not their sum, because those who wait longest are whom a
//! pool is judged by. A millisecond more for a task that takes T costs in proportion to T, and T grows with the answer. So
//! a task's own time counts A/[`Rule::usual_answer_tokens`], between 0.3 and 1: what is short goes where it disturbs
//! least, to idle machines of any speed, and leaves the fast ones to what is long.
//!
//! > cost = weight · T + others + F · (−ln P(stays T)) + F · (1 − s)/s + price
//!
//! **Price.** What the task costs at the node's ask, in micro-credits, counts [`Rule::price_ms_per_micro`] each, and all
//! of it together [`PRICE_MS_MAX`] at most: a price makes a node come later, and it never counts for more than a minute
//! of waiting, so that no ask, however absurd, hides how slow the others are. Who wants to pay less sets a ceiling, which
//! is a gate.

use crate::{LiveNode, LiveWorker, Now, Task};
use trust::survival::AtAge;

/// The constants of the rule.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rule {
    /// How much what others lose counts: 1 is as much as the task's own time, and minimises the sum of all.
    pub others: f64,
    /// From so many expected tokens on, a task's own time counts in full.
    pub usual_answer_tokens: f64,
    /// Until a client notices a failure: the silence that it takes for one, in milliseconds.
    pub detection_ms: f64,
    /// Until another node has been found and reached, in milliseconds.
    pub elsewhere_ms: f64,
    /// How fast that node reads what has been received, in tokens a second.
    pub elsewhere_prefill_per_s: f64,
    /// What a micro-credit is worth in waiting, in milliseconds.
    pub price_ms_per_micro: f64,
}

impl Default for Rule {
    fn default() -> Self {
        Self {
            others: 1.0,
            usual_answer_tokens: 300.0,
            detection_ms: 1_000.0,
            elsewhere_ms: 200.0,
            elsewhere_prefill_per_s: 200.0,
            price_ms_per_micro: 0.1,
        }
    }
}

/// What is expected of one node for one task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Estimate {
    /// From the request to the first token, in milliseconds.
    pub first_token_ms: u32,
    /// From one token to the next, in microseconds.
    pub token_us: u32,
    /// Until the answer is complete if nothing happens, in microseconds.
    pub time_us: u64,
    /// Expected cost, in microseconds: what is minimised.
    pub cost_us: u64,
}

/// Sizes of a task, as the rule needs them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Tokens of the answer.
    pub answer_tokens: u32,
}

impl From<&Task<'_>> for Sizes {
    fn from(task: &Task<'_>) -> Self {
        Self { prompt_tokens: task.prompt_tokens, answer_tokens: task.answer_tokens }
    }
}

/// Longest time that is told apart from for ever: about 50 days.
const TIME_MS_MAX: f64 = u32::MAX as f64;
/// The most that a price can count, in milliseconds.
pub const PRICE_MS_MAX: f64 = 60_000.0;
/// The least weight of a task's own time: nobody is left to wait for nothing.
const WEIGHT_MIN: f64 = 0.3;
/// Below this, the chance of success is not told apart: a node there is ejected.
const SUCCESS_MIN: f64 = 0.01;

impl Rule {
    /// What is expected of `worker` on `node` for a task of these sizes.
    pub fn estimate(&self, node: &LiveNode, worker: &LiveWorker, sizes: Sizes, now: Now) -> Estimate {
        let hazard = node.hazard.at_age(node.session_age_ms(now));
        self.outlook(node, worker, now).estimate(&self.weigh(sizes), &hazard)
    }

    /// What is the same for all nodes.
    pub(crate) fn weigh(&self, sizes: Sizes) -> Weighed {
        let (prompt, answer) = (f64::from(sizes.prompt_tokens), f64::from(sizes.answer_tokens));
        let reread_ms = (prompt + answer / 2.0) / self.elsewhere_prefill_per_s * 1000.0;
        Weighed {
            prompt,
            answer,
            weight: (answer / self.usual_answer_tokens).clamp(WEIGHT_MIN, 1.0),
            pause_ms: self.detection_ms + self.elsewhere_ms + reread_ms,
            others: self.others,
        }
    }

    /// What is the same for tasks of whatever size, until something is heard of the node or a reservation runs out.
    pub(crate) fn outlook(&self, node: &LiveNode, worker: &LiveWorker, now: Now) -> Outlook {
        let (slots, tasks) = (u64::from(worker.slots.max(1)), worker.tasks(now));
        let others = u32::try_from(tasks.min(slots - 1)).expect("fewer than slots, of which there are 32 bits");
        let success = (f64::from(node.record(worker.model).success_ppm()) / 1e6).clamp(SUCCESS_MIN, 1.0);
        Outlook {
            streams: f64::from(others),
            step_ms: worker.rates.step_ms(others + 1),
            prefill_ms: worker.rates.prefill_ms(1),
            // Full with its queue: every slot is taken, so `step_ms` is that of all slots.
            answers_ahead: tasks.checked_sub(slots).map_or(0.0, |queued| (queued + 1) as f64 / slots as f64),
            begin_ms: f64::from(worker.load_ms) + f64::from(node.rtt_us) / 1000.0,
            failures: (1.0 - success) / success,
            prompt_price_ms: self.price_ms_per_micro * worker.price.prompt_micro as f64 / 1000.0,
            output_price_ms: self.price_ms_per_micro * worker.price.output_micro as f64 / 1000.0,
        }
    }
}

/// A task with what the rule makes of its sizes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Weighed {
    prompt: f64,
    answer: f64,
    // Of the task's own time.
    weight: f64,
    // What one departure costs.
    pause_ms: f64,
    // What others lose counts so much.
    others: f64,
}

/// What a worker promises whatever the size of the task.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outlook {
    // Streams beside the task's.
    streams: f64,
    step_ms: f64,
    // For one token.
    prefill_ms: f64,
    // Answers that have to end before the task's turn.
    answers_ahead: f64,
    begin_ms: f64,
    // For each success.
    failures: f64,
    // For one token.
    prompt_price_ms: f64,
    output_price_ms: f64,
}

/// Times of a task, as far as they do not depend on whether the node stays.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    first_ms: f64,
    time_ms: f64,
    // From the streams beside the task's.
    taken_ms: f64,
}

impl Outlook {
    /// The same for one who pays nothing there.
    pub(crate) fn free(self) -> Self {
        Self { prompt_price_ms: 0.0, output_price_ms: 0.0, ..self }
    }

    /// `hazard`: the node's, at the age of its session now.
    pub(crate) fn estimate(&self, task: &Weighed, hazard: &AtAge) -> Estimate {
        let times = self.times(task);
        let cost_us = self.cost_us(task, &times, times.departures(hazard));
        Estimate {
            // Saturating, as casts of floating-point numbers are.
            first_token_ms: times.first_ms as u32,
            token_us: (self.step_ms * 1000.0) as u32,
            time_us: (times.time_ms * 1000.0) as u64,
            cost_us,
        }
    }

    /// The costs of several tasks. Step by step for all of them: each root and division waits for the one before, and a
    /// processor does those of other tasks meanwhile if it finds them near.
    pub(crate) fn costs_us<const N: usize>(&self, tasks: &[Weighed; N], hazard: &AtAge) -> [u64; N] {
        let times = tasks.each_ref().map(|task| self.times(task));
        let departures = times.each_ref().map(|times| times.departures(hazard));
        std::array::from_fn(|at| self.cost_us(&tasks[at], &times[at], departures[at]))
    }

    fn times(&self, task: &Weighed) -> Times {
        let answer_ms = task.answer * self.step_ms;
        let prefill_ms = task.prompt * self.prefill_ms;
        let wait_ms = if self.answers_ahead > 0.0 { self.answers_ahead * answer_ms } else { 0.0 };
        let first_ms = self.begin_ms + wait_ms + prefill_ms;
        let time_ms = (first_ms + self.streams * prefill_ms + answer_ms).min(TIME_MS_MAX);
        let taken_ms = self.streams * (answer_ms / (self.streams + 1.0) + prefill_ms);
        Times { first_ms, time_ms, taken_ms }
    }

    fn cost_us(&self, task: &Weighed, times: &Times, departures: f64) -> u64 {
        let failure_ms = task.pause_ms * (departures + self.failures);
        let price_ms = self.prompt_price_ms * task.prompt + self.output_price_ms * task.answer;
        let price_ms = price_ms.min(PRICE_MS_MAX);
        let own_ms = task.weight * times.time_ms;
        let cost_ms = (own_ms + task.others * times.taken_ms + failure_ms + price_ms).min(TIME_MS_MAX);
        (cost_ms * 1000.0) as u64
    }
}

impl Times {
    fn departures(&self, hazard: &AtAge) -> f64 {
        hazard.departures(self.time_ms as u64)
    }
}
