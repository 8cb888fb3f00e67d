//! One measurement: reading, and writing with 1, 2, 4 and 8 answers side by side.

use super::{
    own::{Own, OwnError, Target},
    prompt,
    timing::{self, Received},
};
use crate::{clock, matching};
use std::time::{Duration, Instant};
use trust::observations::{BATCHES, Rates};

/// Words of the prompt that is read: 128 to 256 tokens in usual vocabularies.
const READ_WORDS: usize = 150;
/// Words before what is written.
const WRITE_WORDS: usize = 6;
/// Tokens that one answer writes.
const WRITE_TOKENS: u32 = 24;
/// Less time than this is not worth another step.
const STEP_MIN: Duration = Duration::from_millis(500);

/// Times a worker. What there was no time for stays unmeasured; `None` where nothing could be told.
pub(super) async fn measure(own: &Own, target: &Target, deadline: Instant) -> Result<Option<Rates>, OwnError> {
    let mut rates = Rates::default();
    // Writing alone comes first: it also brings the weights into memory.
    let Some(alone) = written(own, target, BATCHES[0], deadline).await? else { return Ok(None) };
    rates.decode_milli[0] = alone;
    let read = prompt::task(target.chat, READ_WORDS, 1, matching::entropy());
    let read = own.ask(target, &read, deadline).await?;
    let Some(prefill_milli) = read.prefill_milli(target.round_trip) else { return Ok(None) };
    rates.prefill_milli = prefill_milli;
    for (at, batch) in BATCHES.into_iter().enumerate().skip(1) {
        // Each step takes at most as long as if batching gave nothing.
        let at_worst = Duration::from_secs_f64(f64::from(batch * WRITE_TOKENS) * 1000.0 / f64::from(alone));
        let left = deadline.saturating_duration_since(clock::instant());
        if batch > target.slots || left < STEP_MIN.max(at_worst / 2) {
            break;
        }
        let Some(together) = written(own, target, batch, deadline).await? else { break };
        rates.decode_milli[at] = together;
    }
    Ok(Some(rates))
}

/// Writes so many answers side by side: their rate in all.
async fn written(own: &Own, target: &Target, batch: u32, deadline: Instant) -> Result<Option<u32>, OwnError> {
    let asked = (0..batch).map(|_| async {
        let task = prompt::task(target.chat, WRITE_WORDS, WRITE_TOKENS, matching::entropy());
        own.ask(target, &task, deadline).await
    });
    let answers: Vec<Received> = futures_util::future::try_join_all(asked).await?;
    Ok(timing::decode_milli(&answers))
}
