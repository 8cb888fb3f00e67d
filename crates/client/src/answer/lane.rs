//! One way to go on with an answer: ask for a grant, try its candidates, and hear the one that takes the task.

use super::{pace::Pace, progress::Cursor};
use crate::{
    AskError, RETRY_AFTER_MS, Shared,
    attempt::Attempt,
    audit::Leg,
    direct::{Sign, Source, SourceError, StartError},
    granting::{self, Matched},
    matching,
};
use protocol::{
    grant::{Audit, Canary, Candidate, Expected, MatchRequest, ModelRef, Purpose},
    ids::{ModelDigest, NodeId, TaskId},
    sealing::SealError,
    task::{Task, TaskError},
};
use std::{collections::VecDeque, sync::Arc, time::Instant};
use transport::Boxed;
use trust::evidence::EvidenceError;

/// Grants asked for before a way is given up: each names up to three nodes.
const GRANTS_MAX: usize = 3;

/// A way to go on. Dropping it cancels whatever it has begun.
pub(super) struct Lane {
    shared: Arc<Shared>,
    request: MatchRequest,
    task: Arc<Task>,
    resumed_tokens: usize,
    /// The model of the answer, once it is known: nothing else may go on with it.
    model: Option<ModelDigest>,
    model_name: String,
    candidates: VecDeque<Candidate>,
    canary: Option<Box<Canary>>,
    /// Whether others may read the answer.
    may_audit: bool,
    /// The node whose part of it they are to read.
    drawn: Option<NodeId>,
    grants: usize,
    /// Who granted last.
    orchestrator: Option<NodeId>,
    failures: Vec<String>,
    /// Nodes that may be tried once more: a kept connection may have been stale, a machine busy.
    forgiven: Vec<NodeId>,
    cursor: Option<Cursor>,
    step: LaneStep,
}

enum LaneStep {
    Matching(Boxed<'static, Result<Matched, AskError>>),
    Starting(Box<Starting>),
    Running(Box<Running>),
    Ended,
}

struct Starting {
    attempt: Attempt,
    expected: Expected,
    source: Boxed<'static, Result<Source, StartError>>,
}

/// A node that has taken the task.
pub(super) struct Running {
    pub(super) attempt: Attempt,
    pub(super) expected: Expected,
    pub(super) pace: Pace,
    pub(super) cursor: Cursor,
    pub(super) source: Source,
    /// What it writes, where that was drawn to be read by others.
    pub(super) leg: Option<Leg>,
}

/// What has happened on a way.
pub(super) enum LaneEvent {
    /// A node has the task.
    Accepted,
    /// It gave a sign.
    Sign(Sign),
    /// It was lost.
    Lost(SourceError),
    /// No node takes the task.
    Nobody(AskError),
}

/// What a way begins with.
pub(super) struct Way {
    pub(super) request: MatchRequest,
    pub(super) task: Arc<Task>,
    pub(super) resumed_tokens: usize,
    pub(super) cursor: Cursor,
    pub(super) model: Option<ModelDigest>,
    /// Whether others may read the answer.
    pub(super) may_audit: bool,
}

impl Lane {
    pub(super) fn new(shared: &Arc<Shared>, way: Way) -> Self {
        let step = LaneStep::Matching(granting::matched(Arc::clone(shared), way.request.clone()));
        Self {
            shared: Arc::clone(shared),
            request: way.request,
            task: way.task,
            resumed_tokens: way.resumed_tokens,
            model: way.model,
            model_name: String::new(),
            candidates: VecDeque::new(),
            canary: None,
            may_audit: way.may_audit,
            drawn: None,
            grants: 1,
            orchestrator: None,
            failures: Vec::new(),
            forgiven: Vec::new(),
            cursor: Some(way.cursor),
            step,
        }
    }

    /// The model that was granted.
    pub(super) fn model(&self) -> Option<ModelDigest> {
        self.model
    }

    pub(super) fn model_name(&self) -> &str {
        &self.model_name
    }

    /// A canary that came with its grant; once.
    pub(super) fn take_canary(&mut self) -> Option<Box<Canary>> {
        self.canary.take()
    }

    /// Nodes that did not take the task, beside those that it was to leave out.
    pub(super) fn excluded(&self) -> &[NodeId] {
        &self.request.exclude
    }

    /// The node that runs the task, or is asked to.
    pub(super) fn node(&self) -> Option<NodeId> {
        match &self.step {
            LaneStep::Starting(starting) => Some(starting.attempt.node()),
            LaneStep::Running(running) => Some(running.attempt.node()),
            LaneStep::Matching(_) | LaneStep::Ended => None,
        }
    }

    pub(super) fn running(&self) -> Option<&Running> {
        match &self.step {
            LaneStep::Running(running) => Some(running),
            _ => None,
        }
    }

    pub(super) fn running_mut(&mut self) -> Option<&mut Running> {
        match &mut self.step {
            LaneStep::Running(running) => Some(running),
            _ => None,
        }
    }

    /// The node, to be parted with.
    pub(super) fn into_running(self) -> Option<Running> {
        match self.step {
            LaneStep::Running(running) => Some(*running),
            _ => None,
        }
    }

    /// When the node was asked, and when its first token was expected.
    pub(super) fn asked(&self) -> Option<(Instant, Expected)> {
        match &self.step {
            LaneStep::Starting(starting) => Some((starting.attempt.began(), starting.expected)),
            LaneStep::Running(running) => Some((running.attempt.began(), running.expected)),
            LaneStep::Matching(_) | LaneStep::Ended => None,
        }
    }

    /// What happens next. May be given up and called again.
    pub(super) async fn event(&mut self) -> LaneEvent {
        loop {
            match &mut self.step {
                LaneStep::Matching(matched) => {
                    let matched = matched.await;
                    if let Err(error) = self.granted(matched) {
                        return self.nobody(error);
                    }
                }
                LaneStep::Starting(starting) => {
                    let started = (&mut starting.source).await;
                    match self.started(started) {
                        Ok(true) => return LaneEvent::Accepted,
                        Ok(false) => {}
                        Err(error) => return self.nobody(error),
                    }
                }
                LaneStep::Running(running) => {
                    return match running.source.sign().await {
                        Ok(sign) => LaneEvent::Sign(sign),
                        Err(error) => LaneEvent::Lost(error),
                    };
                }
                LaneStep::Ended => std::future::pending().await,
            }
        }
    }

    fn nobody(&mut self, error: AskError) -> LaneEvent {
        self.step = LaneStep::Ended;
        LaneEvent::Nobody(error)
    }

    fn granted(&mut self, matched: Result<Matched, AskError>) -> Result<(), AskError> {
        let grant = match matched? {
            Matched::Granted(orchestrator, grant, passed_over) => {
                self.orchestrator = Some(orchestrator);
                for (node, why) in passed_over {
                    self.failures.push(format!("{}: {why}", node.short()));
                    matching::exclude(&mut self.request.exclude, node);
                }
                *grant
            }
            Matched::Refused(refusal) => {
                return Err(matching::refused(&self.request.model, refusal, std::mem::take(&mut self.failures)));
            }
        };
        if self.model.is_some_and(|model| model != grant.model) {
            let reason = "the orchestrator granted another model".to_owned();
            return Err(AskError::Unreachable { reason });
        }
        self.model = Some(grant.model);
        self.request.model = ModelRef::Digest(grant.model);
        self.model_name = grant.model_name;
        self.drawn = None;
        match grant.audit {
            Some(Audit::Canary(canary)) => self.canary = Some(canary),
            Some(Audit::Answer) if self.may_audit => {
                self.drawn = grant.candidates.first().map(|candidate| candidate.node);
            }
            Some(Audit::Answer) | None => {}
        }
        self.candidates = grant.candidates.into();
        self.next_candidate()
    }

    /// Goes to the next candidate, or asks for the next grant.
    fn next_candidate(&mut self) -> Result<(), AskError> {
        while let Some(candidate) = self.candidates.pop_front() {
            // What the asker leaves out is left out, whatever the orchestrator says.
            if !self.request.exclude.contains(&candidate.node) {
                self.step = LaneStep::Starting(Box::new(self.start(candidate)));
                return Ok(());
            }
        }
        let may_ask = self.grants < GRANTS_MAX && self.request.purpose != Purpose::Hedge;
        if may_ask && self.shared.second_tries.may_retry() {
            self.grants += 1;
            // A permit is for one task id, and a node takes each once: ask under a new one.
            self.request.task = TaskId::random();
            if self.request.purpose == Purpose::First {
                self.request.purpose = Purpose::Retry;
            }
            self.step = LaneStep::Matching(granting::matched(Arc::clone(&self.shared), self.request.clone()));
            return Ok(());
        }
        let reasons = std::mem::take(&mut self.failures);
        Err(AskError::NoNode { reasons, retry_after_ms: Some(RETRY_AFTER_MS) })
    }

    fn start(&self, candidate: Candidate) -> Starting {
        let (id, node, expected) = (self.request.task, candidate.node, candidate.expected);
        let attempt = Attempt::begin(self.shared.notices.clone(), id, node, self.resumed_tokens);
        let (caller, task) = (self.shared.caller.clone(), Arc::clone(&self.task));
        let model = self.model.expect("a grant has set it");
        let sizes = (self.request.prompt_bucket_bytes, self.request.answer_bucket_tokens);
        let source = Box::pin(async move { caller.start_sized(&candidate, id, model, &task, sizes).await });
        Starting { attempt, expected, source }
    }

    /// Whether a node has taken the task now.
    fn started(&mut self, started: Result<Source, StartError>) -> Result<bool, AskError> {
        let LaneStep::Starting(starting) = std::mem::replace(&mut self.step, LaneStep::Ended) else {
            unreachable!("only a start ends in this");
        };
        let Starting { attempt, expected, .. } = *starting;
        let node = attempt.node();
        let error = match started {
            Ok(source) => {
                let mut pace = Pace::new(expected, attempt.began());
                pace.heard(Instant::now());
                let cursor = self.cursor.take().expect("a way has one node that takes the task");
                let model = self.model.expect("a grant has set it");
                let leg =
                    (self.drawn == Some(node)).then(|| Leg::new(attempt.task(), node, model, self.resumed_tokens));
                self.step = LaneStep::Running(Box::new(Running { attempt, expected, pace, cursor, source, leg }));
                return Ok(true);
            }
            Err(error) => error,
        };
        tracing::debug!(node = %node.short(), %error, "candidate did not take the task");
        attempt.end(error.end());
        if error.is_suspect() {
            self.shared.notices.report(node);
        }
        if let (StartError::Evidence(EvidenceError::Signature(_)), Some(orchestrator)) = (&error, self.orchestrator) {
            // Whoever matches verifies evidence first: it made this up.
            let reason = format!("the evidence of node {}: {error}", node.short());
            self.shared.link.orchestrators().distrust(orchestrator, &reason);
        }
        if let StartError::Seal(SealError::TooLong { bytes, limit }) = error {
            let message = format!("the task has {bytes} bytes, at most {limit} can be sent");
            return Err(AskError::Invalid(TaskError::Invalid { message }));
        }
        self.failures.push(format!("{}: {error}", node.short()));
        if matches!(error, StartError::Lost(_) | StartError::Silent) && !self.forgiven.contains(&node) {
            self.forgiven.push(node);
        } else {
            matching::exclude(&mut self.request.exclude, node);
        }
        self.next_candidate()?;
        Ok(false)
    }
}
