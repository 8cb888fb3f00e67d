//! How far a node is trusted and how fast it was measured to be, as `--json` prints it.

use protocol::link::{RateRow, ScoreRow};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A Trusted Compute Score with its parts, each 0 to 1: attestation × (hardware × network × uptime × results)^¼.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScoreReport {
    /// The score.
    pub total: f64,
    /// What backs the node's evidence.
    pub attestation: f64,
    /// How fast it was measured to be, against the pool's median.
    pub hardware: f64,
    /// How steady its network is.
    pub network: f64,
    /// How likely it stays for the next task.
    pub uptime: f64,
    /// How surely its results are valid.
    pub results: f64,
}

/// Measured rates of one worker, in tokens a second; what was not measured is missing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RateReport {
    /// BLAKE3 of its model's file, in hexadecimal.
    pub model: String,
    /// Reading a prompt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefill_per_s: Option<f64>,
    /// Generating this many answers at a time, all together.
    pub decode_per_s: Vec<BatchRate>,
}

/// The rate of one batch size.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchRate {
    /// Answers at a time.
    pub streams: u32,
    /// Tokens a second of all of them together.
    pub tokens_per_s: f64,
}

impl From<ScoreRow> for ScoreReport {
    fn from(row: ScoreRow) -> Self {
        let share = |ppm: u32| f64::from(ppm) / 1e6;
        Self {
            total: share(row.total_ppm),
            attestation: share(row.attestation_ppm),
            hardware: share(row.hardware_ppm),
            network: share(row.network_ppm),
            uptime: share(row.uptime_ppm),
            results: share(row.results_ppm),
        }
    }
}

impl From<RateRow> for RateReport {
    fn from(row: RateRow) -> Self {
        let rate = |milli: u32| (milli > 0).then(|| f64::from(milli) / 1000.0);
        let decode = trust::observations::BATCHES.into_iter().zip(row.decode_milli);
        Self {
            model: row.model.to_string(),
            prefill_per_s: rate(row.prefill_milli),
            decode_per_s: decode
                .filter_map(|(streams, milli)| rate(milli).map(|tokens_per_s| BatchRate { streams, tokens_per_s }))
                .collect(),
        }
    }
}
