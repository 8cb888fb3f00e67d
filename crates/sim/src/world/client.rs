//! The askers' side: a task from its request to its last token, whatever happens to the nodes.

use super::{
    TO_ORCHESTRATOR, World,
    task::{Attempt, Kind, Task},
};
use crate::{
    adversary::Character,
    device::{AttemptKey, Work},
    event::{Event, Lost, Why},
    policy::{Ask, Ended, Pick, Policy, Reply, Trial},
    slab::Key,
    tally::Outcome,
    time::{Micros, SECOND, micros},
};
use protocol::link::End;

/// How often a place is asked for while a resumption finds none.
const ASKS_MAX: u32 = 30;

impl<P: Policy> World<'_, P> {
    pub(super) fn arrival(&mut self) {
        let Some(wish) = self.next_wish.take() else { return };
        self.next_wish = self.arrivals.next();
        if let Some(next) = &self.next_wish {
            self.agenda.add(next.at, Event::Arrival);
        }
        let counts = wish.at >= self.window.0;
        if counts {
            self.tally.came(&wish);
            self.open += 1;
        }
        let task = self.tasks.insert(Task::new(wish, counts));
        self.agenda.add(self.now + TO_ORCHESTRATOR, Event::Ask(task, Why::First));
    }

    /// The request is at the orchestrator.
    pub(super) fn ask(&mut self, key: Key, why: Why) {
        let Some(task) = self.tasks.get_mut(key) else { return };
        task.asks += 1;
        self.tally.asked += 1;
        let ask = Ask {
            task: key,
            wish: &task.wish,
            purpose: why.into(),
            received: task.received as u32,
            excluded: &task.excluded,
        };
        let reply = self.policy.ask(self.now, &ask);
        self.replied(key, reply, why);
    }

    pub(super) fn drain(&mut self) {
        let mut drained = std::mem::take(&mut self.drained);
        self.policy.drain(self.now, &mut drained);
        for entry in drained.drain(..) {
            let Some(task) = self.tasks.get(entry.task) else { continue };
            let why = if task.received > 0.0 { Why::Resume } else { Why::Retry };
            self.replied(entry.task, entry.reply, why);
        }
        self.drained = drained;
    }

    fn replied(&mut self, key: Key, reply: Reply, why: Why) {
        match reply {
            Reply::Queued => {}
            Reply::Granted(picks, trial) => {
                if let Some(trial) = trial {
                    self.try_node(key, trial);
                }
                let Some(task) = self.tasks.get_mut(key) else { return };
                // Whoever was late has answered meanwhile, or the other died: one more is welcome only in the second case.
                if why == Why::Hedge && task.live.len() != 1 {
                    self.give_back(key, &picks);
                    return;
                }
                task.grants += 1;
                let mut picks = picks.into_iter();
                let first = picks.next();
                task.candidates = picks.rev().collect();
                if let Some(first) = first {
                    self.launch(key, first, self.now + TO_ORCHESTRATOR);
                }
            }
            Reply::Refused(after) => self.refused(key, after, why),
        }
    }

    /// A grant that is not needed any more.
    fn give_back(&mut self, key: Key, picks: &[Pick]) {
        if let Some(pick) = picks.first() {
            let ended = Ended {
                task: key,
                node: pick.node,
                end: End::Cancelled,
                prompt_tokens: 0,
                tokens: 0,
                first_token: None,
                generation: 0,
                trial: None,
            };
            self.policy.ended(self.now, &ended);
        }
    }

    fn refused(&mut self, key: Key, after: Option<Micros>, why: Why) {
        let Some(task) = self.tasks.get_mut(key) else { return };
        if why == Why::Hedge || !task.live.is_empty() {
            return;
        }
        let begun = task.tries > 0;
        let again = if begun { task.asks < ASKS_MAX } else { task.patience > 0 && self.policy.may_retry(self.now) };
        if !again {
            self.end(key, if begun { Outcome::Failed } else { Outcome::Refused }, self.now);
            return;
        }
        if !begun {
            task.patience -= 1;
        }
        // Half as long again at most, so that those who were refused together do not come together.
        let after = after.unwrap_or(SECOND) as f64 * (1.0 + self.network.unit() / 2.0);
        self.agenda.add(self.now + after as Micros, Event::Ask(key, why));
    }

    /// Sends a task to a node, at `sent`.
    fn launch(&mut self, key: Key, pick: Pick, sent: Micros) {
        let delay = self.one_way(pick.node);
        let Some(task) = self.tasks.get_mut(key) else { return };
        task.tries += 1;
        let received = task.received;
        let (prompt, answer) = (f64::from(task.wish.prompt) + received, f64::from(task.wish.answer) - received);
        let attempt = Attempt::new(key, pick.node, sent, prompt, answer, Kind::User);
        let attempt = self.attempts.insert(attempt);
        task.live.push(attempt);
        self.tally.gave(self.fleet.nodes[pick.node].character);
        // A round trip for the connection, and the request on top of it.
        self.agenda.add(sent + 3 * delay, Event::Deliver(attempt));
        if self.rules.hedge && task.first_token.is_none() && !task.hedged {
            self.agenda.add(sent + self.first_tokens.late_after(pick.first_token), Event::Late(attempt));
        }
    }

    /// A node is tried with a copy of the task, whose answer is then scored.
    fn try_node(&mut self, key: Key, trial: Trial) {
        let Some(wish) = self.tasks.get(key).map(|task| task.wish) else { return };
        self.tally.trials.0 += 1;
        let task = self.tasks.insert(Task::new(wish, false));
        let delay = self.one_way(trial.subject);
        let sent = self.now + TO_ORCHESTRATOR;
        let kind = Kind::Trial { referee: trial.referee };
        let (prompt, answer) = (f64::from(wish.prompt), f64::from(wish.answer));
        let attempt = Attempt::new(task, trial.subject, sent, prompt, answer, kind);
        let attempt = self.attempts.insert(attempt);
        if let Some(task) = self.tasks.get_mut(task) {
            task.live.push(attempt);
        }
        self.agenda.add(sent + 3 * delay, Event::Deliver(attempt));
    }

    pub(super) fn first_token(&mut self, key: AttemptKey) {
        let now = self.now;
        let Some(attempt) = self.attempts.get_mut(key) else { return };
        attempt.first_token = Some(now);
        if attempt.kind != Kind::User {
            return;
        }
        let (task_key, node, took) = (attempt.task, attempt.node, now - attempt.sent);
        self.first_tokens.note(took);
        let delay = self.one_way(node);
        // The token comes at the end of the step in which the prompt ends.
        let step = micros(self.nodes[node].device.rates().step_s[1]);
        let Some(task) = self.tasks.get_mut(task_key) else { return };
        task.first_token.get_or_insert(now + delay + step);
        let others: Vec<AttemptKey> = task.live.iter().copied().filter(|other| *other != key).collect();
        for other in others {
            self.cancel(other);
        }
    }

    /// Another node was faster.
    fn cancel(&mut self, key: AttemptKey) {
        let Some(mut attempt) = self.attempts.remove(key) else { return };
        if attempt.on_device {
            let node = attempt.node;
            if let Some(work) = self.nodes[node].device.cancel(self.now, key) {
                attempt.work = work;
            }
            self.changed(node);
        }
        self.wasted(&attempt);
        self.tell(&attempt, End::Cancelled, None);
        if let Some(task) = self.tasks.get_mut(attempt.task) {
            task.live.retain(|live| *live != key);
        }
    }

    /// The first token is late: a second node is started, within the budget.
    pub(super) fn late(&mut self, key: AttemptKey) {
        let Some(attempt) = self.attempts.get(key) else { return };
        let (task_key, node) = (attempt.task, attempt.node);
        if attempt.first_token.is_some() {
            return;
        }
        let Some(task) = self.tasks.get_mut(task_key) else { return };
        if task.hedged || task.live.len() > 1 || !self.policy.may_hedge(self.now) {
            return;
        }
        task.hedged = true;
        task.excluded.push(node);
        self.tally.hedged += u64::from(task.counts);
        self.agenda.add(self.now + TO_ORCHESTRATOR, Event::Ask(task_key, Why::Hedge));
    }

    /// An attempt has ended badly, and its client knows it.
    pub(super) fn lost(&mut self, key: AttemptKey, lost: Lost) {
        let Some(attempt) = self.attempts.remove(key) else { return };
        self.tell(&attempt, lost.into(), None);
        if matches!(lost, Lost::Died | Lost::Stalled) {
            self.reported(attempt.node);
        }
        let Some(task) = self.tasks.get_mut(attempt.task) else { return };
        task.live.retain(|live| *live != key);
        if attempt.kind != Kind::User {
            self.tally.trials.1 += u64::from(lost != Lost::HandedBack);
            self.tally.tried(attempt.work);
            self.tasks.remove(attempt.task);
            return;
        }
        let (task_key, tokens) = (attempt.task, attempt.work.tokens.floor());
        let noise = self.fleet.nodes[attempt.node].character == Character::Sybil;
        if self.rules.resume && tokens > 0.0 {
            // What was received stays.
            task.received = (task.received + tokens).min(f64::from(task.wish.answer) - 1.0);
            task.resumed = true;
            task.noise |= noise;
            self.useful(&attempt);
        } else {
            self.wasted(&attempt);
        }
        let Some(task) = self.tasks.get_mut(task_key) else { return };
        if !task.excluded.contains(&attempt.node) {
            task.excluded.push(attempt.node);
        }
        if task.live.is_empty() {
            self.go_on_with(task_key);
        }
    }

    /// The next candidate, or the next grant, or the end.
    fn go_on_with(&mut self, key: Key) {
        let (grants_max, tries_max) = (self.grants_max(), self.rules.tries_max);
        let Some(task) = self.tasks.get_mut(key) else { return };
        if task.tries >= tries_max {
            self.end(key, Outcome::Failed, self.now);
            return;
        }
        while let Some(next) = task.candidates.pop() {
            if !task.excluded.contains(&next.node) {
                self.launch(key, next, self.now);
                return;
            }
        }
        if task.grants >= grants_max.max(tries_max.min(3)) {
            self.end(key, Outcome::Failed, self.now);
            return;
        }
        let why = if task.received > 0.0 { Why::Resume } else { Why::Retry };
        self.agenda.add(self.now + TO_ORCHESTRATOR, Event::Ask(key, why));
    }

    /// An answer is complete.
    pub(super) fn done(&mut self, key: AttemptKey, work: Work) {
        let Some(mut attempt) = self.attempts.remove(key) else { return };
        attempt.work = work;
        attempt.on_device = false;
        let character = self.fleet.nodes[attempt.node].character;
        match attempt.kind {
            Kind::Score => {
                self.tally.tried(work);
                return;
            }
            Kind::Trial { referee } => {
                let passed = character != Character::Sybil;
                self.tell(&attempt, End::Completed, Some(passed));
                self.tally.trials.1 += u64::from(!passed);
                self.tally.tried(work);
                self.tasks.remove(attempt.task);
                if let Some(referee) = referee {
                    let tokens = attempt.prompt + attempt.answer;
                    let score = Attempt::new(attempt.task, referee, self.now, tokens, 1.0, Kind::Score);
                    let score = self.attempts.insert(score);
                    let delay = self.one_way(referee);
                    self.agenda.add(self.now + 3 * delay, Event::Deliver(score));
                }
                return;
            }
            Kind::User => {}
        }
        self.tell(&attempt, End::Completed, None);
        let delay = self.one_way(attempt.node);
        let Some(task) = self.tasks.get_mut(attempt.task) else { return };
        task.live.retain(|live| *live != key);
        task.noise |= character == Character::Sybil;
        let others = std::mem::take(&mut task.live);
        for other in others {
            self.cancel(other);
        }
        self.useful(&attempt);
        self.end(attempt.task, Outcome::Completed, self.now + delay);
    }

    /// A task is over, at `at`.
    fn end(&mut self, key: Key, outcome: Outcome, at: Micros) {
        let Some(task) = self.tasks.remove(key) else { return };
        let good = outcome == Outcome::Completed && !task.noise;
        if good {
            self.tally.all_tokens += u64::from(task.wish.answer);
            if (self.window.0..=self.window.1).contains(&at) {
                self.tally.tokens += u64::from(task.wish.answer);
                self.tally.served.0 += u64::from(task.wish.prompt);
                self.tally.served.1 += 1;
            }
        }
        if !task.counts {
            return;
        }
        self.open -= 1;
        self.tally.noise += u64::from(task.noise);
        self.tally.resumed += u64::from(task.resumed && outcome == Outcome::Completed);
        if good {
            self.tally.worked(task.useful_s, task.wasted_s);
        } else {
            self.tally.worked(0.0, task.useful_s + task.wasted_s);
        }
        self.tally.ended(&task.wish, outcome, task.first_token, at);
    }

    /// The orchestrator learns how an attempt ended.
    fn tell(&mut self, attempt: &Attempt, end: End, trial: Option<bool>) {
        if attempt.kind == Kind::Score {
            return;
        }
        // A trial that was failed in another way than by its answer was failed all the same.
        let failed = attempt.kind != Kind::User && matches!(end, End::Died | End::Stalled);
        let ended = Ended {
            task: attempt.task,
            node: attempt.node,
            end,
            prompt_tokens: attempt.prompt as u32,
            tokens: attempt.work.tokens as u32,
            first_token: attempt.first_token.map(|at| at - attempt.sent),
            generation: attempt.first_token.map_or(0, |at| self.now.saturating_sub(at)),
            trial: trial.or(failed.then_some(false)),
        };
        self.policy.ended(self.now, &ended);
    }

    fn useful(&mut self, attempt: &Attempt) {
        let work = attempt.work;
        let Some(task) = self.tasks.get_mut(attempt.task) else { return };
        // A prompt is read for good once; when it is read again, that is the price of a departure.
        let first = !std::mem::replace(&mut task.prompt_read, true);
        task.useful_s += work.answer_s + if first { work.prompt_s } else { 0.0 };
        task.wasted_s += if first { 0.0 } else { work.prompt_s };
    }

    fn wasted(&mut self, attempt: &Attempt) {
        if let Some(task) = self.tasks.get_mut(attempt.task) {
            task.wasted_s += attempt.work.prompt_s + attempt.work.answer_s;
        }
    }
}
