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
//! **Noise.** The same weights do not give the same numbers twice: kernels, threads and the composition of a batch change
//! the last bits, and where activations are rounded to 8 bits (llama.cpp on CPUs) that grows from layer to layer.
//! Backends that do not round activations (Metal) differ by the whole rounding. So distances of honest nodes were
//! measured, and so were those of nodes that cheat, with `cargo run -p engine --example distance` on one x86-64 machine:
//! SmolLM2-135M-Instruct in Q4_1 as the reference; the others are the same file quantised again; 12 questions, answers of
//! up to 64 tokens, written and scored alone and beside three others. Distances of one answer:
//!
//! | what the node runs | t = 0.8: least, median, most | greedy: least, median, most |
//! |---|---|---|
//! | the file itself | 0, 0.050, 0.094 | 0, 0.046, 0.093 |
//! | its weights in F16 (activations not rounded, as on another backend) | 0.047, 0.065, 0.116 | 0.036, 0.059, 0.141 |
//! | its weights in Q8_0 | 0.072, 0.096, 0.140 | 0.053, 0.082, 0.148 |
//! | Q4_K_M (larger than the reference) | 0.220, 0.321, 0.410 | 0.095, 0.264, 0.372 |
//! | Q3_K_M | 0.332, 0.417, 0.528 | 0.261, 0.386, 0.522 |
//! | Q4_0 (a tenth smaller, several times faster) | 0.484, 0.575, 0.711 | 0.466, 0.534, 0.666 |
//! | Q2_K | 0.427, 0.602, 0.708 | 0.386, 0.556, 0.692 |
//!
//! **Threshold.** [`DISTANCE_MAX`] is near the geometric middle between the largest honest distance (0.141) and the least
//! of a cheat at the temperatures that canaries have (0.220). The logarithms of the distances are about normal: honest
//! ones, those of the first two rows that are not 0, with median 0.065 and deviation 0.26, so that one answer in 30,000 is above; Q4_K_M at
//! t = 0.8 with 0.314 and 0.15, so that one in 8,000 is below, and of Q3_K_M and Q4_0 fewer than one in 10^9. Nobody is
//! ejected for one answer: it takes two referees that both disagree with it, and a second answer, asked by another client
//! or by the orchestrator, that fails in the same way. For an honest node that is below one in 10^6 even if one answer in
//! 1,000 were above the threshold; a node that serves Q4_K_M or less fails its first audit.
//!
//! **What is not separable.**
//! * More bits than the reference has, with the same weights: F16 and Q8_0 made from Q4_1 are as near as an honest node is.
//!   They are no cheat either: larger, slower, and the same answers.
//! * Small losses of large models. The authors of llama.cpp publish KL against the unquantised Llama 3 8B (pull request
//!   6936: `q8_0` 0.0014, `q6_K` 0.0055, `q5_K_M` 0.011, `q5_1` 0.018; pull request 12557: a 4-bit format 0.043), that is
//!   distances of 0.05, 0.10, 0.15, 0.19 and 0.29. So 4 bits under the name of 8 or 16 are found, and 6 are not. Larger
//!   models are less noisy, so a threshold for each model would see more; it takes measurements that do not exist yet.
//! * Metal and other CPUs were not measured; the row in F16 stands for them.
//!
//! * Users' answers are drawn in more ways than canaries. Of the file itself, 16 questions, written and scored as above,
//!   the largest distance was 0.149 at t = 1.5 and 0.144 at t = 1 with nothing cut: nearer to the threshold. Other backends
//!   and other files were not measured there.
//!
//! **What it does not see.** A node that draws its tokens from another model and then has the right one score them
//! reports the right numbers. It saves little by that, because it must hold the right model and read everything with it.

/// The distance from which an answer is not the model's, as measured: see the module's documentation.
pub const DISTANCE_MAX: f64 = 0.18;
/// One token adds at most this.
const DIFFERENCE_MAX: f64 = 1.0;
/// A token that the reference gives at least this log-probability says nothing (98 %).
const CERTAIN: f64 = -0.02;
/// Fewer tokens that count decide nothing: the mean square of 16 differences is within a factor of two of its
/// expectation with 95 % (χ² with 16 degrees of freedom: 6.9 to 28.8), and the medians of honest nodes and of the mildest
/// cheat are a factor of 2.8 and 1.7 away from the threshold, which is 7.7 and 3 in squares.
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
                let difference = (said - right).abs().min(DIFFERENCE_MAX);
                if right >= CERTAIN {
                    // A node that doubts what is certain adds to its distance, and never to the tokens that share it: it
                    // could thin out the others.
                    sum += if said >= 2.0 * CERTAIN { 0.0 } else { difference * difference };
                    continue;
                }
                difference
            }
            _ => DIFFERENCE_MAX,
        };
        sum += difference * difference;
        counted += 1;
    }
    (if counted == 0 { 0.0 } else { (sum / counted as f64).sqrt().min(DIFFERENCE_MAX) }, counted)
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
