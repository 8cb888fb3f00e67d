//! Audits: a node is given a task whose answer others can check, and cannot tell it from a task of this asker.
//!
//! Everything that a node sees is that of an ordinary task: this client's key and connections, a permit, a chat of
//! ordinary length with ordinary settings, drawn from a space too large to be learned ([`canary_prompts`]), an answer that
//! is read to its end. Then the answer's tokens are scored by a referee (teacher forcing), and the log-probabilities that
//! the node reported are compared with the referee's (`trust::canary`). Where they differ, a second referee decides who is
//! the odd one out. With one referee that disagrees, it is one word against another: nobody is blamed. A referee may also say
//! that these are no tokens of an answer; where two say so, the subject sent what no model writes.
//!
//! An orchestrator hands audits out with grants. A client runs one at a time, as soon as the task that brought it has its
//! first token: its permit is then as fresh as any, and the task's asker waits for nothing.

use crate::{
    Shared,
    attempt::Attempt,
    canary_prompts::{self, Dice as _},
    clock,
    direct::{SourceError, StartError},
};
use protocol::{
    grant::{Audit, Errand},
    ids::ModelDigest,
    limits,
    link::{AuditVerdict, End},
    task::{Frame, Message, Prompt, Task, TaskError},
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
    let mut dice = canary_prompts::SystemDice;
    let canary = canary_prompts::draw(&mut dice);
    let mut task = canary.chat();
    if let Task::Chat { generation, .. } = &mut task
        && dice.below(3) == 0
    {
        // Most people set no limit.
        generation.max_tokens = None;
    }
    let Some((subject, answered)) = errand(&shared, model, &audit.subject, &task).await else { return };
    let answered = match answered {
        Ok(answered) if answered.is_answer() => answered,
        Ok(_) => return subject.end(End::Corrupt),
        Err(Declined) => return subject.end(End::Died),
    };
    let mut findings = Vec::new();
    for referee in audit.referees.iter().take(limits::REFEREES_MAX).filter(|referee| is_permitted(referee)) {
        let score = score(&canary.messages, &answered.ids);
        let Some((attempt, scored)) = errand(&shared, model, referee, &score).await else { continue };
        let found = match scored {
            Ok(scored) => Found::Compared(verdict(&answered.log_probs, &scored.log_probs)),
            Err(Declined) => Found::Declined,
        };
        tracing::debug!(subject = %subject.node().short(), referee = %attempt.node().short(), ?found, "audited");
        findings.push((attempt, found));
        if !found.is_against_the_subject() {
            break;
        }
    }
    let found: Vec<Found> = findings.iter().map(|(_, found)| *found).collect();
    let blame = blame(&found);
    subject.end_audited(if blame.is_corrupt { End::Corrupt } else { End::Completed }, blame.subject);
    for (at, (attempt, found)) in findings.into_iter().enumerate() {
        match found {
            Found::Compared(_) => attempt.end_audited(End::Completed, blame.first_referee.filter(|_| at == 0)),
            // It did no work, and is not to blame for what it was given.
            Found::Declined => attempt.end(End::Cancelled),
        }
    }
}

/// What a referee says of an answer.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Found {
    /// How far it is from its own.
    Compared(Verdict),
    /// That these are no tokens of an answer to the task.
    Declined,
}

impl Found {
    fn is_against_the_subject(self) -> bool {
        matches!(self, Self::Declined | Self::Compared(Verdict::Failed { .. }))
    }
}

/// What is said of whom.
#[derive(Debug, Default, PartialEq)]
struct Blame {
    /// What the subject sent is no answer, in the word of two.
    is_corrupt: bool,
    subject: Option<AuditVerdict>,
    first_referee: Option<AuditVerdict>,
}

/// Who is the odd one out, by what the referees that were asked say of the subject, in order.
fn blame(found: &[Found]) -> Blame {
    use Found::{Compared, Declined};
    let of = |verdict: &Verdict| {
        verdict.passed().map(|passed| AuditVerdict { passed, distance_milli: verdict.distance_milli() })
    };
    match found {
        [Compared(only @ Verdict::Passed { .. })] => Blame { subject: of(only), ..Blame::default() },
        // Both against the subject.
        [Compared(Verdict::Failed { .. }) | Declined, Compared(second @ Verdict::Failed { .. })] => {
            Blame { subject: of(second), ..Blame::default() }
        }
        [Compared(first @ Verdict::Failed { .. }), Declined] => Blame { subject: of(first), ..Blame::default() },
        [Declined, Declined] => Blame { is_corrupt: true, ..Blame::default() },
        // The second sees it as the subject does.
        [Compared(first @ Verdict::Failed { .. }), Compared(second @ Verdict::Passed { .. })] => {
            Blame { subject: of(second), first_referee: of(first), ..Blame::default() }
        }
        [Declined, Compared(second @ Verdict::Passed { .. })] => Blame { subject: of(second), ..Blame::default() },
        _ => Blame::default(),
    }
}

fn score(messages: &[Message], ids: &[u32]) -> Task {
    Task::Score { prompt: Prompt::Chat(messages.to_vec()), ids: ids.to_vec() }
}

/// The worker said that it cannot do what it was given.
struct Declined;

/// Runs a task to its end; `None` where it failed, of which the orchestrator has been told.
async fn errand(
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
            Frame::Failed { error: TaskError::Invalid { .. } | TaskError::ContextExceeded { .. } } => {
                return Ok(Err(Declined));
            }
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
    fn is_answer(&self) -> bool {
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

    const PASSED: Found = Found::Compared(Verdict::Passed { distance: 0.01 });
    const FAILED: Found = Found::Compared(Verdict::Failed { distance: 0.4 });
    const UNDECIDED: Found = Found::Compared(Verdict::Inconclusive);
    const DECLINED: Found = Found::Declined;

    fn said(passed: bool, distance_milli: u32) -> Option<AuditVerdict> {
        Some(AuditVerdict { passed, distance_milli })
    }

    fn of_both(subject: Option<AuditVerdict>, first_referee: Option<AuditVerdict>) -> Blame {
        Blame { is_corrupt: false, subject, first_referee }
    }

    #[test]
    fn the_odd_one_out_is_blamed() {
        assert_eq!(blame(&[PASSED]), of_both(said(true, 10), None));
        assert_eq!(blame(&[FAILED, FAILED]), of_both(said(false, 400), None));
        assert_eq!(blame(&[FAILED, PASSED]), of_both(said(true, 10), said(false, 400)));
    }

    #[test]
    fn what_two_call_no_answer_is_corrupt() {
        assert_eq!(blame(&[DECLINED, DECLINED]), Blame { is_corrupt: true, ..Blame::default() });
        assert_eq!(blame(&[DECLINED, FAILED]), of_both(said(false, 400), None));
        assert_eq!(blame(&[FAILED, DECLINED]), of_both(said(false, 400), None));
        assert_eq!(blame(&[DECLINED, PASSED]), of_both(said(true, 10), None));
    }

    #[test]
    fn one_word_against_another_blames_nobody() {
        for found in [&[][..], &[FAILED], &[DECLINED], &[UNDECIDED], &[FAILED, UNDECIDED], &[DECLINED, UNDECIDED]] {
            assert_eq!(blame(found), Blame::default(), "{found:?}");
        }
    }

    #[test]
    fn an_answer_without_tokens_is_none() {
        let answered = |ids: &[u32], log_probs: &[f32]| Answered { ids: ids.to_vec(), log_probs: log_probs.to_vec() };
        assert!(answered(&[1, 2], &[-0.5, -0.1]).is_answer());
        assert!(!answered(&[], &[]).is_answer());
        assert!(!answered(&[1, 2], &[-0.5]).is_answer() && !answered(&[1], &[-0.5, -0.1]).is_answer());
    }
}
