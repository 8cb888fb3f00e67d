//! What is asked of the pool: when, by whom, and how long.

use crate::{
    catalogue::Catalogue,
    random::{Concern, Random},
    time::{HOUR, Micros, micros, seconds},
};
use std::f64::consts::TAU;

/// Longest answer that anybody asks for.
pub const ANSWER_TOKENS_MAX: u32 = 1024;
/// Longest prompt.
const PROMPT_TOKENS_MAX: u32 = 2048;
/// Accounts, the first asking most: their weights fall like 1/rank (Zipf).
pub const ACCOUNTS: usize = 40;
/// Demand rises and falls by this share of its mean in the course of a day, highest at 15:00.
const DIURNAL: f64 = 0.3;

/// One task, as whoever asks knows it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Wish {
    /// When it comes.
    pub at: Micros,
    /// Who asks.
    pub account: usize,
    /// Whether somebody waits for it.
    pub interactive: bool,
    /// Tokens of its prompt.
    pub prompt: u32,
    /// Tokens of its answer, which nobody knows before it is complete.
    pub answer: u32,
    /// Most tokens that were asked for.
    pub answer_max: u32,
}

/// The distribution of lengths.
#[derive(Debug, Clone, Copy, Default)]
pub struct Lengths;

impl Lengths {
    /// Tokens of an average prompt and of an average answer, limits included.
    pub fn means(self, catalogue: &Catalogue) -> (f64, f64) {
        const DRAWS: u32 = 100_000;
        let mut random = Random::new(0, Concern::Arrivals, u64::MAX);
        let (mut prompts, mut answers) = (0u64, 0u64);
        for _ in 0..DRAWS {
            let wish = wish(catalogue, &mut random, 0);
            prompts += u64::from(wish.prompt);
            answers += u64::from(wish.answer);
        }
        (prompts as f64 / f64::from(DRAWS), answers as f64 / f64::from(DRAWS))
    }
}

fn wish(catalogue: &Catalogue, random: &mut Random, at: Micros) -> Wish {
    let kind = &catalogue.tasks[random.weighted(catalogue.tasks.iter().map(|task| task.share))];
    let tokens = |random: &mut Random, mean: f64, sigma: f64, max: u32| {
        random.log_normal_of_mean(mean, sigma).round().clamp(1.0, f64::from(max)) as u32
    };
    let prompt = tokens(random, kind.prompt_mean, kind.prompt_sigma, PROMPT_TOKENS_MAX);
    let answer = tokens(random, kind.answer_mean, kind.answer_sigma, ANSWER_TOKENS_MAX);
    // Half of the askers set no bound; the others one that is generous.
    let bounded = random.chance(0.5);
    let generous = (2 * answer).next_power_of_two().clamp(256, ANSWER_TOKENS_MAX);
    Wish {
        at,
        account: random.weighted((0..ACCOUNTS).map(|rank| 1.0 / (rank + 1) as f64)),
        interactive: kind.interactive,
        prompt,
        answer,
        answer_max: if bounded { generous } else { ANSWER_TOKENS_MAX },
    }
}

/// A crowd that comes at once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Crowd {
    /// How many times the usual demand.
    pub times: f64,
    /// Since when.
    pub from: Micros,
    /// Until when.
    pub until: Micros,
}

/// Tasks in the order in which they come: a Poisson process whose rate follows the day, and the crowd.
#[derive(Debug, Clone)]
pub struct Arrivals<'a> {
    catalogue: &'a Catalogue,
    random: Random,
    rate: f64,
    rate_max: f64,
    crowd: Option<Crowd>,
    /// So that the mean over the simulated hours is the rate that was asked for.
    day_mean: f64,
    now: Micros,
    until: Micros,
}

impl<'a> Arrivals<'a> {
    /// `rate` tasks in a second on average between `from` and `until`, without the crowd.
    pub fn new(
        catalogue: &'a Catalogue,
        seed: u64,
        rate: f64,
        (from, until): (Micros, Micros),
        crowd: Option<Crowd>,
    ) -> Self {
        const POINTS: u64 = 96;
        let day_mean = (0..POINTS).map(|at| day(from + (until - from) * at / POINTS)).sum::<f64>() / POINTS as f64;
        let times = crowd.map_or(1.0, |crowd| crowd.times.max(1.0));
        let rate_max = rate * times * (1.0 + DIURNAL) / day_mean;
        let random = Random::new(seed, Concern::Arrivals, 0);
        Self { catalogue, random, rate, rate_max, crowd, day_mean, now: from, until }
    }

    fn rate_at(&self, at: Micros) -> f64 {
        let crowd = self.crowd.filter(|crowd| (crowd.from..crowd.until).contains(&at));
        self.rate * day(at) / self.day_mean * crowd.map_or(1.0, |crowd| crowd.times)
    }
}

impl Iterator for Arrivals<'_> {
    type Item = Wish;

    /// By thinning (Lewis and Shedler, 1979).
    fn next(&mut self) -> Option<Wish> {
        if self.rate_max <= 0.0 {
            return None;
        }
        loop {
            self.now += micros(self.random.exponential(1.0 / self.rate_max));
            if self.now >= self.until {
                return None;
            }
            let keep = self.rate_at(self.now) / self.rate_max;
            if self.random.chance(keep) {
                return Some(wish(self.catalogue, &mut self.random, self.now));
            }
        }
    }
}

fn day(at: Micros) -> f64 {
    let hour = seconds(at % (24 * HOUR)) / 3600.0;
    1.0 + DIURNAL * (TAU * (hour - 15.0) / 24.0).cos()
}

#[cfg(test)]
mod tests {
    use super::{Arrivals, Crowd, Lengths};
    use crate::{catalogue::Catalogue, time::HOUR};

    #[test]
    fn the_rate_is_the_one_that_was_asked_for() {
        let catalogue = Catalogue::built_in();
        for from in [0, 14 * HOUR] {
            let count = Arrivals::new(&catalogue, 1, 5.0, (from, from + HOUR), None).count();
            assert!((17_200..18_800).contains(&count), "{count}");
        }
        assert_eq!(Arrivals::new(&catalogue, 1, 0.0, (0, HOUR), None).count(), 0);
    }

    #[test]
    fn a_crowd_multiplies_it_for_its_time() {
        let catalogue = Catalogue::built_in();
        let crowd = Crowd { times: 10.0, from: HOUR / 2, until: HOUR / 2 + HOUR / 10 };
        let all: Vec<_> = Arrivals::new(&catalogue, 1, 2.0, (0, HOUR), Some(crowd)).collect();
        let inside = all.iter().filter(|wish| (crowd.from..crowd.until).contains(&wish.at)).count();
        assert!((6_300..8_100).contains(&inside), "{inside}");
        assert!(all.windows(2).all(|two| two[0].at <= two[1].at));
    }

    #[test]
    fn lengths_have_the_published_means() {
        let catalogue = Catalogue::built_in();
        let (prompt, answer) = Lengths.means(&catalogue);
        // 0.8 · 69.5 + 0.2 · 161 and 0.8 · 214.5 + 0.2 · 338, less what the limits cut off.
        assert!((84.0..89.5).contains(&prompt), "{prompt}");
        assert!((222.0..240.0).contains(&answer), "{answer}");
        for wish in Arrivals::new(&catalogue, 1, 5.0, (0, HOUR), None) {
            assert!(wish.answer <= wish.answer_max && wish.answer_max.is_power_of_two() && wish.prompt > 0);
        }
    }
}
