//! The way to a node, from the QUIC connection's own statistics.

use super::{ObservationsError, faded};
use serde::{Deserialize, Serialize};

const PPM: u32 = 1_000_000;
/// A reconnect is remembered for about a day.
const FADES_IN_EPOCHS: u32 = 24;
/// Each sample of loss counts a sixteenth, as each deviation does in the jitter of RTP (RFC 3550, 6.4.1).
const LOSS_WEIGHT: u32 = 16;

/// Exponentially weighted statistics of the links to a node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Samples so far, up to what matters; 0: nothing is known.
    pub samples: u16,
    /// Smoothed round trip, in microseconds (RFC 6298: each sample counts an eighth).
    pub rtt_us: u32,
    /// Smoothed deviation of the round trip from its mean, in microseconds (RFC 6298: a quarter).
    pub jitter_us: u32,
    /// Smoothed share of packets lost, in millionths.
    pub loss_ppm: u32,
    /// Links that broke, in thousandths, fading over a day.
    pub reconnects_milli: u32,
}

impl Network {
    /// Adds a sample of a link: its round trip, and packets sent and lost since the sample before.
    pub fn sample(&mut self, rtt_us: u32, sent: u64, lost: u64) {
        let loss_ppm = u32::try_from(lost.min(sent).saturating_mul(u64::from(PPM)) / sent.max(1)).unwrap_or(PPM);
        if self.samples == 0 {
            (self.rtt_us, self.jitter_us, self.loss_ppm) = (rtt_us, rtt_us / 2, loss_ppm);
        } else {
            let deviation = self.rtt_us.abs_diff(rtt_us);
            self.jitter_us = weighted(self.jitter_us, deviation, 4);
            self.rtt_us = weighted(self.rtt_us, rtt_us, 8);
            self.loss_ppm = weighted(self.loss_ppm, loss_ppm, LOSS_WEIGHT);
        }
        self.samples = self.samples.saturating_add(1);
    }

    /// A link broke and came back.
    pub fn reconnected(&mut self) {
        self.reconnects_milli = self.reconnects_milli.saturating_add(1000);
    }

    pub(super) fn check(&self) -> Result<(), ObservationsError> {
        if self.loss_ppm > PPM { Err(ObservationsError::Loss) } else { Ok(()) }
    }

    pub(super) fn decay(&mut self) {
        self.reconnects_milli = faded(self.reconnects_milli, FADES_IN_EPOCHS);
    }

    /// The worse of each: who is near a node sees a better way than its askers have.
    pub(super) fn merge(&mut self, other: &Self) {
        self.samples = self.samples.saturating_add(other.samples);
        self.rtt_us = self.rtt_us.max(other.rtt_us);
        self.jitter_us = self.jitter_us.max(other.jitter_us);
        self.loss_ppm = self.loss_ppm.max(other.loss_ppm);
        self.reconnects_milli = self.reconnects_milli.max(other.reconnects_milli);
    }
}

fn weighted(mean: u32, sample: u32, weight: u32) -> u32 {
    let (mean, sample, weight) = (u64::from(mean), u64::from(sample), u64::from(weight));
    u32::try_from((mean * (weight - 1) + sample) / weight).expect("between the two")
}
