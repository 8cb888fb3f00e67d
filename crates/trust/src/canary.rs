//! Whether an answer came from the model that was named: log-probabilities against a reference.
//!
//! A node reports, with each token that it generated, the token's log-probability under the model's unmodified
//! distribution. A reference reads the same tokens once (teacher forcing) and says what they should have been.
//!
//! **Statistic.** The root of the mean square of the differences, each bounded by 1. If the node's
//! logits differ from the reference's by δ, small, then a token's log-probability differs by δ(token) − E δ, so its mean
//! square over tokens drawn from the model is the variance of δ; and that is, to second order, twice the
//! Kullback–Leibler divergence between the two. So √(2·KL) is estimated from drawn tokens alone, without any whole
//! distribution. The bound keeps one odd token from deciding.
//!
//! **Only uncertain tokens count.** Where the reference is certain (98 %), both say 0 whatever they are. Which
//! tokens count is the reference's word, so a node cannot choose them.
//!
//! **Threshold.** The same weights on another machine or in another batch differ by rounding: logits by the order of 10⁻²,
//! KL ≤ 10⁻⁴, distance ≤ 0.015. For quantisation the authors of llama.cpp publish KL against the unquantised model (pull
//! request 6936, Llama 3 8B: `q8_0` 0.0014, `q6_K` 0.0055, `q5_K_M` 0.011, `q5_1` 0.018; pull request 12557: a 4-bit
//! format 0.043), that is, distances of 0.05, 0.10, 0.15, 0.19 and 0.29; another model's is near the bound. So a 4-bit
//! file under the name of an 8-bit one has 0.2 or more, and [`DISTANCE_MAX`] is the geometric middle of 0.015 and 0.2. An
//! 8-bit file under the name of the unquantised model stands at the threshold: it may pass.
//!
//! **What it does not see.** A node that draws its tokens from another model and then has the right one score them
//! reports the right numbers. It saves little by that, because it must hold the right model and read everything with it.

/// The distance from which an answer is not the model's. To be confirmed by measurement; one place.
pub const DISTANCE_MAX: f64 = 0.055;
/// One token adds at most this.
const DIFFERENCE_MAX: f64 = 1.0;
/// A token that the reference gives at least this log-probability says nothing (98 %).
const CERTAIN: f64 = -0.02;
/// Fewer tokens that count decide nothing: the mean square of 16 differences is within a factor of two of its
/// expectation with 95 % (χ² with 16 degrees of freedom: 6.9 to 28.8), and the threshold is a factor of 3.6 away from
/// both sides, which is 13 in squares.
pub const TOKENS_MIN: usize = 16;

/// What a comparison found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Verdict {
    /// The answer is the model's.
    Passed {
        /// How far it is from the reference.
        distance: f64,
    },
    /// It is not.
    Failed {
        /// How far it is from the reference.
        distance: f64,
    },
    /// Too few tokens that say anything.
    Inconclusive,
}

impl Verdict {
    /// Whether it passed; `None` where nothing can be said.
    pub fn passed(&self) -> Option<bool> {
        match self {
            Self::Passed { .. } => Some(true),
            Self::Failed { .. } => Some(false),
            Self::Inconclusive => None,
        }
    }

    /// The distance in thousandths, 0 where nothing can be said.
    pub fn distance_milli(&self) -> u32 {
        match self {
            Self::Passed { distance } | Self::Failed { distance } => (distance * 1000.0).round() as u32,
            Self::Inconclusive => 0,
        }
    }
}

/// The distance between what a node said and what a reference says of the same tokens, and how many of them count.
/// Numbers that are no log-probabilities are as far away as can be; so is a list of another length.
pub fn distance(reported: &[f32], reference: &[f32]) -> (f64, usize) {
    let length = reported.len().max(reference.len());
    let (mut sum, mut counted) = (0.0, 0);
    for at in 0..length {
        let (said, right) = (reported.get(at).copied(), reference.get(at).copied());
        let is_log_prob = |value: f32| value.is_finite() && value <= 1e-3;
        let difference = match (said, right) {
            (Some(said), Some(right)) if is_log_prob(said) && is_log_prob(right) => {
                let (said, right) = (f64::from(said), f64::from(right));
                if right >= CERTAIN && said >= 2.0 * CERTAIN {
                    continue;
                }
                (said - right).abs().min(DIFFERENCE_MAX)
            }
            _ => DIFFERENCE_MAX,
        };
        sum += difference * difference;
        counted += 1;
    }
    (if counted == 0 { 0.0 } else { (sum / counted as f64).sqrt() }, counted)
}

/// Whether what a node said of its own tokens is what the model says of them.
pub fn verdict(reported: &[f32], reference: &[f32]) -> Verdict {
    let (distance, counted) = distance(reported, reference);
    match () {
        () if counted < TOKENS_MIN => Verdict::Inconclusive,
        () if distance > DISTANCE_MAX => Verdict::Failed { distance },
        () => Verdict::Passed { distance },
    }
}
