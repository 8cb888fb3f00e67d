//! The most memory that the worker may take: refused before it starts, ended when it grows beyond.

use crate::state::Shared;
use std::{future::pending, time::Duration};

/// How often the worker is measured.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// What a worker takes beside its model at least: the program, its buffers, and the context of a small model.
const BESIDE_MODEL_BYTES: u64 = 64 << 20;

/// Why a model does not fit, if so, with the sum.
pub(crate) fn misfit(model_bytes: u64, memory_bytes_max: Option<u64>) -> Option<String> {
    let (most, need) = (memory_bytes_max?, model_bytes.saturating_add(BESIDE_MODEL_BYTES));
    (need > most).then(|| {
        format!(
            "the model takes {} + at least {} beside it = {}, more than the {} that the owner allows",
            mib(model_bytes),
            mib(BESIDE_MODEL_BYTES),
            mib(need),
            mib(most),
        )
    })
}

/// Waits until a worker takes more memory than it may, and says so.
pub(crate) async fn exceeded(shared: &Shared, process_id: u32) -> String {
    let Some(most) = shared.config.worker.memory_bytes_max else { return pending().await };
    let mut meter = owner::MemoryMeter::new(process_id);
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        if let Some(taken) = meter.resident_bytes().filter(|taken| *taken > most) {
            return format!("it took {} of memory, more than the {} that the owner allows", mib(taken), mib(most));
        }
    }
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_that_does_not_fit_is_refused_with_the_sum() {
        assert_eq!(misfit(100 << 20, None), None);
        assert_eq!(misfit(100 << 20, Some(164 << 20)), None);
        let why = misfit(100 << 20, Some((164 << 20) - 1)).expect("it does not fit");
        assert!(why.contains("100 MiB + at least 64 MiB beside it = 164 MiB"), "{why}");
    }
}
