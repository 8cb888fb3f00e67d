//! How fast a worker reads and writes, as measured.

use serde::{Deserialize, Serialize};

/// The numbers of streams at which writing is measured.
pub const BATCHES: [u32; 4] = [1, 2, 4, 8];

/// Memory that a machine of which nothing is known is believed to read, in bytes a second: dual-channel DDR4 has twice
/// this, and every machine that is measured does better than it is believed here.
const SCEPTICAL_BYTES_PER_S: u64 = 10_000_000_000;
/// Nothing is believed to write faster unmeasured, however small its model.
const SCEPTICAL_DECODE_MILLI: u32 = 20_000;
/// Reading costs less per token than writing does, because its tokens share one pass over the weights. Four times is
/// what d-inference's router assumes too.
const SCEPTICAL_PREFILL_PER_DECODE: u32 = 4;

/// Measured rates of one worker, in thousandths of a token per second; 0: not measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rates {
    /// Tokens of a prompt read, alone.
    pub prefill_milli: u32,
    /// Tokens written by all streams together, with as many streams as [`BATCHES`] says.
    pub decode_milli: [u32; 4],
}

impl Rates {
    /// What is believed of a worker that was never measured, with a model of this size. Writing one token reads every
    /// weight once, so the rate is bounded by memory bandwidth over size; more streams are believed to gain nothing.
    pub fn sceptical(model_bytes: u64) -> Self {
        let milli = SCEPTICAL_BYTES_PER_S * 1000 / model_bytes.max(1);
        let decode = u32::try_from(milli).unwrap_or(u32::MAX).clamp(1, SCEPTICAL_DECODE_MILLI);
        Self { prefill_milli: decode * SCEPTICAL_PREFILL_PER_DECODE, decode_milli: [decode; 4] }
    }

    /// Milliseconds to read a prompt of this many tokens, alone. Infinite where nothing was measured.
    pub fn prefill_ms(&self, tokens: u32) -> f64 {
        f64::from(tokens) * 1e6 / f64::from(self.prefill_milli)
    }

    /// Milliseconds from one token of a stream to its next, where this many streams run. Infinite where nothing was
    /// measured.
    ///
    /// A step of a batch reads the weights once and computes for each stream, so its time is affine in the number of
    /// streams: steps are interpolated linearly between measurements, and beyond the last the machine is taken to be
    /// bound by arithmetic, that is, its rate in all stays what it was. A batch that was measured to step faster than a
    /// smaller one is not believed, so that a stream more never makes the others faster.
    pub fn step_ms(&self, streams: u32) -> f64 {
        let streams = streams.max(1);
        let (mut below, mut below_ms) = (1, 1e6 / f64::from(self.decode_milli[0]));
        for (batch, milli) in BATCHES.into_iter().zip(self.decode_milli).skip(1) {
            if below >= streams {
                break;
            }
            if milli > 0 {
                let ms = (f64::from(batch) * 1e6 / f64::from(milli)).max(below_ms);
                if batch >= streams {
                    let share = f64::from(streams - below) / f64::from(batch - below);
                    return below_ms + (ms - below_ms) * share;
                }
                (below, below_ms) = (batch, ms);
            }
        }
        below_ms * f64::from(streams) / f64::from(below)
    }

    /// Refines a measured rate of writing with what a task showed: an eighth of the weight for the batch that is
    /// nearest, and nothing where that was never measured.
    pub fn refine_decode(&mut self, streams: u32, stream_milli: u32) {
        let nearest = (0..BATCHES.len()).min_by_key(|&at| BATCHES[at].abs_diff(streams.max(1)));
        let at = nearest.expect("there are batches");
        let measured = u64::from(self.decode_milli[at]);
        let shown = u64::from(stream_milli) * u64::from(BATCHES[at]);
        if measured > 0 && shown > 0 {
            self.decode_milli[at] = u32::try_from((measured * 7 + shown) / 8).unwrap_or(u32::MAX);
        }
    }

    /// The lower of each that was measured.
    pub fn lower(&self, other: &Self) -> Self {
        let lower = |one: u32, two: u32| if one == 0 || two == 0 { one.max(two) } else { one.min(two) };
        let mut decode_milli = self.decode_milli;
        for (own, theirs) in decode_milli.iter_mut().zip(other.decode_milli) {
            *own = lower(*own, theirs);
        }
        Self { prefill_milli: lower(self.prefill_milli, other.prefill_milli), decode_milli }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_affine_between_measurements_and_bound_by_arithmetic_beyond() {
        // 10 ms a step alone, 12, 16 and 24 ms with 2, 4 and 8 streams: 8 + 2 for each stream.
        let milli = |streams: f64, ms: f64| (streams * 1e6 / ms).round() as u32;
        let rates = Rates {
            prefill_milli: 1_000_000,
            decode_milli: [milli(1.0, 10.0), milli(2.0, 12.0), milli(4.0, 16.0), milli(8.0, 24.0)],
        };
        for streams in 1..=8 {
            let expected = 8.0 + 2.0 * f64::from(streams);
            assert!((rates.step_ms(streams) - expected).abs() < 0.001, "{streams}: {}", rates.step_ms(streams));
        }
        assert!((rates.step_ms(16) - 48.0).abs() < 0.001);
        let alone = Rates { decode_milli: [100_000, 0, 0, 0], ..rates };
        assert!((alone.step_ms(4) - 40.0).abs() < 0.001, "what batching gives is not believed unmeasured");
        assert!(Rates::default().step_ms(3).is_infinite() && Rates::default().prefill_ms(1).is_infinite());
        let boasting = Rates { decode_milli: [100_000, 900_000, 0, 0], ..rates };
        assert!(boasting.step_ms(2) >= boasting.step_ms(1));
    }
}
