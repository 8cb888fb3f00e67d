//! What is counted while a simulation runs.

use crate::{
    adversary::Character,
    device::Work,
    time::{Micros, seconds},
    workload::{ACCOUNTS, Wish},
};

/// How a task ended for the one who asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// With its answer.
    Completed,
    /// With an error, after every node that was tried.
    Failed,
    /// It was told to come back later, and came back in vain.
    Refused,
}

/// Everything that is counted. Only tasks that come within the measuring window count.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Tasks that came.
    pub offered: u64,
    /// Tasks by their end.
    pub completed: u64,
    /// With an error.
    pub failed: u64,
    /// Turned away for good.
    pub refused: u64,
    /// Seconds from the request to the last token, of those that were completed.
    pub latency_s: Vec<f32>,
    /// Seconds to the first token, of the same.
    pub first_token_s: Vec<f32>,
    /// Of the interactive ones among them.
    pub interactive_s: Vec<f32>,
    /// Interactive tasks that came.
    pub interactive_offered: u64,
    /// Tokens of prompts, and number, of the tasks whose answers make up [`Self::tokens`].
    pub served: (u64, u64),
    /// Tokens of answers, completed within the window, whenever they came.
    pub tokens: u64,
    /// The same, within the window or not.
    pub all_tokens: u64,
    /// Device seconds that ended in the hands of a reader.
    pub useful_s: f64,
    /// Device seconds of work that was done twice or for nothing.
    pub wasted_s: f64,
    /// Device seconds of trials.
    pub trial_s: f64,
    /// Answers that went on after a node was lost.
    pub resumed: u64,
    /// Second nodes beside late ones.
    pub hedged: u64,
    /// Requests for a place.
    pub asked: u64,
    /// Trials, and those that were failed.
    pub trials: (u64, u64),
    /// Users' tasks given to nodes of each character.
    pub given: [u64; 5],
    /// Tasks whose answer was noise.
    pub noise: u64,
    /// Tokens that each account asked for, and got, within the window.
    pub accounts: Vec<(f64, f64)>,
}

impl Tally {
    /// An empty one.
    pub fn new() -> Self {
        Self { accounts: vec![(0.0, 0.0); ACCOUNTS], ..Self::default() }
    }

    /// A task came.
    pub fn came(&mut self, wish: &Wish) {
        self.offered += 1;
        self.interactive_offered += u64::from(wish.interactive);
        self.accounts[wish.account].0 += f64::from(wish.answer);
    }

    /// A task that counts ended.
    pub fn ended(&mut self, wish: &Wish, outcome: Outcome, first_token: Option<Micros>, now: Micros) {
        match outcome {
            Outcome::Failed => self.failed += 1,
            Outcome::Refused => self.refused += 1,
            Outcome::Completed => {
                self.completed += 1;
                self.accounts[wish.account].1 += f64::from(wish.answer);
                let since = |at: Micros| seconds(at.saturating_sub(wish.at)) as f32;
                self.latency_s.push(since(now));
                self.first_token_s.push(since(first_token.unwrap_or(now)));
                if wish.interactive {
                    self.interactive_s.push(since(now));
                }
            }
        }
    }

    /// Work that reached a reader, and work that did not.
    pub fn worked(&mut self, useful: f64, wasted: f64) {
        self.useful_s += useful;
        self.wasted_s += wasted;
    }

    /// Work of a trial.
    pub fn tried(&mut self, work: Work) {
        self.trial_s += work.prompt_s + work.answer_s;
    }

    /// A user's task was given to a node of this character.
    pub fn gave(&mut self, character: Character) {
        self.given[character as usize] += 1;
    }

    /// Tokens of the average prompt and of the average answer that were served.
    pub fn served_means(&self) -> (f64, f64) {
        let (prompts, count) = self.served;
        let count = count.max(1) as f64;
        (prompts as f64 / count, self.tokens as f64 / count)
    }

    /// Device seconds of trials relative to those of users' tasks.
    pub fn trial_share(&self) -> f64 {
        let all = self.useful_s + self.wasted_s;
        if all == 0.0 { 0.0 } else { self.trial_s / all }
    }

    /// Share of all device seconds that was wasted.
    pub fn wasted_share(&self) -> f64 {
        let all = self.useful_s + self.wasted_s;
        if all == 0.0 { 0.0 } else { self.wasted_s / all }
    }
}

/// The value below which this share of the values lies: the nearest rank. None where there are none.
pub fn percentile(values: &mut [f32], share: f64) -> Option<f64> {
    if values.is_empty() {
        return None;
    }
    let rank = ((share * values.len() as f64).ceil() as usize).clamp(1, values.len());
    let (_, value, _) = values.select_nth_unstable_by(rank - 1, f32::total_cmp);
    Some(f64::from(*value))
}

/// The same over `all` tasks, of which those that are not among the values never ended: infinite, that is, none, where
/// they are too many.
pub fn percentile_of_all(values: &mut [f32], share: f64, all: u64) -> Option<f64> {
    let rank = (share * all as f64).ceil() as u64;
    if rank > values.len() as u64 {
        return None;
    }
    percentile(values, rank as f64 / values.len().max(1) as f64)
}

/// Jain's index of fairness (Jain, Chiu and Hawe, DEC-TR-301, 1984) of what accounts got, relative to the max-min fair
/// division of the whole among their demands: 1 where everybody got exactly that.
pub fn fairness(accounts: &[(f64, f64)]) -> f64 {
    let active: Vec<(f64, f64)> = accounts.iter().copied().filter(|(asked, _)| *asked > 0.0).collect();
    let total: f64 = active.iter().map(|(_, got)| got).sum();
    let fair = max_min(&active.iter().map(|(asked, _)| *asked).collect::<Vec<_>>(), total);
    let ratios: Vec<f64> =
        active.iter().zip(fair).filter(|(_, fair)| *fair > 0.0).map(|((_, got), fair)| got / fair).collect();
    let (sum, squares) = ratios.iter().fold((0.0, 0.0), |(sum, squares), ratio| (sum + ratio, squares + ratio * ratio));
    if squares == 0.0 { 1.0 } else { sum * sum / (ratios.len() as f64 * squares) }
}

/// Water-filling: nobody gets more than was asked for, and what is left is shared equally.
fn max_min(asked: &[f64], total: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..asked.len()).collect();
    order.sort_by(|one, two| asked[*one].total_cmp(&asked[*two]).then(one.cmp(two)));
    let mut left = total;
    let mut fair = vec![0.0; asked.len()];
    for (done, index) in order.into_iter().enumerate() {
        fair[index] = asked[index].min(left / (asked.len() - done) as f64);
        left -= fair[index];
    }
    fair
}

#[cfg(test)]
mod tests {
    use super::{fairness, max_min, percentile, percentile_of_all};

    #[test]
    fn percentiles_are_nearest_ranks() {
        let mut values: Vec<f32> = (1..=100).rev().map(|value| value as f32).collect();
        assert_eq!(percentile(&mut values, 0.5), Some(50.0));
        assert_eq!(percentile(&mut values, 0.99), Some(99.0));
        assert_eq!(percentile(&mut values, 1.0), Some(100.0));
        assert_eq!(percentile(&mut [], 0.5), None);
    }

    #[test]
    fn who_was_never_served_counts_as_the_slowest() {
        let mut values: Vec<f32> = (1..=98).map(|value| value as f32).collect();
        assert_eq!(percentile_of_all(&mut values, 0.5, 100), Some(50.0));
        assert_eq!(percentile_of_all(&mut values, 0.98, 100), Some(98.0));
        assert_eq!(percentile_of_all(&mut values, 0.99, 100), None);
    }

    #[test]
    fn fairness_is_measured_against_max_min() {
        assert_eq!(max_min(&[10.0, 2.0, 10.0], 12.0), [5.0, 2.0, 5.0]);
        assert!((fairness(&[(10.0, 5.0), (2.0, 2.0), (10.0, 5.0)]) - 1.0).abs() < 1e-9);
        // Two of four got everything.
        assert!((fairness(&[(1.0, 1.0), (1.0, 1.0), (1.0, 0.0), (1.0, 0.0)]) - 0.5).abs() < 1e-9);
        assert_eq!(fairness(&[(0.0, 0.0)]), 1.0);
        assert!(fairness(&[(10.0, 10.0), (2.0, 2.0)]) > 0.999_999, "everybody got what they asked for");
    }
}
