//! Whether a node answers, and with the model's own answer.

use super::{
    own::{Own, OwnError, Target},
    prompt,
};
use crate::{matching, shared::Shared};
use protocol::task::{Prompt, Task};
use std::time::Instant;
use trust::canary;

/// Words of the question, and tokens of the answer: enough that some of them are uncertain.
const WORDS: usize = 12;
const TOKENS: u32 = 64;

/// Gives the node one task. `None`: nothing can be said, because it was too slow, or because one other node sees its
/// answer otherwise, and there is no third: that is one word against another.
pub(super) async fn run(
    shared: &Shared,
    own: &Own,
    target: &Target,
    deadline: Instant,
) -> Result<Option<bool>, OwnError> {
    let task = prompt::task(target.chat, WORDS, TOKENS, matching::entropy());
    let answered = own.ask(target, &task, deadline).await?;
    if !answered.complete && answered.ids.is_empty() {
        return Ok(None);
    }
    if answered.ids.is_empty() {
        // It answers, with nothing that could be compared.
        return Ok(Some(true));
    }
    let prompt = match &task {
        Task::Chat { messages, .. } => Prompt::Chat(messages.clone()),
        Task::Completion { prompt, .. } => Prompt::Text(prompt.clone()),
        _ => return Ok(Some(true)),
    };
    let score = Task::Score { prompt, ids: answered.ids };
    let referees = shared.live().referees(target.model, target.node, shared.now(), matching::entropy());
    let mut disagreeing = 0;
    for referee in referees {
        let referee = Target {
            addresses: referee.reachable.addresses,
            evidence: referee.reachable.evidence,
            node: referee.reachable.node,
            ..target.clone()
        };
        // A referee that fails is another matter, and another's trial.
        let Ok(scored) = own.ask(&referee, &score, deadline).await else { continue };
        match canary::verdict(&answered.log_probs, &scored.log_probs).passed() {
            Some(true) => return Ok(Some(true)),
            // The second referee is heard: the first may be the one that is wrong.
            Some(false) => disagreeing += 1,
            None => {}
        }
    }
    Ok(match disagreeing {
        0 => Some(true),
        1 => None,
        _ => Some(false),
    })
}
