//! One machine at work: slots, a short queue, prompts that take their share of the steps, answers that share the rest.
//!
//! The engine's rule (continuous batching with shared prompts): a step writes one token for each answer and reads up to
//! 128 tokens of the prompts, in equal shares. Between two changes of who is in it all rates are
//! constant, so the device is simulated exactly from change to change, and not step by step.

use crate::{
    catalogue::Rates,
    time::{Micros, micros, seconds},
};
use std::collections::VecDeque;

/// Tokens of prompts that the engine reads in one step.
const PROMPT_TOKENS_PER_STEP: f64 = 128.0;
/// Rounding of a whole simulation stays far below this share of a token.
const NOTHING: f64 = 1e-4;

/// A key of an attempt.
pub type AttemptKey = crate::slab::Key;

/// Work that was done on a device for one attempt.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Work {
    /// Seconds of the device that went into reading.
    pub prompt_s: f64,
    /// Seconds of the device that went into writing.
    pub answer_s: f64,
    /// Tokens written.
    pub tokens: f64,
}

#[derive(Debug, Clone)]
struct Job {
    attempt: AttemptKey,
    prompt_left: f64,
    answer_left: f64,
    work: Work,
}

impl Job {
    fn is_reading(&self) -> bool {
        self.prompt_left > 0.0
    }
}

/// What happened at a device.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Happening {
    /// The prompt is read: the first token is there.
    FirstToken(AttemptKey),
    /// The answer is complete.
    Done(AttemptKey, Work),
}

/// One machine's engine.
#[derive(Debug, Clone)]
pub struct Device {
    rates: Rates,
    slots: usize,
    jobs: Vec<Job>,
    waiting: VecDeque<Job>,
    since: Micros,
    /// Changes with who is in it: an event of an older generation is out of date.
    generation: u32,
    busy_s: f64,
}

impl Device {
    /// An idle one.
    pub fn new(rates: Rates, slots: usize) -> Self {
        Self {
            rates,
            slots,
            jobs: Vec::with_capacity(slots),
            waiting: VecDeque::new(),
            since: 0,
            generation: 0,
            busy_s: 0.0,
        }
    }

    /// What it can do.
    pub fn rates(&self) -> &Rates {
        &self.rates
    }

    /// Tasks in it, running or waiting.
    pub fn tasks(&self) -> usize {
        self.jobs.len() + self.waiting.len()
    }

    /// The generation of the next event.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Seconds in which it worked, until now.
    pub fn busy_s(&self) -> f64 {
        self.busy_s
    }

    /// Takes a task: `prompt` tokens to read, `answer` tokens to write.
    pub fn push(&mut self, now: Micros, attempt: AttemptKey, prompt: f64, answer: f64) {
        self.advance(now);
        let job = Job { attempt, prompt_left: prompt.max(1.0), answer_left: answer.max(1.0), work: Work::default() };
        self.waiting.push_back(job);
        self.fill();
        self.generation = self.generation.wrapping_add(1);
    }

    /// Gives up an attempt: what was done for it.
    pub fn cancel(&mut self, now: Micros, attempt: AttemptKey) -> Option<Work> {
        self.advance(now);
        self.generation = self.generation.wrapping_add(1);
        if let Some(at) = self.jobs.iter().position(|job| job.attempt == attempt) {
            let job = self.jobs.remove(at);
            self.fill();
            return Some(job.work);
        }
        let at = self.waiting.iter().position(|job| job.attempt == attempt)?;
        self.waiting.remove(at).map(|job| job.work)
    }

    /// Ends everything: who was in it, and what was done for each.
    pub fn clear(&mut self, now: Micros) -> Vec<(AttemptKey, Work)> {
        self.advance(now);
        self.generation = self.generation.wrapping_add(1);
        self.jobs.drain(..).chain(self.waiting.drain(..)).map(|job| (job.attempt, job.work)).collect()
    }

    /// What has been done for an attempt that is in it.
    pub fn work(&mut self, now: Micros, attempt: AttemptKey) -> Option<Work> {
        self.advance(now);
        self.jobs.iter().chain(&self.waiting).find(|job| job.attempt == attempt).map(|job| job.work)
    }

    /// When something happens next, if nobody comes or goes.
    pub fn next(&self) -> Option<Micros> {
        let (reading, writing) = self.speeds();
        let left = self.jobs.iter().map(|job| {
            if job.is_reading() { job.prompt_left / reading.tokens } else { job.answer_left / writing.tokens }
        });
        left.min_by(f64::total_cmp).map(|left| self.since + micros(left).max(1))
    }

    /// What has happened until `now`, in the order of the slots.
    pub fn happen(&mut self, now: Micros, happenings: &mut Vec<Happening>) {
        self.advance(now);
        self.generation = self.generation.wrapping_add(1);
        let mut at = 0;
        while at < self.jobs.len() {
            let job = &mut self.jobs[at];
            if job.is_reading() && job.prompt_left <= NOTHING {
                job.prompt_left = 0.0;
                happenings.push(Happening::FirstToken(job.attempt));
            } else if !job.is_reading() && job.answer_left <= NOTHING {
                let job = self.jobs.remove(at);
                happenings.push(Happening::Done(job.attempt, job.work));
                continue;
            }
            at += 1;
        }
        self.fill();
    }

    fn fill(&mut self) {
        while self.jobs.len() < self.slots
            && let Some(job) = self.waiting.pop_front()
        {
            self.jobs.push(job);
        }
    }

    /// For each prompt being read and each answer being written: its tokens in a second, and its share of the device.
    fn speeds(&self) -> (Speed, Speed) {
        let readers = self.jobs.iter().filter(|job| job.is_reading()).count();
        let writers = self.jobs.len() - readers;
        let write_s = self.rates.step_s[writers];
        let read_s = if readers == 0 { 0.0 } else { PROMPT_TOKENS_PER_STEP / self.rates.prefill };
        let step_s = write_s + read_s;
        let each = |count: usize, tokens: f64, part_s: f64| {
            let count = count.max(1) as f64;
            Speed { tokens: tokens / step_s / count, share: part_s / step_s / count }
        };
        (each(readers, PROMPT_TOKENS_PER_STEP, read_s), each(writers, writers as f64, write_s))
    }

    fn advance(&mut self, now: Micros) {
        let passed = seconds(now.saturating_sub(self.since));
        self.since = self.since.max(now);
        if passed == 0.0 || self.jobs.is_empty() {
            return;
        }
        self.busy_s += passed;
        let (reading, writing) = self.speeds();
        for job in &mut self.jobs {
            if job.is_reading() {
                // An event is rounded up: never read past the end, so that `happen` sees it.
                job.prompt_left = (job.prompt_left - reading.tokens * passed).max(NOTHING / 2.0);
                job.work.prompt_s += reading.share * passed;
            } else {
                let tokens = (writing.tokens * passed).min(job.answer_left);
                job.answer_left -= tokens;
                job.work.tokens += tokens;
                job.work.answer_s += writing.share * passed;
            }
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Speed {
    tokens: f64,
    share: f64,
}

#[cfg(test)]
mod tests {
    use super::{Device, Happening, Work};
    use crate::{
        catalogue::Rates,
        time::{Micros, seconds},
    };

    /// Reads 128 tokens a second; writes 10 a second for one answer, 20 for four and more.
    fn device() -> Device {
        Device::new(Rates::new(128.0, 10.0, &[1.0, 1.5, 2.0, 2.0]), 4)
    }

    fn run(device: &mut Device) -> Vec<(f64, Happening)> {
        let mut all = Vec::new();
        while let Some(at) = device.next() {
            let mut happenings = Vec::new();
            device.happen(at, &mut happenings);
            all.extend(happenings.into_iter().map(|happening| (seconds(at), happening)));
        }
        all
    }

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-3
    }

    #[test]
    fn one_answer_alone_takes_prompt_and_tokens() {
        let mut device = device();
        device.push(0, 1, 64.0, 50.0);
        let all = run(&mut device);
        assert!(matches!(all[0], (at, Happening::FirstToken(1)) if close(at, 0.5)), "{all:?}");
        let (at, Happening::Done(1, work)) = all[1] else { panic!("{all:?}") };
        assert!(close(at, 5.5), "{at}");
        assert!(close(work.prompt_s, 0.5) && close(work.answer_s, 5.0) && close(work.tokens, 50.0), "{work:?}");
        assert!(close(device.busy_s(), 5.5));
    }

    #[test]
    fn four_answers_share_the_curve() {
        let mut device = device();
        for attempt in 0..4 {
            device.push(0, attempt, 32.0, 100.0);
        }
        let all = run(&mut device);
        let (last, _) = all[all.len() - 1];
        // 128 tokens to read take 1 s, 400 to write take 20 s.
        assert!(close(last, 21.0), "{all:?}");
        let work: f64 =
            all.iter().map(|(_, h)| if let Happening::Done(_, w) = h { w.prompt_s + w.answer_s } else { 0.0 }).sum();
        assert!(close(work, device.busy_s()), "every second belongs to somebody: {work}");
    }

    #[test]
    fn a_prompt_slows_the_answers_beside_it() {
        let mut device = device();
        device.push(0, 1, 1.0, 100.0);
        let mut happenings = Vec::new();
        device.happen(device.next().unwrap(), &mut happenings);
        let alone: Work = device.work(1_000_000, 1).unwrap();
        device.push(1_000_000, 2, 128.0, 10.0);
        let beside = device.work(2_000_000, 1).unwrap();
        // A step takes 0.1 s for the token and 1 s for the prompt.
        assert!(close(beside.tokens - alone.tokens, 1.0 / 1.1), "{}", beside.tokens - alone.tokens);
    }

    #[test]
    fn the_fifth_waits_for_a_slot_and_a_cancelled_one_makes_room() {
        let mut device = device();
        for attempt in 0..5 {
            device.push(0, attempt, 1.0, 10.0);
        }
        assert_eq!(device.tasks(), 5);
        assert_eq!(device.work(10, 4), Some(Work::default()));
        let generation = device.generation();
        assert!(device.cancel(10, 0).is_some());
        assert!(device.cancel(10, 0).is_none());
        assert_ne!(device.generation(), generation);
        assert_eq!(device.tasks(), 4);
        let done = run(&mut device).iter().filter(|(_, happening)| matches!(happening, Happening::Done(..))).count();
        assert_eq!(done, 4);
        assert_eq!(device.clear(u64::MAX as Micros / 4).len(), 0);
    }

    #[test]
    fn what_a_dying_machine_did_is_told() {
        let mut device = device();
        device.push(0, 9, 1.0, 100.0);
        device.push(0, 8, 1.0, 100.0);
        let mut happenings = Vec::new();
        device.happen(device.next().unwrap(), &mut happenings);
        let lost = device.clear(1_000_000);
        assert_eq!(lost.len(), 2);
        assert!(lost.iter().all(|(_, work)| work.tokens > 1.0 && work.tokens < 10.0), "{lost:?}");
        assert_eq!((device.tasks(), device.next()), (0, None));
    }
}
