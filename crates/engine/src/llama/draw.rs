//! The random draw of the token at one place of an answer. It depends on the seed, the place and the weights, and on
//! nothing that was drawn before: an answer that goes on elsewhere goes on with the same stream.
//!
//! The Gumbel-max trick: to every token's logit is added noise of its own, -ln(-ln u) with u uniform in (0, 1), and the
//! largest sum wins, which happens to a token with exactly its probability (Gumbel, *Statistical Theory of Extreme Values*,
//! 1954; Maddison, Tarlow, Minka, *A\* Sampling*, NeurIPS 2014, section 2). A token's noise is a function of seed, place and
//! token alone. So the order of the candidates does not matter, and logits that differ in the last bits, as they do between
//! machines, draw another token only where two sums nearly tie.
//!
//! The uniform numbers come from SplitMix64 (Steele, Lea, Flood, *Fast Splittable Pseudorandom Number Generators*, OOPSLA
//! 2014) with the counter made of seed, place and token. Nobody has to be unable to guess them: the seed is the asker's.

use std::num::Wrapping;

/// The noise of one place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Draw {
    key: u64,
}

impl Draw {
    /// The noise of token number `place` of an answer, counted from 0.
    pub(super) fn new(seed: u64, place: u32) -> Self {
        Self { key: mix(mix(seed ^ 0x6461_726b_626c_6f6f) ^ u64::from(place)) }
    }

    /// The winner among tokens with their logits, which are natural logarithms of weights. `None` if there is none that is
    /// possible.
    pub(super) fn choose(self, candidates: impl Iterator<Item = (u32, f32)>) -> Option<u32> {
        let mut best = None;
        let mut highest = f64::NEG_INFINITY;
        for (token, logit) in candidates {
            let bits = mix(self.key ^ u64::from(token));
            // Most cannot win, which costs no logarithm to see. With v = 1 - u the noise is at most -ln v, since
            // -ln u ≥ 1 - u, and v > 2^-(zeros + 1) for the leading zeros of its bits.
            let bound = f64::from(bits.leading_zeros() + 1) * std::f64::consts::LN_2;
            if f64::from(logit) + bound <= highest {
                continue;
            }
            let sum = f64::from(logit) + noise(bits);
            // Of equal ones the lowest token, whatever the order.
            if sum > highest || (sum == highest && best.is_some_and(|best| token < best)) {
                (best, highest) = (Some(token), sum);
            }
        }
        best
    }
}

/// Standard Gumbel noise. `bits` are those of v = 1 - u: its upper 53, and a half, so that it is neither 0 nor 1.
fn noise(bits: u64) -> f64 {
    let v = ((bits >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    -(-(-v).ln_1p()).ln()
}

/// The output function of SplitMix64, one step on from `state`.
fn mix(state: u64) -> u64 {
    let mut z = Wrapping(state) + Wrapping(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)) * Wrapping(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)) * Wrapping(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)).0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_as_often_as_they_are_likely() {
        let probabilities = [0.5f64, 0.25, 0.2, 0.04, 0.01];
        const DRAWS: u32 = 200_000;
        let mut counts = [0u32; 5];
        for place in 0..DRAWS {
            let candidates = (0..).zip(probabilities).map(|(token, p)| (token * 7919, p.ln() as f32 - 3.0));
            counts[Draw::new(42, place).choose(candidates).unwrap() as usize / 7919] += 1;
        }
        // Pearson's chi-square with 4 degrees of freedom; 18.5 is its 99.9th percentile. The seed is fixed.
        let chi_square: f64 = counts
            .iter()
            .zip(probabilities)
            .map(|(&count, p)| {
                let expected = p * f64::from(DRAWS);
                (f64::from(count) - expected).powi(2) / expected
            })
            .sum();
        assert!(chi_square < 18.5, "{counts:?}: {chi_square}");
    }

    #[test]
    fn the_shortcut_changes_nothing() {
        for place in 0..2000 {
            let draw = Draw::new(7, place);
            let candidates: Vec<(u32, f32)> = (0..100).map(|token| (token, (token as f32 * 0.7).sin() * 6.0)).collect();
            let slow = candidates
                .iter()
                .map(|&(token, logit)| (token, f64::from(logit) + noise(mix(draw.key ^ u64::from(token)))))
                .max_by(|a, b| a.1.total_cmp(&b.1));
            assert_eq!(draw.choose(candidates.iter().copied()), slow.map(|(token, _)| token));
            assert_eq!(draw.choose(candidates.into_iter().rev()), slow.map(|(token, _)| token), "in any order");
        }
    }

    #[test]
    fn seed_and_place_decide() {
        let flat = || (0..1000).map(|token| (token, 0.0));
        let answer = |seed| (0..50).map(move |place| Draw::new(seed, place).choose(flat()));
        assert!(answer(1).eq(answer(1)));
        assert!(!answer(1).eq(answer(2)));
        let distinct: std::collections::HashSet<_> = answer(1).collect();
        assert!(distinct.len() > 40, "places differ");
    }

    #[test]
    fn a_small_error_rarely_changes_the_winner() {
        let logits = |error: f32| {
            (0..50u32).map(move |token| (token, (token as f32).cos() * 3.0 + error * (token as f32).sin()))
        };
        let changed = (0..20_000).filter(|place| {
            let draw = Draw::new(9, *place);
            draw.choose(logits(0.0)) != draw.choose(logits(1e-3))
        });
        let changed = changed.count();
        assert!(changed < 40, "{changed} of 20,000 draws for errors of a thousandth");
    }

    #[test]
    fn what_is_impossible_is_never_drawn() {
        assert_eq!(Draw::new(1, 1).choose([].into_iter()), None);
        assert_eq!(Draw::new(1, 1).choose([(4, f32::NEG_INFINITY)].into_iter()), None);
        assert_eq!(Draw::new(1, 1).choose([(4, f32::NEG_INFINITY), (5, -80.0)].into_iter()), Some(5));
        assert_eq!(Draw::new(1, 1).choose([(4, f32::NAN), (5, -80.0)].into_iter()), Some(5));
    }
}
