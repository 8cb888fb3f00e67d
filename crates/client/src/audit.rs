//! Audits: whether a node answers with the model that it names, found by having others read what it answered.
//!
//! * **Of a node that serves users: the answer to this asker's own task.** Its node cannot tell such a task from another,
//!   because it is one: what is different comes when the answer is whole, and elsewhere. Read is what one node wrote: the
//!   longest leg that was drawn, where the answer moved.
//! * **Of a node that gets no users' tasks: a canary**, which is its only work, drawn from a space too large to be learned
//!   by heart ([`canary_prompts`]).
//!
//! Either way the answer's tokens are scored by a referee (teacher forcing), and the log-probabilities that
//! the node reported are compared with the referee's (`trust::canary`). Where they differ, a second referee decides who
//! is the odd one out. With one referee that disagrees, it is one word against another: nobody is blamed. A referee may
//! also say that these are no tokens of an answer; where two say so, the subject sent what no model writes.
//!
//! A referee reads the prompt and the answer: one more sandboxed worker of the pool, under the same policy as one that
//! takes over an answer ([`crate::direct::Caller`] checks it the same way). An asker may keep its tasks from that
//! ([`crate::AskOptions::audit`], [`crate::ClientConfig::audit`]); nothing is held for it, so nothing is given back.
//!
//! An orchestrator's dice, which come with grants, say what is audited, and it names the referees when they are needed.
//! A client runs one audit at a time; a canary begins as soon as the task that brought it has its first token: its permit
//! is then as fresh as any. No asker waits for either.

mod blame;
mod errand;
mod leg;

pub(crate) use leg::{Excerpt, Leg};

use crate::{
    Shared,
    attempt::Attempt,
    canary_prompts::{self, Dice as _},
    granting,
};
use blame::{Found, blame};
use errand::{Answered, Declined, errand};
use protocol::{
    grant::{Canary, Errand, Reading},
    ids::{ModelDigest, NodeId},
    limits,
    link::{Answer, End, Question},
    task::{Prompt, Task},
    time::unix_ms,
};
use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::SystemTime,
};
use tokio::task::JoinHandle;
use trust::canary::verdict;

/// The audits of one client.
#[derive(Default)]
pub(crate) struct Audits {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: Option<(ModelDigest, Box<Canary>)>,
    running: Option<JoinHandle<()>>,
    stopped: bool,
}

impl State {
    fn is_free(&self) -> bool {
        !self.stopped && self.running.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Audits {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }

    /// Keeps a canary until the task that brought it has its first token. One is enough.
    pub(crate) fn keep(&self, model: ModelDigest, canary: Box<Canary>) {
        self.lock().waiting.get_or_insert((model, canary));
    }

    /// A task has its first token: sends the canary that is kept, in the background, unless an audit is running.
    pub(crate) fn run(&self, shared: &Arc<Shared>) {
        let mut state = self.lock();
        if !state.is_free() {
            return;
        }
        if let Some((model, canary)) = state.waiting.take().filter(|(_, canary)| is_permitted(&canary.subject)) {
            state.running = Some(tokio::spawn(try_out(Arc::clone(shared), model, canary)));
        }
    }

    /// An answer is whole of which a part was drawn: has it read, in the background, unless an audit is running.
    pub(crate) fn read(&self, shared: &Arc<Shared>, excerpt: Excerpt) {
        let mut state = self.lock();
        if state.is_free() {
            state.running = Some(tokio::spawn(have_read(Arc::clone(shared), excerpt)));
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
    errand.candidate.permit.decode_unverified().is_ok_and(|permit| permit.expires_unix_ms > unix_ms(SystemTime::now()))
}

/// Has a part of this asker's own answer read by others.
async fn have_read(shared: Arc<Shared>, excerpt: Excerpt) {
    let asked = shared.link.ask_whom(Question::Audit { task: excerpt.leg.task }).await;
    let Ok((orchestrator, Answer::Audit(Some(reading)))) = asked else { return };
    if reading.subject != excerpt.leg.node
        || !granting::believed(&shared, orchestrator, excerpt.leg.model, &reading).await
    {
        return;
    }
    let Reading { task, subject, referees, .. } = *reading;
    let told = Attempt::begin(shared.notices.clone(), task, subject, 0);
    let judge = |scored: Result<Answered, Declined>| match scored {
        Ok(scored) => Some(Found::Compared(excerpt.verdict(&scored.log_probs))),
        Err(Declined::Invalid) => Some(Found::Declined),
        // A real task may be longer than what this one holds: that says nothing of the answer.
        Err(Declined::TooLong) => None,
    };
    let findings = ask_readers(&shared, excerpt.leg.model, subject, &referees, &excerpt.score, judge).await;
    tell(told, findings);
}

/// Tries a node with a canary.
async fn try_out(shared: Arc<Shared>, model: ModelDigest, tried: Box<Canary>) {
    let mut dice = canary_prompts::SystemDice;
    let canary = canary_prompts::draw(&mut dice);
    let mut task = canary.chat();
    if let Task::Chat { generation, .. } = &mut task
        && dice.below(3) == 0
    {
        // Most people set no limit.
        generation.max_tokens = None;
    }
    let Some((subject, answered)) = errand(&shared, model, &tried.subject, &task).await else { return };
    let answered = match answered {
        Ok(answered) if answered.is_answer() => answered,
        Ok(_) => return subject.end(End::Corrupt),
        Err(_) => return subject.end(End::Died),
    };
    let score = Task::Score { prompt: Prompt::Chat(canary.messages.clone()), ids: answered.ids.clone() };
    let judge = |scored: Result<Answered, Declined>| match scored {
        Ok(scored) => Some(Found::Compared(verdict(&answered.log_probs, &scored.log_probs))),
        Err(_) => Some(Found::Declined),
    };
    let findings = ask_readers(&shared, model, subject.node(), &tried.referees, &score, judge).await;
    tell(subject, findings);
}

/// What referees find, one after another until it is decided. Of whom `judge` says nothing has not taken part.
async fn ask_readers(
    shared: &Shared,
    model: ModelDigest,
    subject: NodeId,
    referees: &[Errand],
    score: &Task,
    judge: impl Fn(Result<Answered, Declined>) -> Option<Found>,
) -> Vec<(Attempt, Found)> {
    let mut findings = Vec::new();
    for referee in apart(referees, subject) {
        let Some((attempt, scored)) = errand(shared, model, referee, score).await else { continue };
        let Some(found) = judge(scored) else {
            attempt.end(End::Cancelled);
            continue;
        };
        tracing::debug!(subject = %subject.short(), referee = %attempt.node().short(), ?found, "audited");
        findings.push((attempt, found));
        if !found.is_against_the_subject() {
            break;
        }
    }
    findings
}

/// Referees that may be asked: nobody reads its own answer, nobody has two voices.
fn apart(referees: &[Errand], subject: NodeId) -> impl Iterator<Item = &Errand> {
    let of = |errand: &Errand| errand.candidate.node;
    let referees = &referees[..referees.len().min(limits::REFEREES_MAX)];
    referees.iter().enumerate().filter_map(move |(at, referee)| {
        let is_new = of(referee) != subject && referees[..at].iter().all(|other| of(other) != of(referee));
        (is_new && is_permitted(referee)).then_some(referee)
    })
}

/// Tells how it ended for each.
fn tell(subject: Attempt, findings: Vec<(Attempt, Found)>) {
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
