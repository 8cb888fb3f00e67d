//! The Trusted Compute Score: what a node has earned, 0 to 1, with its parts.
//!
//! > TCS = A · H^¼ · N^¼ · U^¼ · R^¼
//!
//! A pure function of agreed observations, never agreed on itself: floating point may differ in its last bit between
//! machines, and nothing depends on that bit. The parts are a weighted geometric mean, so that none can be bought with
//! another (a fast machine with false results has nothing), and attestation is a factor of its own: it bounds the rest.

use crate::{
    observations::{Network, Observations, Rates, Results},
    survival::Hazard,
};
use protocol::ids::ModelDigest;

/// What backs a node's word about itself. Ordered: more is better.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Attestation {
    /// None, or none that holds now.
    Stale,
    /// Its own signature.
    #[default]
    SelfSigned,
    /// Its own signature, and a pool that admitted it by ticket: somebody knows whose machine it is.
    Vouched,
    /// A TPM's quote.
    Tpm,
    /// The processor's own attestation.
    Hardware,
}

impl Attestation {
    /// The factor `A`.
    pub fn weight(self) -> f64 {
        match self {
            Self::Stale => 0.0,
            Self::SelfSigned => 0.5,
            Self::Vouched => 0.8,
            Self::Tpm => 0.9,
            Self::Hardware => 1.0,
        }
    }
}

/// What a machine of the pool is like: the measure of hardware.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PoolMedian {
    /// The model with which every node is measured; `None`: none is yet.
    pub model: Option<ModelDigest>,
    /// The median of each measured rate.
    pub rates: Rates,
    /// The median of lent memory, in mebibytes; 0: nobody's is known.
    pub memory_mib: u32,
}

impl PoolMedian {
    /// The medians of these nodes, as far as they were measured with this model.
    pub fn of<'a>(model: ModelDigest, nodes: impl IntoIterator<Item = &'a Observations>) -> Self {
        let mut columns: [Vec<u32>; 6] = Default::default();
        for node in nodes {
            columns[5].extend((node.memory_mib > 0).then_some(node.memory_mib));
            if let Some(rates) = node.rates(model) {
                for (column, rate) in columns.iter_mut().zip([&[rates.prefill_milli][..], &rates.decode_milli].concat())
                {
                    column.extend((rate > 0).then_some(rate));
                }
            }
        }
        let [prefill_milli, one, two, four, eight, memory_mib] = columns.map(|mut column| {
            let middle = column.len() / 2;
            if column.is_empty() { 0 } else { *column.select_nth_unstable(middle).1 }
        });
        Self { model: Some(model), rates: Rates { prefill_milli, decode_milli: [one, two, four, eight] }, memory_mib }
    }
}

/// A score with its parts, each 0 to 1.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Score {
    /// `A`.
    pub attestation: f64,
    /// `H`.
    pub hardware: f64,
    /// `N`.
    pub network: f64,
    /// `U`.
    pub uptime: f64,
    /// `R`.
    pub results: f64,
    /// The score.
    pub total: f64,
}

/// "The next task", for the part `U`, in milliseconds.
pub const NEXT_TASK_MS: u64 = 60_000;

/// The score of a node.
pub fn score(seen: &Observations, median: &PoolMedian, attestation: Attestation, now_unix_ms: u64) -> Score {
    let attestation = attestation.weight();
    let hardware = hardware(seen, median);
    let network = network(&seen.network);
    let uptime = uptime(seen, now_unix_ms);
    let results = results(&seen.results);
    let total = attestation * (hardware * network * uptime * results).sqrt().sqrt();
    Score { attestation, hardware, network, uptime, results, total }
}

/// What is held of hardware that was not measured, against the median's ½.
const UNMEASURED: f64 = 0.1;

/// `H`: the geometric mean of x/(x + median) over reading, writing with full batches, and memory. Each saturates: the
/// median has ½, ten times the median 0.91, so a giant gains little by being one. Claims have no part in it. Memory is
/// left out where the pool knows of nobody's: what nobody measures says nothing about anybody.
fn hardware(seen: &Observations, median: &PoolMedian) -> f64 {
    let part = |own: f64, median: f64| if own > 0.0 { own / (own + median) } else { UNMEASURED };
    let rates = median.model.and_then(|model| seen.rates(model)).copied().unwrap_or_default();
    let written = |rates: &Rates| f64::from(rates.decode_milli.into_iter().max().unwrap_or_default());
    let speed = part(f64::from(rates.prefill_milli), f64::from(median.rates.prefill_milli))
        * part(written(&rates), written(&median.rates));
    match median.memory_mib {
        0 => speed.sqrt(),
        middle => (speed * part(f64::from(seen.memory_mib), f64::from(middle))).cbrt(),
    }
}

/// What halves `N`: enough jitter that a token is late to a reader, loss at which a loss-based congestion control falls
/// to a few packets a round trip (the rate goes with 1/√loss: Mathis and others, "The macroscopic behavior of the TCP
/// congestion avoidance algorithm", CCR 27(3), 1997), and a link that breaks about every eight hours, of which a day
/// remembers three.
const JITTER_HALF_US: f64 = 100_000.0;
const LOSS_HALF_PPM: f64 = 20_000.0;
const RECONNECTS_HALF_MILLI: f64 = 3_000.0;
/// `N` of a node whose network was never sampled.
const NETWORK_UNKNOWN: f64 = 0.5;

/// `N`: each of jitter, loss and reconnects halves it at its constant, hyperbolically.
fn network(network: &Network) -> f64 {
    if network.samples == 0 {
        return NETWORK_UNKNOWN;
    }
    let halved = |value: u32, half: f64| half / (half + f64::from(value));
    halved(network.jitter_us, JITTER_HALF_US)
        * halved(network.loss_ppm, LOSS_HALF_PPM)
        * halved(network.reconnects_milli, RECONNECTS_HALF_MILLI)
}

/// `U`: the chance that a session stays for [`NEXT_TASK_MS`] in this hour of the week. The age of the present session
/// is not agreed on; the one taken is an hour. Matching itself takes the true one.
fn uptime(seen: &Observations, now_unix_ms: u64) -> f64 {
    const AGE_MS: u64 = 60 * 60 * 1000;
    Hazard::at(&seen.sessions, now_unix_ms).survival(AGE_MS, NEXT_TASK_MS)
}

/// A canary weighs as much as so many results: it alone compares what was answered with what is right.
const CANARY_WEIGHT: f64 = 4.0;
/// Normal quantile of the bound: one-sided 97.5 %.
const QUANTILE: f64 = 1.96;

/// `R`: the lower end of Wilson's score interval for the share of valid results (E. B. Wilson, "Probable inference, the
/// law of succession, and statistical inference", JASA 22, 1927). Without results it is 0: trust is earned.
fn results(results: &Results) -> f64 {
    let weighed = |plain: u32, canaries: u32| (f64::from(plain) + CANARY_WEIGHT * f64::from(canaries)) / 1000.0;
    let valid = weighed(results.valid_milli, results.canaries_passed_milli);
    let invalid = weighed(results.invalid_milli, results.canaries_failed_milli);
    wilson_lower(valid, invalid)
}

/// Wilson's lower bound of a share, for weighted counts.
pub fn wilson_lower(valid: f64, invalid: f64) -> f64 {
    let (n, z2) = (valid + invalid, QUANTILE * QUANTILE);
    if n <= 0.0 {
        return 0.0;
    }
    let centre = valid + z2 / 2.0;
    let spread = QUANTILE * (valid * invalid / n + z2 / 4.0).sqrt();
    ((centre - spread) / (n + z2)).clamp(0.0, 1.0)
}
