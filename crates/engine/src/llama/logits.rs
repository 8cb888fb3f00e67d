//! What the model says of the next token, before anything is done to it.

/// Numbers at a time. The compiler turns a lane into a vector register's element: a vocabulary has up to 256,000 tokens.
const LANES: usize = 16;
/// Numbers that are summed in single precision; their sums are added in double precision.
const BLOCK: usize = 64 * LANES;
/// Lowest log-probability that is told, so that every one is a number. e^-1000 is 0 in any arithmetic.
const LOG_PROB_MIN: f32 = -1000.0;

/// The logits of one place, with what makes them probabilities.
#[derive(Debug, Clone, Copy)]
pub(super) struct Logits<'a> {
    values: &'a [f32],
    max: f32,
    /// ln Σ exp(value - max), from 0 to the logarithm of the vocabulary's size.
    log_sum: f32,
}

impl<'a> Logits<'a> {
    /// `None` if there is no finite maximum, or anything that is not a number: llama.cpp's samplers abort on those.
    pub(super) fn new(values: &'a [f32]) -> Option<Self> {
        let max = maximum(values);
        if !max.is_finite() {
            return None;
        }
        let log_sum = sum_of_exp(values, max).ln() as f32;
        log_sum.is_finite().then_some(Self { values, max, log_sum })
    }

    pub(super) fn values(&self) -> &'a [f32] {
        self.values
    }

    /// The first of the likeliest tokens.
    pub(super) fn likeliest(&self) -> u32 {
        let index = self.values.iter().position(|&value| value == self.max).expect("the maximum is one of them");
        u32::try_from(index).expect("a vocabulary is counted in 31 bits")
    }

    /// The natural log-probability of a token, to about 1e-5. Least for one that is not in the vocabulary.
    pub(super) fn log_prob(&self, token: u32) -> f32 {
        let value = self.values.get(token as usize).copied().unwrap_or(f32::NEG_INFINITY);
        (value - self.max - self.log_sum).max(LOG_PROB_MIN)
    }

    /// The natural log-probability of the likeliest token.
    pub(super) fn best(&self) -> f32 {
        -self.log_sum
    }
}

/// Ignores what is not a number.
fn maximum(values: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let chunks = values.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane = larger(*lane, value);
        }
    }
    lanes.iter().chain(rest).copied().fold(f32::NEG_INFINITY, larger)
}

/// Σ exp(value - max); not a number if one of the values is not.
fn sum_of_exp(values: &[f32], max: f32) -> f64 {
    let block_sum = |block: &[f32]| {
        let mut lanes = [0f32; LANES];
        let chunks = block.chunks_exact(LANES);
        let rest: f32 = chunks.remainder().iter().map(|&value| exp(value - max)).sum();
        for chunk in chunks {
            for (lane, &value) in lanes.iter_mut().zip(chunk) {
                *lane += exp(value - max);
            }
        }
        lanes.iter().map(|&lane| f64::from(lane)).sum::<f64>() + f64::from(rest)
    };
    values.chunks(BLOCK).map(block_sum).sum()
}

/// e^x for x ≤ 0, to a relative error of 1e-5; at least e^-87. In operations that every processor has for vectors, so
/// that the compiler can use them: the library's `exp` is a call for each number.
///
/// e^x = 2^n · 2^f with n the whole number nearest to x/ln 2 and |f| ≤ 1/2. The polynomial in f is 1 at 0, and otherwise
/// misses 2^f by the least possible share of it: 2.9e-6 (fitted by Lawson's iteration).
#[inline(always)]
fn exp(x: f32) -> f32 {
    /// Added to a small number it leaves the nearest whole number in the lowest bits (IEEE 754: one unit in the last place
    /// of 1.5·2^23 is 1).
    const ROUND: f32 = 12_582_912.0;
    // Not `max`, which would make a number of what is none.
    let x = if x < -87.0 { -87.0 } else { x };
    let exponent = x * std::f32::consts::LOG2_E;
    let shifted = exponent + ROUND;
    let f = exponent - (shifted - ROUND);
    let power = f32::from_bits(shifted.to_bits().wrapping_add(127) << 23);
    let p = 0.009_582_853;
    let p = p * f + 0.055_906_426;
    let p = p * f + 0.240_240_99;
    let p = p * f + 0.693_124_2;
    let p = p * f + 1.0;
    p * power
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// In double precision, one by one.
    fn exact(values: &[f32], token: usize) -> f64 {
        let max = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = values.iter().map(|&value| f64::from(value - max).exp()).sum();
        f64::from(values[token] - max) - sum.ln()
    }

    #[test]
    fn exp_is_close() {
        for step in 0..870_000 {
            let x = -(step as f32) * 1e-4;
            let exact = f64::from(x).exp();
            assert!((f64::from(exp(x)) / exact - 1.0).abs() < 1e-5, "{x}");
        }
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(f32::NEG_INFINITY) < 1e-37);
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn equal_logits_share_the_whole() {
        for size in [1usize, 15, 16, 17, 1023, 49_152, 262_144] {
            let values = vec![3.25; size];
            let logits = Logits::new(&values).unwrap();
            let expected = -(size as f64).ln();
            assert!((f64::from(logits.log_prob(0)) - expected).abs() < 1e-5, "{size}");
            assert_eq!(logits.best(), logits.log_prob(0));
        }
    }

    proptest! {
        #[test]
        fn log_probs_agree_with_double_precision(
            spread in 0.01f32..60.0,
            shift in -100f32..100.0,
            seed in any::<u32>(),
            size in 1usize..70_000,
        ) {
            let mut state = u64::from(seed);
            let mut uniform = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 40) as f32 / (1 << 24) as f32
            };
            let values: Vec<f32> = (0..size).map(|_| shift + spread * uniform()).collect();
            let logits = Logits::new(&values).unwrap();
            for token in [0, size / 2, size - 1, logits.likeliest() as usize] {
                let error = f64::from(logits.log_prob(token as u32)) - exact(&values, token);
                prop_assert!(error.abs() < 1e-4, "{error}");
            }
            prop_assert_eq!(logits.best(), logits.log_prob(logits.likeliest()));
        }
    }

    #[test]
    fn the_likeliest_token_is_the_first_largest() {
        let mut values: Vec<f32> = (0..1000).map(|i| ((i * 7919) % 997) as f32 - 500.0).collect();
        let expected = (0..1000).rev().max_by(|&a, &b| values[a].total_cmp(&values[b])).unwrap();
        assert_eq!(Logits::new(&values).unwrap().likeliest(), expected as u32);
        values[999] = 1e6;
        assert_eq!(Logits::new(&values).unwrap().likeliest(), 999);
        values[3] = 1e6;
        assert_eq!(Logits::new(&values).unwrap().likeliest(), 3);
    }

    #[test]
    fn without_numbers_there_are_no_probabilities() {
        assert!(Logits::new(&[]).is_none());
        assert!(Logits::new(&[f32::NAN; 40]).is_none());
        assert!(Logits::new(&[f32::NEG_INFINITY; 40]).is_none());
        assert!(Logits::new(&[0.0, f32::INFINITY]).is_none());
        assert!(Logits::new(&[1.0, f32::NAN]).is_none());
        let impossible = [1.0, f32::NEG_INFINITY];
        let logits = Logits::new(&impossible).unwrap();
        assert_eq!((logits.log_prob(0), logits.log_prob(1), logits.log_prob(9)), (0.0, LOG_PROB_MIN, LOG_PROB_MIN));
    }
}
