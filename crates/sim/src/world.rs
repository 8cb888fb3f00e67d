//! The simulation itself: nodes, clients and one orchestrator, event by event.

mod client;
mod hedge;
mod task;

use crate::{
    adversary::Character,
    catalogue::Catalogue,
    device::{AttemptKey, Device, Happening},
    event::{Agenda, Event, Lost},
    fleet::Fleet,
    policy::{ClientRules, Drained, NodeIndex, Policy, ScoreParts},
    presence::Ending,
    random::{Concern, Random},
    scenario::{HISTORY, Scenario},
    slab::Slab,
    tally::Tally,
    time::{HOUR, MS, Micros, SECOND, micros, seconds},
    workload::{Arrivals, Crowd, Wish},
};
use hedge::FirstTokens;
use protocol::{limits, link, stream};
use task::{Attempt, Task};

/// One way to the orchestrator: it is well connected, the asker less so.
const TO_ORCHESTRATOR: Micros = 15 * MS;
/// A frame every 250 ms says that a worker lives; after this silence it counts as lost.
const SILENCE: Micros = stream::SILENCE_MS_MAX * MS;
/// How long a client tries to reach a node.
const CONNECT: Micros = 3 * SECOND;
/// Points of the charts.
const SAMPLES: u64 = 60;
/// Tasks that are still under way so long after the end count as failed.
const OVERTIME: Micros = HOUR;

/// One point of the charts.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Minutes since the simulation began.
    pub minute: f64,
    /// Tokens of answers that were completed in a second, since the point before.
    pub tokens_per_s: f64,
    /// Nodes that are there.
    pub present: usize,
    /// Tasks under way or waiting.
    pub tasks: usize,
    /// Median seconds to complete, of the tasks that were completed since the point before.
    pub latency_s: Option<f64>,
    /// Mean scores by character, in the order of [`Character::ALL`].
    pub scores: [Option<f64>; 5],
}

/// What a run gives.
#[derive(Debug, Clone)]
pub struct Ran {
    /// What was counted.
    pub tally: Tally,
    /// The charts.
    pub samples: Vec<Sample>,
    /// Seconds of the measuring window.
    pub window_s: f64,
    /// Seconds that were simulated.
    pub simulated_s: f64,
    /// Events that happened.
    pub events: u64,
    /// Scores of some nodes at the end, with their parts, best first.
    pub scores: Vec<(NodeIndex, ScoreParts)>,
}

struct Node {
    device: Device,
    up: bool,
    /// Index of the session that runs, or comes next.
    session: usize,
    /// Counts sessions that began.
    serial: u32,
    probing: bool,
    /// Tasks in it, as it last said.
    said: Option<u32>,
}

struct World<'a, P> {
    fleet: &'a Fleet,
    policy: P,
    rules: ClientRules,
    agenda: Agenda,
    tally: Tally,
    arrivals: Arrivals<'a>,
    next_wish: Option<Wish>,
    window: (Micros, Micros),
    now: Micros,
    tasks: Slab<Task>,
    attempts: Slab<Attempt>,
    nodes: Vec<Node>,
    network: Random,
    first_tokens: FirstTokens,
    /// Tasks under way that count.
    open: u64,
    samples: Vec<Sample>,
    sampled: (Micros, u64, usize),
    happenings: Vec<Happening>,
    drained: Vec<Drained>,
}

/// Runs a scenario under a rule.
pub fn run<P: Policy>(catalogue: &Catalogue, scenario: &Scenario, fleet: &Fleet, policy: P) -> Ran {
    let (from, until) = scenario.window();
    let length = until - HISTORY;
    let crowd =
        scenario.crowd.map(|times| Crowd { times, from: HISTORY + length * 2 / 5, until: HISTORY + length * 3 / 5 });
    let rate = scenario.load * fleet.capacity.with_prompts / fleet.task_means.1;
    let mut arrivals = Arrivals::new(catalogue, scenario.seed, rate, (HISTORY, until), crowd);
    let next_wish = arrivals.next();
    let nodes = fleet.nodes.iter().map(|plan| Node {
        device: Device::new(plan.rates.clone(), plan.slots),
        up: false,
        session: 0,
        serial: 0,
        probing: false,
        said: None,
    });
    let rules = policy.clients();
    let mut world = World {
        fleet,
        policy,
        rules,
        agenda: Agenda::default(),
        tally: Tally::new(),
        arrivals,
        next_wish,
        window: (from, until),
        now: HISTORY,
        tasks: Slab::default(),
        attempts: Slab::default(),
        nodes: nodes.collect(),
        network: Random::new(scenario.seed, Concern::Network, 0),
        first_tokens: FirstTokens::default(),
        open: 0,
        samples: Vec::new(),
        sampled: (HISTORY, 0, 0),
        happenings: Vec::new(),
        drained: Vec::new(),
    };
    world.begin();
    world.go_on();
    world.report()
}

impl<P: Policy> World<'_, P> {
    fn begin(&mut self) {
        for (index, plan) in self.fleet.nodes.iter().enumerate() {
            self.policy.join(HISTORY, &plan.member);
            self.nodes[index].session = plan.sessions.partition_point(|session| session.until <= HISTORY);
            if let Some(session) = plan.sessions.get(self.nodes[index].session) {
                self.agenda.add(session.from.max(HISTORY), Event::Session(index));
            }
        }
        self.policy.epoch(HISTORY);
        self.agenda.add(HISTORY + HOUR, Event::Epoch);
        self.agenda.add(HISTORY + SECOND, Event::Tick);
        self.agenda.add(HISTORY, Event::Sample);
        if let Some(wish) = &self.next_wish {
            self.agenda.add(wish.at, Event::Arrival);
        }
    }

    fn go_on(&mut self) {
        while let Some((at, event)) = self.agenda.take() {
            debug_assert!(at >= self.now, "time goes on");
            self.now = at;
            let over = self.now > self.window.1;
            if over && (self.open == 0 || self.now > self.window.1 + OVERTIME) {
                break;
            }
            self.happen(event);
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrival => self.arrival(),
            Event::Ask(task, why) => self.ask(task, why),
            Event::Deliver(attempt) => self.deliver(attempt),
            Event::Device(node, generation) => self.device(node, generation),
            Event::Lost(attempt, lost) => self.lost(attempt, lost),
            Event::Late(attempt) => self.late(attempt),
            Event::Session(node) => self.session(node),
            Event::Missed(node, serial) => self.missed(node, serial),
            Event::Probed(node, serial) => self.probed(node, serial),
            Event::Tick => {
                self.drain();
                self.agenda.add(self.now + SECOND, Event::Tick);
            }
            Event::Epoch => {
                self.policy.epoch(self.now);
                self.drain();
                self.agenda.add(self.now + HOUR, Event::Epoch);
            }
            Event::Sample => self.sample(),
        }
    }

    /// A session begins, or ends.
    fn session(&mut self, index: NodeIndex) {
        let sessions = &self.fleet.nodes[index].sessions;
        let node = &mut self.nodes[index];
        let session = sessions[node.session];
        if !node.up {
            (node.up, node.probing, node.said) = (true, false, None);
            node.serial += 1;
            self.agenda.add(session.until, Event::Session(index));
            self.policy.arrive(self.now, index, session.from);
            self.drain();
            return;
        }
        node.up = false;
        node.session += 1;
        if let Some(next) = sessions.get(node.session) {
            self.agenda.add(next.from, Event::Session(index));
        }
        let lost = node.device.clear(self.now);
        let goodbye = session.ending == Ending::Goodbye;
        let (lost_how, after) = if goodbye { (Lost::HandedBack, 0) } else { (Lost::Stalled, SILENCE) };
        for (key, work) in lost {
            let delay = self.one_way(index);
            if let Some(attempt) = self.attempts.get_mut(key) {
                attempt.work = work;
                attempt.on_device = false;
                self.agenda.add(self.now + after + delay, Event::Lost(key, lost_how));
            }
        }
        if goodbye {
            self.policy.depart(self.now, index, true);
        } else {
            let serial = self.nodes[index].serial;
            self.agenda.add(self.now + link::HEARTBEAT_MS_MAX * MS, Event::Missed(index, serial));
        }
    }

    /// The heartbeat has been missing for too long.
    fn missed(&mut self, index: NodeIndex, serial: u32) {
        let node = &self.nodes[index];
        if node.serial == serial && !node.up {
            self.policy.depart(self.now, index, false);
        }
    }

    /// A client reported a node: the orchestrator probes it.
    fn reported(&mut self, index: NodeIndex) {
        if self.nodes[index].probing {
            return;
        }
        self.nodes[index].probing = true;
        self.policy.doubt(self.now, index);
        let answer = if self.nodes[index].up { 2 * self.one_way(index) } else { link::PROBE_MS_MAX * MS };
        let serial = self.nodes[index].serial;
        self.agenda.add(self.now + answer, Event::Probed(index, serial));
    }

    fn probed(&mut self, index: NodeIndex, serial: u32) {
        let node = &mut self.nodes[index];
        if !node.probing || node.serial != serial {
            return;
        }
        node.probing = false;
        if node.up {
            self.policy.answered(self.now, index);
            self.drain();
        } else {
            self.policy.depart(self.now, index, false);
        }
    }

    /// A task reaches a node.
    fn deliver(&mut self, key: AttemptKey) {
        let Some(attempt) = self.attempts.get_mut(key) else { return };
        let index = attempt.node;
        let plan = &self.fleet.nodes[index];
        let node = &mut self.nodes[index];
        if !node.up {
            self.agenda.add(attempt.sent + CONNECT, Event::Lost(key, Lost::Stalled));
            return;
        }
        match plan.character {
            Character::BlackHole => {
                let at = self.now + micros(crate::adversary::BLACK_HOLE_S);
                self.agenda.add(at, Event::Lost(key, Lost::Died));
            }
            Character::Mute => self.agenda.add(self.now + SILENCE, Event::Lost(key, Lost::Stalled)),
            _ if node.device.tasks() >= plan.capacity() => {
                let back = self.one_way(index);
                self.agenda.add(self.now + back, Event::Lost(key, Lost::Refused));
            }
            _ => {
                attempt.on_device = true;
                node.device.push(self.now, key, attempt.prompt, attempt.answer);
                self.changed(index);
            }
        }
    }

    /// Something happens at an engine.
    fn device(&mut self, index: NodeIndex, generation: u32) {
        let node = &mut self.nodes[index];
        if node.device.generation() != generation {
            return;
        }
        let mut happenings = std::mem::take(&mut self.happenings);
        node.device.happen(self.now, &mut happenings);
        for happening in happenings.drain(..) {
            match happening {
                Happening::FirstToken(key) => self.first_token(key),
                Happening::Done(key, work) => self.done(key, work),
            }
        }
        self.happenings = happenings;
        self.changed(index);
        self.drain();
    }

    /// Somebody came to a node or left it.
    fn changed(&mut self, index: NodeIndex) {
        let node = &mut self.nodes[index];
        if let Some(at) = node.device.next() {
            self.agenda.add(at.max(self.now), Event::Device(index, node.device.generation()));
        }
        let tasks = u32::try_from(node.device.tasks()).expect("bounded by its capacity");
        if node.up && node.said != Some(tasks) {
            node.said = Some(tasks);
            self.policy.load(self.now, index, tasks);
        }
    }

    fn one_way(&mut self, index: NodeIndex) -> Micros {
        micros(self.fleet.nodes[index].network.one_way_s(&mut self.network))
    }

    fn sample(&mut self) {
        let (since, tokens, completed) = self.sampled;
        let passed = seconds(self.now - since);
        let latest = &mut self.tally.latency_s[completed..].to_vec();
        let mut scores = [(0.0, 0u32); 5];
        for (index, plan) in self.fleet.nodes.iter().enumerate() {
            if let Some(score) = self.policy.score(self.now, index) {
                let sum = &mut scores[plan.character as usize];
                *sum = (sum.0 + score.total, sum.1 + 1);
            }
        }
        self.samples.push(Sample {
            minute: seconds(self.now - HISTORY) / 60.0,
            tokens_per_s: if passed > 0.0 { (self.tally.all_tokens - tokens) as f64 / passed } else { 0.0 },
            present: self.nodes.iter().filter(|node| node.up).count(),
            tasks: self.tasks.count(),
            latency_s: crate::tally::percentile(latest, 0.5),
            scores: scores.map(|(sum, count)| (count > 0).then(|| sum / f64::from(count))),
        });
        self.sampled = (self.now, self.tally.all_tokens, self.tally.latency_s.len());
        let next = self.now + (self.window.1 - HISTORY) / SAMPLES;
        if next <= self.window.1 {
            self.agenda.add(next, Event::Sample);
        }
    }

    fn report(mut self) -> Ran {
        // Who is still under way has waited for too long.
        self.tally.failed += self.open;
        let mut scores: Vec<(NodeIndex, ScoreParts)> =
            (0..self.nodes.len()).filter_map(|index| Some((index, self.policy.score(self.now, index)?))).collect();
        scores.sort_by(|one, two| two.1.total.total_cmp(&one.1.total).then(one.0.cmp(&two.0)));
        Ran {
            window_s: seconds(self.window.1 - self.window.0),
            simulated_s: seconds(self.now - HISTORY),
            events: self.agenda.made(),
            tally: self.tally,
            samples: self.samples,
            scores,
        }
    }

    fn grants_max(&self) -> u32 {
        self.rules.tries_max.div_ceil(limits::CANDIDATES_MAX as u32)
    }
}
