//! Chance, reproducible: a generator for each concern, and the distributions that the models are stated in.

use rand_pcg::{Pcg64, rand_core::Rng};
use std::f64::consts::TAU;

/// What a stream of chance is for. Each concern has its own, so that two policies meet the same world: the same
/// arrivals, the same sessions, the same networks (common random numbers).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Concern {
    /// Which machine a node is, and which network it has.
    Machine,
    /// When its owner lends it.
    Presence,
    /// When tasks come, and which.
    Arrivals,
    /// Delays on the network.
    Network,
    /// What the orchestrator draws for itself.
    Matching,
    /// What a client draws for itself.
    Client,
}

/// A stream of chance.
#[derive(Debug, Clone)]
pub struct Random(Pcg64);

impl Random {
    /// The stream of `concern` number `index` of the simulation with this seed.
    pub fn new(seed: u64, concern: Concern, index: u64) -> Self {
        let state = u128::from(mixed(seed)) << 64 | u128::from(mixed(seed ^ 0x5851_f42d_4c95_7f2d));
        let stream = u128::from(mixed(concern as u64 + 1)) << 64 | u128::from(mixed(index));
        Self(Pcg64::new(state, stream))
    }

    /// Sixty-four bits.
    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Uniform in [0, 1).
    pub fn unit(&mut self) -> f64 {
        // 53 bits are all that the mantissa holds.
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform in `0..count`; 0 where `count` is 0.
    pub fn below(&mut self, count: usize) -> usize {
        // The bias is below 2^-40 for every count here.
        ((self.unit() * count as f64) as usize).min(count.saturating_sub(1))
    }

    /// True with this probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// Exponential with this mean.
    pub fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.unit()).ln()
    }

    /// Weibull, by inversion: `scale · (-ln(1 - u))^(1 / shape)`.
    pub fn weibull(&mut self, shape: f64, scale: f64) -> f64 {
        scale * (-(1.0 - self.unit()).ln()).powf(1.0 / shape)
    }

    /// Standard normal (Box and Muller, 1958; the sine half is not used, so that a draw has no memory).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (TAU * self.unit()).cos()
    }

    /// Log-normal: `exp(mu + sigma · normal)`.
    pub fn log_normal(&mut self, mu: f64, sigma: f64) -> f64 {
        (mu + sigma * self.normal()).exp()
    }

    /// Log-normal with this mean.
    pub fn log_normal_of_mean(&mut self, mean: f64, sigma: f64) -> f64 {
        self.log_normal(mean.ln() - sigma * sigma / 2.0, sigma)
    }

    /// An index, each as likely as its weight; the last one where all weights are 0.
    pub fn weighted(&mut self, weights: impl Iterator<Item = f64> + Clone) -> usize {
        let mut left = self.unit() * weights.clone().sum::<f64>();
        let mut last = 0;
        for (index, weight) in weights.enumerate() {
            if left < weight {
                return index;
            }
            left -= weight;
            last = index;
        }
        last
    }
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).
pub fn mixed(state: u64) -> u64 {
    let mut mixed = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::{Concern, Random};

    const DRAWS: usize = 200_000;

    fn sample(draw: impl Fn(&mut Random) -> f64) -> Vec<f64> {
        let mut random = Random::new(7, Concern::Machine, 3);
        let mut sample: Vec<f64> = (0..DRAWS).map(|_| draw(&mut random)).collect();
        sample.sort_by(f64::total_cmp);
        sample
    }

    fn mean(sample: &[f64]) -> f64 {
        sample.iter().sum::<f64>() / sample.len() as f64
    }

    #[test]
    fn streams_differ_and_repeat() {
        let draw = |seed, concern, index| Random::new(seed, concern, index).bits();
        assert_eq!(draw(1, Concern::Machine, 0), draw(1, Concern::Machine, 0));
        let all = [
            draw(1, Concern::Machine, 0),
            draw(2, Concern::Machine, 0),
            draw(1, Concern::Presence, 0),
            draw(1, Concern::Machine, 1),
        ];
        for (at, one) in all.iter().enumerate() {
            assert!(!all[at + 1..].contains(one), "{all:?}");
        }
    }

    #[test]
    fn the_exponential_has_its_mean_and_median() {
        let sample = sample(|random| random.exponential(4.0));
        assert!((mean(&sample) - 4.0).abs() < 0.05, "{}", mean(&sample));
        assert!((sample[DRAWS / 2] - 4.0 * 2f64.ln()).abs() < 0.05);
    }

    #[test]
    fn the_weibull_has_its_quantiles() {
        let (shape, scale) = (0.393, 2.964);
        let sample = sample(|random| random.weibull(shape, scale));
        for share in [0.25, 0.5, 0.75, 0.9] {
            let exact = scale * (-(1.0f64 - share).ln()).powf(1.0 / shape);
            let found = sample[(share * DRAWS as f64) as usize];
            assert!((found / exact - 1.0).abs() < 0.05, "{share}: {found} against {exact}");
        }
    }

    #[test]
    fn the_log_normal_has_its_median_and_mean() {
        let by_mu = sample(|random| random.log_normal(-0.586, 2.844));
        assert!((by_mu[DRAWS / 2] / (-0.586f64).exp() - 1.0).abs() < 0.05, "{}", by_mu[DRAWS / 2]);
        let by_mean = sample(|random| random.log_normal_of_mean(214.5, 0.9));
        assert!((mean(&by_mean) / 214.5 - 1.0).abs() < 0.02, "{}", mean(&by_mean));
    }

    #[test]
    fn the_normal_is_standard() {
        let sample = sample(Random::normal);
        assert!(mean(&sample).abs() < 0.01);
        let variance = sample.iter().map(|x| x * x).sum::<f64>() / DRAWS as f64;
        assert!((variance - 1.0).abs() < 0.02, "{variance}");
        assert!((sample[DRAWS * 975 / 1000] - 1.96).abs() < 0.03);
    }

    #[test]
    fn weights_are_respected() {
        let mut random = Random::new(7, Concern::Arrivals, 0);
        let mut counts = [0u32; 3];
        for _ in 0..30_000 {
            counts[random.weighted([1.0, 0.0, 2.0].into_iter())] += 1;
        }
        assert_eq!(counts[1], 0);
        assert!((9_500..10_500).contains(&counts[0]), "{counts:?}");
        assert_eq!(random.below(0), 0);
    }
}
