//! What a client measures of one task on one node. Exactly one outcome is told of each.

use crate::notices::Notices;
use protocol::{
    ids::{NodeId, TaskId},
    link::{AuditVerdict, End, Outcome},
};
use std::time::{Duration, Instant};

/// A task on a node. One that is dropped was cancelled.
pub(crate) struct Attempt {
    notices: Notices,
    task: TaskId,
    node: NodeId,
    began: Instant,
    first: Option<Instant>,
    last: Option<Instant>,
    resumed_tokens: usize,
    prompt_tokens: u32,
    completion_tokens: usize,
    told: bool,
}

impl Attempt {
    /// From now on; `resumed_tokens` of the answer are there already.
    pub(crate) fn begin(notices: Notices, task: TaskId, node: NodeId, resumed_tokens: usize) -> Self {
        Self {
            notices,
            task,
            node,
            began: Instant::now(),
            first: None,
            last: None,
            resumed_tokens,
            prompt_tokens: 0,
            completion_tokens: 0,
            told: false,
        }
    }

    pub(crate) fn task(&self) -> TaskId {
        self.task
    }

    pub(crate) fn node(&self) -> NodeId {
        self.node
    }

    pub(crate) fn began(&self) -> Instant {
        self.began
    }

    /// The worker has read the prompt.
    pub(crate) fn started(&mut self, prompt_tokens: u32) {
        let resumed = u32::try_from(self.resumed_tokens).unwrap_or(u32::MAX);
        self.prompt_tokens = prompt_tokens.saturating_add(resumed);
    }

    /// A part of the answer with so many tokens.
    pub(crate) fn advance(&mut self, tokens: usize, now: Instant) {
        self.first.get_or_insert(now);
        self.last = Some(now);
        self.completion_tokens += tokens;
    }

    /// From the request to the first part, if one came.
    pub(crate) fn first_token(&self) -> Option<Duration> {
        self.first.map(|first| first.saturating_duration_since(self.began))
    }

    /// Tells how it ended.
    pub(crate) fn end(self, end: End) {
        self.end_audited(end, None);
    }

    /// As [`Attempt::end`], with what an audit found.
    pub(crate) fn end_audited(mut self, end: End, audit: Option<AuditVerdict>) {
        self.tell(end, audit);
    }

    fn tell(&mut self, end: End, audit: Option<AuditVerdict>) {
        self.told = true;
        let generation = match (self.first, self.last) {
            (Some(first), Some(last)) => last.saturating_duration_since(first),
            _ => Duration::ZERO,
        };
        self.notices.outcome(Outcome {
            task: self.task,
            node: self.node,
            end,
            prompt_tokens: self.prompt_tokens,
            completion_tokens: u32::try_from(self.completion_tokens).unwrap_or(u32::MAX),
            generation_ms: u32::try_from(generation.as_millis()).unwrap_or(u32::MAX),
            audit,
        });
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if !self.told {
            self.tell(End::Cancelled, None);
        }
    }
}
