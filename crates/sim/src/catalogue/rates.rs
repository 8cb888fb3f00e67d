//! How fast one machine is, alone and with several answers at once.

use super::SLOTS_MAX;

/// What one node can really do with the model of the simulation.
#[derive(Debug, Clone, PartialEq)]
pub struct Rates {
    /// Tokens of prompts in a second.
    pub prefill: f64,
    /// Seconds of one step that writes a token for each of `n` answers; the first entry is for none.
    pub step_s: [f64; SLOTS_MAX + 1],
}

impl Rates {
    /// From single-stream rates in tokens per second and a batching curve at 1, 2, 4 and 8.
    pub fn new(prefill: f64, decode: f64, batching: &[f64; 4]) -> Self {
        let mut step_s = [0.0; SLOTS_MAX + 1];
        for (answers, step) in step_s.iter_mut().enumerate().skip(1) {
            *step = answers as f64 / (decode * interpolated(batching, answers));
        }
        Self { prefill, step_s }
    }

    /// Tokens that are written in a second for `answers` together.
    pub fn decode(&self, answers: usize) -> f64 {
        if answers == 0 { 0.0 } else { answers as f64 / self.step_s[answers.min(SLOTS_MAX)] }
    }

    /// The same machine at this share of its speed.
    pub fn slowed(&self, share: f64) -> Self {
        Self { prefill: self.prefill * share, step_s: self.step_s.map(|step| step / share) }
    }

    /// Answer tokens in a second where `slots` are always taken and each task brings its prompt.
    pub fn sustained(&self, slots: usize, prompt: f64, answer: f64) -> f64 {
        answer / (prompt / self.prefill + answer / self.decode(slots))
    }
}

/// The curve between its measured points 1, 2, 4 and 8, linear in the number of answers.
fn interpolated(curve: &[f64; 4], answers: usize) -> f64 {
    const AT: [f64; 4] = [1.0, 2.0, 4.0, 8.0];
    let answers = answers as f64;
    for (at, values) in AT.windows(2).zip(curve.windows(2)) {
        if answers <= at[1] {
            return values[0] + (values[1] - values[0]) * (answers - at[0]) / (at[1] - at[0]);
        }
    }
    curve[3]
}

#[cfg(test)]
mod tests {
    use super::Rates;

    #[test]
    fn rates_follow_the_curve() {
        let rates = Rates::new(200.0, 20.0, &[1.0, 1.5, 2.0, 2.4]);
        assert!((rates.decode(1) - 20.0).abs() < 1e-9);
        assert!((rates.decode(3) - 35.0).abs() < 1e-9, "half way between 2 and 4");
        assert!((rates.decode(8) - 48.0).abs() < 1e-9);
        // 100 tokens at 40 a second and 100 to read at 200 a second: 3 s.
        assert!((rates.sustained(4, 100.0, 100.0) - 100.0 / 3.0).abs() < 1e-9);
    }
}
