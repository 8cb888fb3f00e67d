//! Rates from the times at which tokens came.

use std::time::{Duration, Instant};

/// One answer as it came in.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    /// When it was asked for.
    pub(crate) asked: Instant,
    /// Tokens of its prompt, by the worker's count.
    pub(crate) prompt_tokens: u32,
    /// When tokens came, and how many there were by then.
    pub(crate) arrivals: Vec<(Instant, u32)>,
    /// The tokens, and how likely they are; of a scoring, how likely those that were given are.
    pub(crate) ids: Vec<u32>,
    pub(crate) log_probs: Vec<f32>,
    /// Whether it ended as an answer ends.
    pub(crate) complete: bool,
}

impl Received {
    pub(crate) fn new(asked: Instant) -> Self {
        Self { asked, prompt_tokens: 0, arrivals: Vec::new(), ids: Vec::new(), log_probs: Vec::new(), complete: false }
    }

    pub(crate) fn tokens(&self) -> u32 {
        self.arrivals.last().map_or(0, |(_, tokens)| *tokens)
    }

    pub(crate) fn first(&self) -> Option<Instant> {
        self.arrivals.first().map(|(at, _)| *at)
    }

    fn last(&self) -> Option<Instant> {
        self.arrivals.last().map(|(at, _)| *at)
    }

    fn tokens_by(&self, at: Instant) -> u32 {
        let seen = self.arrivals.partition_point(|(arrived, _)| *arrived <= at);
        seen.checked_sub(1).map_or(0, |last| self.arrivals[last].1)
    }

    /// Tokens of the prompt a second, in thousandths: up to the first token, less the way there and back.
    pub(crate) fn prefill_milli(&self, round_trip: Duration) -> Option<u32> {
        let took = self.first()?.saturating_duration_since(self.asked).saturating_sub(round_trip);
        milli_per_second(self.prompt_tokens, took)
    }
}

/// What answers that ran side by side gave together, in thousandths of a token a second: counted over the time in which
/// all of them were generating, so that reading the prompts is not in it. Where there was no such time, over all of it.
pub(crate) fn decode_milli(answers: &[Received]) -> Option<u32> {
    let all = |at: fn(&Received) -> Option<Instant>| answers.iter().map(at).collect::<Option<Vec<Instant>>>();
    let (firsts, lasts) = (all(Received::first)?, all(Received::last)?);
    let (from, to) = (*firsts.iter().max()?, *lasts.iter().min()?);
    if to > from {
        let between = |answer: &Received| answer.tokens_by(to).saturating_sub(answer.tokens_by(from));
        let tokens = answers.iter().map(between).fold(0, u32::saturating_add);
        if let Some(rate) = milli_per_second(tokens, to - from) {
            return Some(rate);
        }
    }
    let asked = answers.iter().map(|answer| answer.asked).min()?;
    milli_per_second(
        answers.iter().map(Received::tokens).fold(0, u32::saturating_add),
        lasts.into_iter().max()? - asked,
    )
}

/// `None` where nothing came, or the clock did not move.
pub(crate) fn milli_per_second(tokens: u32, took: Duration) -> Option<u32> {
    let micros = took.as_micros();
    if tokens == 0 || micros == 0 {
        return None;
    }
    let milli = u128::from(tokens) * 1_000_000_000 / micros;
    Some(u32::try_from(milli).unwrap_or(u32::MAX).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(asked: Instant, prompt_tokens: u32, arrivals: &[(u64, u32)]) -> Received {
        let arrivals = arrivals.iter().map(|(ms, tokens)| (asked + Duration::from_millis(*ms), *tokens)).collect();
        Received { prompt_tokens, arrivals, complete: true, ..Received::new(asked) }
    }

    #[test]
    fn rates_are_those_of_the_arrivals() {
        let asked = Instant::now();
        let one = received(asked, 200, &[(1_020, 1), (1_120, 2), (1_220, 3)]);
        assert_eq!(one.prefill_milli(Duration::from_millis(20)), Some(200_000));
        assert_eq!(decode_milli(std::slice::from_ref(&one)), Some(10_000));
        // The second begins later and both end together: 100 ms with one token of each.
        let two = received(asked, 200, &[(1_120, 1), (1_220, 2)]);
        assert_eq!(decode_milli(&[one, two]), Some(20_000));
    }

    #[test]
    fn nothing_is_made_up_where_nothing_came() {
        let asked = Instant::now();
        let (none, at_once) = (received(asked, 10, &[]), received(asked, 10, &[(50, 5)]));
        assert_eq!((none.prefill_milli(Duration::ZERO), decode_milli(std::slice::from_ref(&none))), (None, None));
        assert_eq!(at_once.prefill_milli(Duration::from_secs(1)), None, "less than the way there");
        assert_eq!(decode_milli(std::slice::from_ref(&at_once)), Some(100_000), "all at once: over all of the time");
        assert_eq!(decode_milli(&[at_once, none]), None);
        assert_eq!(decode_milli(&[]), None);
    }
}
