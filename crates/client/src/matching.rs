//! What a client asks of orchestrators to have a task matched, and what their refusals mean.

use crate::{AskError, AskOptions, RETRY_AFTER_MS};
use protocol::{
    grant::{MatchRequest, ModelRef, Policy, Purpose, Refusal, RefusalKind},
    ids::{NodeId, TaskId},
    limits, padding,
    task::{Generation, Message, Prompt, Task},
};

/// What is asked when a task begins.
pub(crate) fn request(model: ModelRef, task: &Task, policy: Policy, options: &AskOptions) -> MatchRequest {
    let (prompt_bytes, answer_tokens) = sizes(task);
    MatchRequest {
        task: TaskId::random(),
        model,
        prompt_bucket_bytes: bucket(padding::bucket(prompt_bytes, padding::TASK_BUCKET_MIN)),
        answer_bucket_tokens: answer_tokens.map_or(0, |tokens| tokens.checked_next_power_of_two().unwrap_or(1 << 31)),
        policy,
        exclude: Vec::new(),
        priority: options.priority,
        purpose: Purpose::First,
        wait_ms_max: options.wait_ms_max,
        price_max: None,
    }
}

/// Bytes of text that a token stands for, about.
const TOKEN_BYTES: usize = 4;

/// Bytes to be read first, and the bound on the tokens that follow. What is there of an answer is read like a prompt.
fn sizes(task: &Task) -> (usize, Option<u32>) {
    let chat = |messages: &[Message]| messages.iter().map(|message| message.content.len()).sum::<usize>();
    let generated = |prompt_bytes: usize, generation: &Generation| {
        let there = generation.resume.ids.len();
        let left = |most: u32| most.saturating_sub(u32::try_from(there).unwrap_or(u32::MAX)).max(1);
        (prompt_bytes + there * TOKEN_BYTES, generation.max_tokens.map(left))
    };
    match task {
        Task::Chat { messages, generation } => generated(chat(messages), generation),
        Task::Completion { prompt, generation } => generated(prompt.len(), generation),
        Task::Embedding { inputs } => (inputs.iter().map(String::len).sum(), Some(1)),
        Task::Score { prompt, ids } => {
            let prompt_bytes = match prompt {
                Prompt::Chat(messages) => chat(messages),
                Prompt::Text(text) => text.len(),
            };
            (prompt_bytes + ids.len() * TOKEN_BYTES, Some(1))
        }
    }
}

fn bucket(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// Leaves a node out; of more than a question may name, the oldest are forgiven.
pub(crate) fn exclude(excluded: &mut Vec<NodeId>, node: NodeId) {
    excluded.retain(|other| *other != node);
    if excluded.len() >= limits::EXCLUDED_MAX {
        excluded.remove(0);
    }
    excluded.push(node);
}

/// What a refusal means to the asker; `failures` are those of nodes that were tried before.
pub(crate) fn refused(model: &ModelRef, refusal: Refusal, mut failures: Vec<String>) -> AskError {
    let retry_after_ms = refusal.retry_after_ms.map(u64::from);
    match refusal.kind {
        RefusalKind::UnknownModel { known } => {
            let model = match model {
                ModelRef::Name(name) => name.clone(),
                ModelRef::Digest(digest) => digest.to_string(),
            };
            AskError::UnknownModel { model, known }
        }
        RefusalKind::Overloaded => AskError::Overloaded { retry_after_ms: retry_after_ms.unwrap_or(RETRY_AFTER_MS) },
        RefusalKind::NotReady => {
            let reasons = vec!["the pool has only just begun, or its orchestrator: try again in a moment".to_owned()];
            AskError::NoNode { reasons, retry_after_ms: retry_after_ms.or(Some(RETRY_AFTER_MS)) }
        }
        RefusalKind::NoNode => {
            failures.extend(refusal.reasons.iter().map(|(node, hold)| format!("{}: {hold}", node.short())));
            if failures.is_empty() {
                failures.push("no machine with this model is linked to the pool now".to_owned());
            }
            AskError::NoNode { reasons: failures, retry_after_ms }
        }
    }
}

pub(crate) fn unexpected() -> AskError {
    AskError::Unreachable { reason: "the orchestrator answered another question".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sized(max_tokens: Option<u32>, there: usize) -> (u32, u32) {
        let mut task = Task::chat("x".repeat(1_000));
        if let Task::Chat { generation, .. } = &mut task {
            generation.max_tokens = max_tokens;
            generation.resume.ids = vec![1; there];
        }
        let request = request(ModelRef::Name("m".to_owned()), &task, Policy::default(), &AskOptions::default());
        (request.prompt_bucket_bytes, request.answer_bucket_tokens)
    }

    #[test]
    fn sizes_are_powers_of_two_and_what_is_there_is_read_again() {
        assert_eq!(sized(None, 0), (1_024, 0));
        assert_eq!(sized(Some(100), 0), (1_024, 128));
        assert_eq!(sized(Some(100), 40), (2_048, 64));
        assert_eq!(sized(Some(100), 100), (2_048, 1));
        assert_eq!(sized(Some(u32::MAX), 0), (1_024, 1 << 31));
    }

    #[test]
    fn the_oldest_of_too_many_exclusions_is_forgiven() {
        let mut excluded = Vec::new();
        for number in 0..100 {
            exclude(&mut excluded, NodeId([number; 32]));
        }
        exclude(&mut excluded, NodeId([50; 32]));
        assert_eq!(excluded.len(), limits::EXCLUDED_MAX);
        assert_eq!((excluded[0], excluded[63]), (NodeId([36; 32]), NodeId([50; 32])));
    }
}
