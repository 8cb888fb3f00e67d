//! Audits: a node is given a task whose answer others can check, and cannot tell it from a task of this asker.
//!
//! Everything that a node sees is that of an ordinary task: this client's key and connections, a permit, a chat of
//! ordinary length with ordinary settings, drawn from a space too large to be learned ([`canary_prompts`]), an answer that
//! is read to its end. Then the answer's tokens are scored by a referee (teacher forcing), and the log-probabilities that
//! the node reported are compared with the referee's (`trust::canary`). Where they differ, a second referee decides who is
//! the odd one out. With one referee that disagrees, it is one word against another: nobody is blamed.
//!
//! An orchestrator hands audits out with grants. A client runs one at a time, as soon as the task that brought it has its
//! first token: its permit is then as fresh as any, and the task's asker waits for nothing.

mod canary_prompts;

use crate::{
    Shared,
    attempt::Attempt,
    clock,
    direct::{SourceError, StartError},
};
use protocol::{
    grant::{Audit, Errand},
    ids::ModelDigest,
    limits,
    link::{AuditVerdict, End},
    task::{Frame, Generation, Message, Prompt, Task},
};
use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};
use tokio::{task::JoinHandle, time::timeout};
use trust::canary::{Verdict, verdict};
use zeroize::Zeroize;

/// An errand that takes longer is given up, without blame: an ordinary answer on a slow machine.
const ERRAND_TIME_MAX: Duration = Duration::from_secs(300);
/// A node that brings nothing for so long has stalled.
const FRAME_TIME_MAX: Duration = Duration::from_secs(120);

/// The audits of one client.
#[derive(Default)]
pub(crate) struct Audits {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: Option<(ModelDigest, Box<Audit>)>,
    running: Option<JoinHandle<()>>,
    stopped: bool,
}

impl Audits {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }

    /// Keeps an audit until the task that brought it has its first token. One is enough.
    pub(crate) fn keep(&self, model: ModelDigest, audit: Box<Audit>) {
        self.lock().waiting.get_or_insert((model, audit));
    }

    /// A task has its first token: runs what is kept, in the background, unless one is running.
    pub(crate) fn run(&self, shared: &Arc<Shared>) {
        let mut state = self.lock();
        if state.stopped || state.running.as_ref().is_some_and(|running| !running.is_finished()) {
            return;
        }
        if let Some((model, audit)) = state.waiting.take().filter(|(_, audit)| is_permitted(&audit.subject)) {
            state.running = Some(tokio::spawn(run(Arc::clone(shared), model, audit)));
        }
    }

    /// Ends what runs, and runs no more.
    pub(crate) fn stop(&self) {
        let mut state = self.lock();
        state.stopped = true;
        state.waiting = None;
        if let Some(running) = state.running.take() {
            running.abort();
        }
    }
}

/// Whether its permit still holds: the task that brought it may have taken its time.
fn is_permitted(errand: &Errand) -> bool {
    errand.candidate.permit.decode_unverified().is_ok_and(|permit| permit.expires_unix_ms > clock::unix_ms())
}

/// What a subject answered.
#[derive(Default)]
struct Answered {
    ids: Vec<u32>,
    log_probs: Vec<f32>,
}

async fn run(shared: Arc<Shared>, model: ModelDigest, audit: Box<Audit>) {
    let canary = canary_prompts::draw(&mut canary_prompts::SystemDice);
    let messages = canary.messages;
    let task = Task::Chat {
        messages: messages.clone(),
        generation: Generation {
            max_tokens: Some(canary.max_tokens),
            stop: Vec::new(),
            sampling: canary.sampling,
            resume: Default::default(),
        },
    };
    let Some((subject, answered)) = errand(&shared, model, &audit.subject, &task).await else { return };
    let mut findings = Vec::new();
    for referee in audit.referees.iter().take(limits::REFEREES_MAX) {
        if answered.ids.is_empty() {
            break;
        }
        let score = score(&messages, &answered.ids);
        let Some((attempt, scored)) = errand(&shared, model, referee, &score).await else { continue };
        let found = verdict(&answered.log_probs, &scored.log_probs);
        tracing::debug!(subject = %subject.node().short(), referee = %attempt.node().short(), ?found, "audited");
        findings.push((attempt, found));
        if found.passed() != Some(false) {
            break;
        }
    }
    let verdicts: Vec<Verdict> = findings.iter().map(|(_, found)| *found).collect();
    let blame = blame(&verdicts);
    subject.end_audited(End::Completed, blame.subject);
    for (at, (attempt, _)) in findings.into_iter().enumerate() {
        attempt.end_audited(End::Completed, blame.first_referee.filter(|_| at == 0));
    }
}

/// What is said of whom.
#[derive(Debug, Default, PartialEq)]
struct Blame {
    subject: Option<AuditVerdict>,
    first_referee: Option<AuditVerdict>,
}

/// Who is the odd one out: the subject's distances from the referees that were asked, in order.
fn blame(verdicts: &[Verdict]) -> Blame {
    let of = |verdict: &Verdict| {
        verdict.passed().map(|passed| AuditVerdict { passed, distance_milli: verdict.distance_milli() })
    };
    match verdicts {
        [Verdict::Passed { .. }] => Blame { subject: of(&verdicts[0]), first_referee: None },
        // Both against the subject.
        [Verdict::Failed { .. }, Verdict::Failed { .. }] => Blame { subject: of(&verdicts[1]), first_referee: None },
        // The second sees it as the subject does.
        [Verdict::Failed { .. }, Verdict::Passed { .. }] => {
            Blame { subject: of(&verdicts[1]), first_referee: of(&verdicts[0]) }
        }
        _ => Blame::default(),
    }
}

fn score(messages: &[Message], ids: &[u32]) -> Task {
    Task::Score { prompt: Prompt::Chat(messages.to_vec()), ids: ids.to_vec() }
}

/// Runs a task to its end; `None` where it failed, of which the orchestrator has been told.
async fn errand(shared: &Shared, model: ModelDigest, errand: &Errand, task: &Task) -> Option<(Attempt, Answered)> {
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
) -> Result<Answered, End> {
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
            Frame::Failed { error: protocol::task::TaskError::ShuttingDown } => return Err(End::HandedBack),
            Frame::Failed { .. } => return Err(End::Died),
            Frame::Done { .. } | Frame::Embedding { .. } => {}
        }
        if answered.ids.len().max(answered.log_probs.len()) > limits::RESUME_TOKENS_MAX {
            return Err(End::Corrupt);
        }
    }
    Ok(answered)
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

    const PASSED: Verdict = Verdict::Passed { distance: 0.01 };
    const FAILED: Verdict = Verdict::Failed { distance: 0.4 };

    fn said(passed: bool, distance_milli: u32) -> Option<AuditVerdict> {
        Some(AuditVerdict { passed, distance_milli })
    }

    #[test]
    fn the_odd_one_out_is_blamed() {
        assert_eq!(blame(&[PASSED]), Blame { subject: said(true, 10), first_referee: None });
        assert_eq!(blame(&[FAILED, FAILED]), Blame { subject: said(false, 400), first_referee: None });
        assert_eq!(blame(&[FAILED, PASSED]), Blame { subject: said(true, 10), first_referee: said(false, 400) });
    }

    #[test]
    fn one_word_against_another_blames_nobody() {
        for verdicts in [&[][..], &[FAILED], &[Verdict::Inconclusive], &[FAILED, Verdict::Inconclusive]] {
            assert_eq!(blame(verdicts), Blame::default(), "{verdicts:?}");
        }
    }
}
