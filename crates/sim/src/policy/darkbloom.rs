//! The project's own rule: an orchestrator's matching state, made of the crates that orchestrators run.
//!
//! Nothing of the rule is written here. [`scheduler::Fleet`] ranks and reserves, [`scheduler::Queue`] lets wait and turns
//! away, [`scheduler::record`] ejects and brings back, [`registry::Registry`] keeps what is agreed each epoch,
//! [`trust::score`] computes scores. What is here is what an orchestrator does around them: it hands on what it hears.

mod known;

use super::{Ask, ClientRules, Drained, Ended, Member, NodeIndex, Pick, Policy, Purpose, Reply, ScoreParts, Trial};
use crate::{
    random::{Concern, Random},
    time::{MS, Micros, unix_ms},
    workload::ANSWER_TOKENS_MAX,
};
use known::{Known, Waiting, account, clock};
use protocol::{
    grant::{self, MatchRequest, ModelRef, Priority, RefusalKind},
    ids::{ModelDigest, NodeId, TaskId},
    limits,
    link::{End, ModelEntry, Role},
    padding,
};
use registry::{Fact, Genesis, Registry};
use scheduler::{Budget, Fleet, LiveNode, LiveWorker, Presence, Queue, Record, Rule, Task};
use std::collections::HashMap;
use trust::{
    observations::EPOCH_MS,
    score::{PoolMedian, Score, score},
    survival::Hazard,
};

/// How long interactive askers wait for a place, batch ones, and a resumption, as clients do.
const WAIT_MS_MAX: [u32; 3] = [10_000, 120_000, 5_000];
/// One grant of so many names a routable node for a trial besides; nodes whose only way to work are canaries come first.
/// Orchestrators have one answer in fifty read by others instead, and reading costs about a quarter of writing.
const AUDIT_EVERY: usize = 200;
/// Size of the model's file.
const MODEL_BYTES: u64 = 2_000_000_000;
/// Bytes of a token of text.
const TOKEN_BYTES: u32 = 4;

/// The rule of this project.
pub struct Darkbloom {
    registry: Registry,
    fleet: Fleet,
    queue: Queue<Waiting>,
    hedges: Budget,
    retries: Budget,
    model: ModelDigest,
    nodes: Vec<Option<Known>>,
    by_id: HashMap<NodeId, NodeIndex>,
    median: PoolMedian,
    random: Random,
}

impl Darkbloom {
    /// An orchestrator with an empty pool. `rate` is how many tasks come in a second: the queue's first guess.
    pub fn new(seed: u64, rate: f64) -> Self {
        let model = ModelDigest([3; 32]);
        let entry = ModelEntry {
            name: "model".into(),
            aliases: Vec::new(),
            digest: model,
            bytes: MODEL_BYTES,
            licence: "MIT".into(),
            created_unix_s: 0,
        };
        let mut registry = Registry::default();
        for fact in [Fact::Genesis(Genesis::new(vec![NodeId([1; 32])], &[7; 32], 0)), Fact::ModelAdded(entry)] {
            registry.apply(fact).expect("a pool is founded with one orchestrator, and has room for a model");
        }
        Self {
            registry,
            fleet: Fleet::new(Rule::default()),
            queue: Queue::new((1000.0 / rate.max(0.001)) as u64),
            hedges: Budget::hedges(),
            retries: Budget::retries(),
            model,
            nodes: Vec::new(),
            by_id: HashMap::new(),
            median: PoolMedian::default(),
            random: Random::new(seed, Concern::Matching, u64::MAX),
        }
    }

    fn request(&self, ask: &Ask<'_>) -> MatchRequest {
        let wish = ask.wish;
        let tokens = wish.prompt + ask.received;
        let left = wish.answer_max.saturating_sub(ask.received).max(1).next_power_of_two();
        let known = |index: &NodeIndex| self.nodes.get(*index)?.as_ref().map(|known| known.id);
        let wait = match (ask.purpose, wish.interactive) {
            (Purpose::Hedge, _) => 0,
            (Purpose::Resume, _) => WAIT_MS_MAX[2],
            (_, true) => WAIT_MS_MAX[0],
            (_, false) => WAIT_MS_MAX[1],
        };
        MatchRequest {
            task: TaskId([0; 16]),
            model: ModelRef::Digest(self.model),
            prompt_bucket_bytes: padding::bucket((tokens * TOKEN_BYTES) as usize, padding::TASK_BUCKET_MIN) as u32,
            answer_bucket_tokens: if wish.answer_max == ANSWER_TOKENS_MAX { 0 } else { left },
            policy: grant::Policy::default(),
            exclude: ask.excluded.iter().filter_map(known).take(limits::EXCLUDED_MAX).collect(),
            priority: if wish.interactive { Priority::Interactive } else { Priority::Batch },
            purpose: ask.purpose,
            wait_ms_max: wait,
            price_max: None,
        }
    }

    /// A grant, or the refusal's kind and when to ask again.
    fn grant(
        &mut self,
        now: Micros,
        account: NodeId,
        request: &MatchRequest,
    ) -> Result<Reply, (RefusalKind, Option<Micros>)> {
        let task = Task::new(account, request);
        let entropy = self.random.bits();
        let ranking = match self.fleet.grant(&self.registry, &task, clock(now), entropy) {
            Ok(ranking) => ranking,
            Err(refusal) => return Err((refusal.kind, refusal.retry_after_ms.map(|ms| Micros::from(ms) * MS))),
        };
        let pick = |ranked: &scheduler::Ranked| Pick {
            node: self.by_id[&ranked.node],
            first_token: Some(Micros::from(ranked.estimate.first_token_ms) * MS),
        };
        let picks = ranking.candidates.iter().map(pick).collect();
        // Only what is new carries a trial: it is for the asker to run, beside its own task.
        let trial = if request.purpose == Purpose::First { self.trial(now) } else { None };
        Ok(Reply::Granted(picks, trial))
    }

    fn trial(&mut self, now: Micros) -> Option<Trial> {
        let due = self.fleet.canaries_due(clock(now), 1).first().map(|(node, _)| *node);
        let subject = match due {
            Some(node) => node,
            None if self.random.below(AUDIT_EVERY) == 0 => {
                let entropy = self.random.bits();
                self.fleet.sample(self.model, clock(now), entropy)?
            }
            None => return None,
        };
        self.fleet.canary_sent(subject, self.model, clock(now));
        let entropy = self.random.bits();
        let referee = self.fleet.sample(self.model, clock(now), entropy).filter(|referee| *referee != subject);
        Some(Trial { subject: self.by_id[&subject], referee: referee.map(|referee| self.by_id[&referee]) })
    }

    fn live(&self, known: &Known, now: Micros, since: Micros) -> LiveNode {
        let clock_now = clock(now);
        let agreed = self.registry.observations(known.id);
        let results = agreed.map(|agreed| agreed.results).unwrap_or_default();
        let worker = LiveWorker {
            capacity: known.capacity,
            rates: known.measured,
            ..LiveWorker::new(self.model, known.slots, MODEL_BYTES)
        };
        let mut live = LiveNode {
            // Silence is reported by the simulation, not measured here.
            silent_from_steady_ms: u64::MAX,
            attestation: known.attestation,
            session_since_steady_ms: since / MS,
            workers: vec![worker],
            ..LiveNode::new(known.id, clock_now)
        };
        match self.fleet.get(known.id) {
            Some(before) => live.records = before.records.clone(),
            None => live.records.set(self.model, Record::from_results(&results)),
        }
        self.refresh(known, &mut live, now);
        live
    }

    /// What is agreed on a node, in the form in which matching needs it.
    fn refresh(&self, known: &Known, live: &mut LiveNode, now: Micros) {
        let unix = unix_ms(now);
        if let Some(agreed) = self.registry.observations(known.id) {
            live.hazard = Hazard::at(&agreed.sessions, unix);
            live.score_ppm = (score(agreed, &self.median, known.attestation, unix).total * 1e6) as u32;
        }
        live.rtt_us = known.rtt_us;
    }

    fn note(&mut self, now: Micros, node: NodeIndex, departed: bool) {
        if let Some(known) = self.nodes.get_mut(node).and_then(Option::as_mut) {
            known.note(now, departed);
        }
    }

    fn change(&mut self, now: Micros, node: NodeIndex, change: impl FnOnce(&mut LiveNode)) {
        if let Some(known) = self.nodes.get(node).and_then(Option::as_ref) {
            self.fleet.update(known.id, clock(now), change);
        }
    }
}

impl Policy for Darkbloom {
    fn clients(&self) -> ClientRules {
        // Three grants of three candidates each.
        ClientRules { resume: true, hedge: true, tries_max: 9 }
    }

    fn join(&mut self, now: Micros, member: &Member) {
        let known = Known::new(member, self.model);
        let id = known.id;
        let admitted = Fact::MemberAdmitted { node: id, role: Role::Node, at_unix_ms: unix_ms(now) };
        self.registry.apply(admitted).expect("fewer members than a pool can have");
        if self.nodes.len() <= member.node {
            self.nodes.resize_with(member.node + 1, || None);
        }
        self.by_id.insert(id, member.node);
        self.nodes[member.node] = Some(known);
    }

    fn arrive(&mut self, now: Micros, node: NodeIndex, since: Micros) {
        // A link that breaks and comes back before anybody missed it.
        self.note(now, node, true);
        let Some(known) = self.nodes.get_mut(node).and_then(Option::as_mut) else { return };
        // What was there before the simulation began has been noted up to then.
        known.session = Some((since, now));
        if now > since {
            known.observations.network.samples = known.observations.network.samples.saturating_add(1);
        } else {
            known.observations.network.reconnected();
        }
        let known = self.nodes[node].as_ref().expect("it was there");
        let live = self.live(known, now, since);
        self.fleet.insert(live, clock(now));
    }

    fn depart(&mut self, now: Micros, node: NodeIndex, goodbye: bool) {
        self.note(now, node, true);
        let presence = if goodbye { Presence::Left } else { Presence::Lost };
        self.change(now, node, |live| {
            (live.presence, live.probing) = (presence, false);
        });
    }

    fn doubt(&mut self, now: Micros, node: NodeIndex) {
        self.change(now, node, |live| live.probing = true);
    }

    fn answered(&mut self, now: Micros, node: NodeIndex) {
        self.change(now, node, |live| live.probing = false);
    }

    fn load(&mut self, now: Micros, node: NodeIndex, tasks: u32) {
        let model = self.model;
        let completed =
            self.nodes.get_mut(node).and_then(Option::as_mut).map_or(0, |known| std::mem::take(&mut known.completed));
        self.change(now, node, |live| {
            for _ in 0..completed {
                live.records.get_mut(model).ended(scheduler::Ended::Completed, now / MS);
            }
            if let Some(worker) = live.worker_mut(model) {
                (worker.active_tasks, worker.reserved) = (tasks, 0);
            }
        });
    }

    fn ask(&mut self, now: Micros, ask: &Ask<'_>) -> Reply {
        if ask.purpose == Purpose::First {
            self.hedges.deposit();
            self.retries.deposit();
        }
        let request = self.request(ask);
        let account = account(ask.wish);
        // Whoever comes while others wait takes its turn.
        let refused = if self.queue.is_empty() || ask.purpose == Purpose::Hedge {
            match self.grant(now, account, &request) {
                Ok(reply) => return reply,
                Err(refused) => refused,
            }
        } else {
            (RefusalKind::Overloaded, None)
        };
        if refused.0 != RefusalKind::Overloaded || request.wait_ms_max == 0 {
            return Reply::Refused(refused.1);
        }
        let offer = scheduler::Ask {
            account,
            priority: request.priority,
            purpose: request.purpose,
            work_tokens: ask.wish.prompt + ask.wish.answer_max.min(256),
            wait_ms_max: request.wait_ms_max,
        };
        match self.queue.offer(offer, Waiting { task: ask.task, account, request }, now / MS) {
            Ok(_) => Reply::Queued,
            Err((_, too_long)) => Reply::Refused(Some(Micros::from(too_long.retry_after_ms) * MS)),
        }
    }

    fn drain(&mut self, now: Micros, drained: &mut Vec<Drained>) {
        while let Some((waiting, too_long)) = self.queue.expired(now / MS) {
            let reply = Reply::Refused(Some(Micros::from(too_long.retry_after_ms) * MS));
            drained.push(Drained { task: waiting.task, reply });
        }
        if self.queue.is_empty() {
            return;
        }
        self.fleet.tick(clock(now));
        while self.fleet.ready(self.model) > 0
            && let Some((number, _, waiting)) = self.queue.first()
        {
            let (task, account, request) = (waiting.task, waiting.account, waiting.request.clone());
            let Ok(reply) = self.grant(now, account, &request) else { break };
            self.queue.take(number, now / MS);
            drained.push(Drained { task, reply });
        }
    }

    fn ended(&mut self, now: Micros, ended: &Ended) {
        let Some(known) = self.nodes.get_mut(ended.node).and_then(Option::as_mut) else { return };
        let (id, clock) = (known.id, clock(now));
        if let Some(passed) = ended.trial {
            known.observations.results.note_canary(passed);
            self.fleet.canary(id, self.model, passed, clock);
            return;
        }
        let how = match ended.end {
            End::Completed => scheduler::Ended::Completed,
            End::Died | End::Stalled | End::Corrupt => scheduler::Ended::Failed,
            _ => scheduler::Ended::Without,
        };
        match how {
            scheduler::Ended::Completed => {
                known.observations.results.note(true);
                // The node says in the same moment that it has a task less: one change, not two.
                known.completed += 1;
                return;
            }
            scheduler::Ended::Failed => known.observations.results.note(false),
            _ => {}
        }
        self.fleet.ended(id, self.model, how, clock);
    }

    fn may_hedge(&mut self, now: Micros) -> bool {
        self.hedges.withdraw(now / MS)
    }

    fn may_retry(&mut self, now: Micros) -> bool {
        self.retries.withdraw(now / MS)
    }

    fn epoch(&mut self, now: Micros) {
        let epoch = unix_ms(now) / EPOCH_MS;
        for node in 0..self.nodes.len() {
            self.note(now, node, false);
            let Some(known) = &mut self.nodes[node] else { continue };
            known.observations.decay();
            let fact = Fact::Observed { node: known.id, epoch, observations: known.observations.clone() };
            self.registry.apply(fact).expect("epochs go up, and observations are made by their own functions");
        }
        self.median = PoolMedian::of(self.model, self.registry.all_observations().map(|(_, agreed)| agreed));
        for node in 0..self.nodes.len() {
            let Some(known) = &self.nodes[node] else { continue };
            let Some(mut live) = self.fleet.get(known.id).cloned() else { continue };
            self.refresh(known, &mut live, now);
            self.fleet.insert(live, clock(now));
        }
    }

    fn score(&self, now: Micros, node: NodeIndex) -> Option<ScoreParts> {
        let known = self.nodes.get(node)?.as_ref()?;
        let Score { attestation, hardware, network, uptime, results, total } =
            score(&known.observations, &self.median, known.attestation, unix_ms(now));
        Some(ScoreParts { attestation, hardware, network, uptime, results, total })
    }
}
