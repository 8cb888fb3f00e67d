//! Whether a node answers, and with the model's own answer.

use super::own::{Own, OwnError, Target};
use crate::{clock, matching, shared::Shared};
use client::{
    canary_prompts::{SystemDice, draw},
    direct::SourceError,
};
use protocol::task::{Prompt, Task, TaskError};
use std::time::Duration;
use trust::canary;

/// What the node has answered by then counts: it was asked an ordinary question, and a slow machine takes its time.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);
/// A referee reads the question and the answer, no more. Its time is its own, so that an answer that took all of the
/// node's is still compared.
const SCORE_TIME_MAX: Duration = Duration::from_secs(10);

/// Gives the node one task. `None`: nothing can be said, because no other node said anything of its answer, or because
/// one sees it otherwise, and there is no third: that is one word against another. Silence is never a pass: an answer
/// without tokens is a fault, and where others serve the same model, one of them has to find the answer right.
pub(super) async fn run(shared: &Shared, own: &Own, target: &Target) -> Result<Option<bool>, OwnError> {
    // As audits ask: a node that told trials apart could behave for them alone.
    let canary = draw(&mut SystemDice);
    let task = if target.chat { canary.chat() } else { canary.completion() };
    let answered = own.ask(target, &task, clock::instant() + ANSWER_TIME_MAX).await?;
    if answered.ids.is_empty() {
        return Err(OwnError::NoToken);
    }
    let prompt = match &task {
        Task::Chat { messages, .. } => Prompt::Chat(messages.clone()),
        Task::Completion { prompt, .. } => Prompt::Text(prompt.clone()),
        _ => return Ok(None),
    };
    let score = Task::Score { prompt, ids: answered.ids };
    let referees = shared.live().referees(target.model, target.node, shared.now(), matching::entropy());
    if referees.is_empty() {
        // It answers: of a node that is alone with its model there is no more to know.
        return Ok(Some(true));
    }
    let mut disagreeing = 0;
    for referee in referees {
        let referee = Target {
            addresses: referee.reachable.addresses,
            evidence: referee.reachable.evidence,
            node: referee.reachable.node,
            ..target.clone()
        };
        let agrees = match own.ask(&referee, &score, clock::instant() + SCORE_TIME_MAX).await {
            Ok(scored) if scored.complete => canary::verdict(&answered.log_probs, &scored.log_probs).passed(),
            Err(error) if is_of_the_answer(&error) => Some(false),
            // A referee that fails is another matter, and another's trial.
            Ok(_) | Err(_) => None,
        };
        match agrees {
            Some(true) => return Ok(Some(true)),
            // The second referee is heard: the first may be the one that is wrong.
            Some(false) => disagreeing += 1,
            None => {}
        }
    }
    Ok((disagreeing > 1).then_some(false))
}

/// Whether a referee could not read the answer because of what the answer is: tokens that its model does not have.
fn is_of_the_answer(error: &OwnError) -> bool {
    let OwnError::Source(SourceError::Failed(error)) = error else { return false };
    matches!(error, TaskError::Invalid { .. } | TaskError::ContextExceeded { .. })
}
