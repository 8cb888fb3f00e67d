//! One task for one node that no asker waits for.

use crate::{
    Shared,
    attempt::Attempt,
    direct::{SourceError, StartError},
};
use protocol::{
    grant::Errand,
    ids::ModelDigest,
    limits,
    link::End,
    task::{Frame, Task, TaskError},
};
use std::time::{Duration, Instant};
use tokio::time::timeout;
use zeroize::Zeroize;

/// An errand that takes longer is given up, without blame: an ordinary answer on a slow machine.
const ERRAND_TIME_MAX: Duration = Duration::from_secs(300);
/// A node that brings nothing for so long has stalled.
const FRAME_TIME_MAX: Duration = Duration::from_secs(120);

/// What a node answered.
#[derive(Default)]
pub(super) struct Answered {
    pub(super) ids: Vec<u32>,
    pub(super) log_probs: Vec<f32>,
}

/// The worker said that it cannot do what it was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Declined {
    /// It does not fit its context.
    TooLong,
    /// There are no such tokens, or there is no such task.
    Invalid,
}

/// Runs a task to its end; `None` where it failed, of which the orchestrator has been told.
pub(super) async fn errand(
    shared: &Shared,
    model: ModelDigest,
    errand: &Errand,
    task: &Task,
) -> Option<(Attempt, Result<Answered, Declined>)> {
    let mut attempt = Attempt::begin(shared.notices.clone(), errand.task, errand.candidate.node, 0);
    let answer = timeout(ERRAND_TIME_MAX, answer(shared, model, errand, task, &mut attempt)).await;
    match answer.unwrap_or(Err(End::Cancelled)) {
        Ok(answered) => Some((attempt, answered)),
        Err(end) => {
            attempt.end(end);
            None
        }
    }
}

async fn answer(
    shared: &Shared,
    model: ModelDigest,
    errand: &Errand,
    task: &Task,
    attempt: &mut Attempt,
) -> Result<Result<Answered, Declined>, End> {
    let ids_max = match task {
        Task::Chat { generation, .. } => generation.max_tokens.map_or(limits::RESUME_TOKENS_MAX, |most| most as usize),
        _ => 0,
    };
    let log_probs_max = if let Task::Score { ids, .. } = task { ids.len() } else { ids_max };
    let started = shared.caller.start(&errand.candidate, errand.task, model, task).await;
    let mut source = started.map_err(|error: StartError| error.end())?;
    let mut answered = Answered::default();
    loop {
        let next = timeout(FRAME_TIME_MAX, source.next()).await.map_err(|_| End::Stalled)?;
        let Some(mut frame) = next.map_err(|error: SourceError| error.end())? else { break };
        match &mut frame {
            Frame::Started { prompt_tokens } => attempt.started(*prompt_tokens),
            Frame::Tokens { ids, log_probs, .. } => {
                attempt.advance(ids.len(), Instant::now());
                answered.ids.append(ids);
                answered.log_probs.append(log_probs);
            }
            Frame::Scores { log_probs, .. } => {
                attempt.advance(0, Instant::now());
                answered.log_probs.append(log_probs);
            }
            Frame::Failed { error: TaskError::ShuttingDown } => return Err(End::HandedBack),
            Frame::Failed { error: TaskError::ContextExceeded { .. } } => return Ok(Err(Declined::TooLong)),
            Frame::Failed { error: TaskError::Invalid { .. } } => return Ok(Err(Declined::Invalid)),
            Frame::Failed { .. } => return Err(End::Died),
            Frame::Done { .. } | Frame::Embedding { .. } => {}
        }
        if answered.ids.len() > ids_max || answered.log_probs.len() > log_probs_max {
            return Err(End::Corrupt);
        }
    }
    Ok(Ok(answered))
}

impl Answered {
    /// Whether there is something to check: a canary asks for many tokens, and a model that ends without one is not known.
    pub(super) fn is_answer(&self) -> bool {
        !self.ids.is_empty() && self.ids.len() == self.log_probs.len()
    }
}

impl Drop for Answered {
    fn drop(&mut self) {
        self.ids.zeroize();
        self.log_probs.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_without_tokens_is_none() {
        let answered = |ids: &[u32], log_probs: &[f32]| Answered { ids: ids.to_vec(), log_probs: log_probs.to_vec() };
        assert!(answered(&[1, 2], &[-0.5, -0.1]).is_answer());
        assert!(!answered(&[], &[]).is_answer());
        assert!(!answered(&[1, 2], &[-0.5]).is_answer() && !answered(&[1], &[-0.5, -0.1]).is_answer());
    }
}
