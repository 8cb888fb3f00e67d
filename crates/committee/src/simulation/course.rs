//! The course of one seed: what is said, and what goes wrong when.

mod misfortune;

use super::{
    Plant, adversary,
    chance::Chance,
    crowd::Crowd,
    invariants::{Invariants, Violation},
    machine::{Common, Machine},
    plan::{Plan, Trouble},
};
use crate::{execution::BundleId, execution::bundle_id, founding::found, locks::locked, pending::Outcome};
use consensus::{
    Pace,
    simulated::{Disk, Then, Weather, Wire, World, run_lives},
};
use protocol::{ids::NodeId, signed::Signed};
use registry::{Bundle, Fact, Genesis};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::sync::oneshot;
use trust::MachineKey;

const TICK: Duration = Duration::from_millis(250);
const TICKS_IN_TURN: u64 = 4;
/// After faults have ended, something that is said has to be final in so many ticks: a minute.
const LIVE_TICKS: u64 = 240;
const TIME_MAX: Duration = Duration::from_secs(1_800);
const IDLE: Duration = Duration::from_millis(900);
const GATHER: Duration = Duration::from_millis(20);

/// What became of a seed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) seed: u64,
    /// Of everything that the runtime did.
    pub(crate) fingerprint: String,
    pub(crate) log: Vec<String>,
    pub(crate) height: u64,
    pub(crate) violation: Option<Violation>,
}

/// Somebody who waits for a bundle at a machine.
struct Waiting {
    id: BundleId,
    machine: usize,
    outcome: oneshot::Receiver<Outcome>,
}

struct Course {
    plan: Plan,
    chance: Chance,
    common: Common,
    machines: Vec<Machine>,
    crowd: Crowd,
    waiting: Vec<Waiting>,
    /// What not every member has heard of.
    said: Vec<(Signed<Bundle>, u64)>,
    log: Vec<String>,
    turn: u64,
    is_disk_bad: bool,
    is_traced: bool,
    cuts: Vec<(NodeId, NodeId)>,
}

pub(crate) fn run(seed: u64, plant: Plant) -> Report {
    let plan = Plan::of(seed);
    let mut course = Course::new(plan, plant);
    let ids: Vec<NodeId> = course.machines.iter().map(|machine| machine.id).collect();
    let ((), fingerprint) =
        run_lives(seed, TIME_MAX, &ids, Wire::default(), async |world, life| course.live(world, life).await);
    let watch = locked(&course.common.watch);
    Report { seed, fingerprint, log: course.log, height: watch.height(), violation: watch.violation().cloned() }
}

impl Course {
    fn new(plan: Plan, plant: Plant) -> Self {
        let lie = match plan.trouble {
            Trouble::Liar(lie) => Some(lie),
            _ => None,
        };
        let machines = plan.skews_ms.iter().enumerate().map(|(name, skew_ms)| {
            let key = MachineKey::from_seed(&[name as u8 + 1; 32]);
            // The owner is honest: it is machine 0.
            Machine::new(name, key, *skew_ms, lie.filter(|_| name == 1))
        });
        let machines: Vec<Machine> = machines.collect();
        let founders = machines.iter().take(plan.members).map(|machine| machine.id).collect();
        let mut genesis = Genesis::new(founders, &[7; 32], 1_789_000_000_000);
        genesis.epoch_blocks = protocol::limits::EPOCH_BLOCKS_MIN;
        let (first, _) = found(&genesis).unwrap();
        let honest = machines.iter().filter(|machine| machine.lie.is_none()).map(|machine| machine.id).collect();
        let watch = Arc::new(Mutex::new(Invariants::new(&genesis, &first, honest)));
        let pool = genesis.pool().unwrap();
        let crowd = Crowd::new(plan.seed, pool, machines[0].key.clone());
        let (pace, snapshot_blocks) = (Pace { idle: IDLE, gather: GATHER }, plan.snapshot_blocks);
        let common = Common { genesis, pool, pace, snapshot_blocks, plant, watch };
        let mut course = Self {
            chance: Chance::new(plan.seed.wrapping_add(1 << 32)),
            common,
            machines,
            crowd,
            waiting: Vec::new(),
            said: Vec::new(),
            log: Vec::new(),
            turn: 0,
            is_disk_bad: false,
            is_traced: std::env::var_os("DARKBLOOM_SIM_TRACE").is_some(),
            cuts: Vec::new(),
            plan,
        };
        course.log.push(format!("{:?}", course.plan));
        course
    }

    fn note(&mut self, world: &World, what: impl std::fmt::Display) {
        let height = locked(&self.common.watch).height();
        let line = format!("{} turn {} block {height}: {what}", world.unix_ms(), self.turn);
        // At once: a seed that never ends shows where it is.
        if self.is_traced {
            println!("{line}");
        }
        self.log.push(line);
    }

    fn is_over(&self) -> bool {
        locked(&self.common.watch).violation().is_some()
    }

    fn is_up(&self, name: usize) -> bool {
        self.machines[name].chain.is_some()
    }

    async fn live(&mut self, world: &mut World, life: u32) -> Then<()> {
        if life > 0 {
            self.note(world, "everything starts again");
        }
        (self.is_disk_bad, self.cuts) = (false, Vec::new());
        for name in 0..self.machines.len() {
            if let Some(lie) = self.machines[name].lie {
                let others = self.machines.iter().map(|machine| machine.id);
                let others = others.filter(|id| *id != self.machines[name].id).collect();
                world.set_hand(self.machines[name].id, adversary::hand(lie, others, self.plan.seed));
            }
            if life == 0 {
                self.machines[name].remember(&self.common, &[]);
            }
            self.bring_up(world, name).await;
        }
        if life == 0 {
            let now = world.unix_ms();
            let opening = self.crowd.opening(now);
            self.say(&opening, now, true);
        }
        while self.turn < self.plan.turns && !self.is_over() {
            self.turn += 1;
            if self.turns(world).await {
                return self.black_out(world);
            }
        }
        if !self.is_over() {
            self.heal(world).await;
        }
        Then::Done(())
    }

    /// One turn. Whether everything stops then.
    async fn turns(&mut self, world: &mut World) -> bool {
        self.misfortune(world).await;
        for _ in 0..TICKS_IN_TURN {
            let now = world.unix_ms();
            if self.chance.in_100(60) {
                let signed = self.crowd.next(now);
                self.say(&signed, now, false);
            }
            self.tick(world).await;
            if self.is_over() {
                return false;
            }
        }
        self.change_committee(world);
        self.is_disk_bad && self.chance.in_100(60)
    }

    fn black_out(&mut self, world: &World) -> Then<()> {
        self.note(world, "everything stops");
        self.waiting.clear();
        self.machines.iter_mut().for_each(Machine::forget);
        Then::Crash
    }

    fn end(&mut self, name: usize) {
        self.waiting.retain(|waiting| waiting.machine != name);
        self.machines[name].forget();
    }

    async fn bring_up(&mut self, world: &mut World, name: usize) {
        world.sleep(TICK / 5).await;
        if !self.machines[name].has_past() && !self.begin_anew(world, name) {
            return;
        }
        let started = self.machines[name].start(world, &self.common).await;
        let machine = &self.machines[name];
        match started {
            Ok(()) => {
                let height = machine.chain.as_ref().map_or(0, |chain| chain.height());
                let signs_from_epoch = machine.signs_from_epoch;
                self.note(world, format_args!("{name} is up at {height}, signs from epoch {signs_from_epoch}"));
                if self.machines[name].is_damaged {
                    // If it has noticed, others have helped; what it has lost is no more than that.
                    self.machines[name].is_damaged = false;
                }
            }
            Err(why) => {
                let (id, is_damaged) = (machine.id, machine.is_damaged);
                world.crash(id).await;
                self.end(name);
                self.note(world, format_args!("{name} does not start: {why}"));
                if is_damaged {
                    self.lose(world, name);
                } else if !self.is_disk_bad && self.machines[name].lie.is_none() {
                    locked(&self.common.watch).stopped(id, &format!("it does not start: {why}"));
                }
            }
        }
    }

    /// A machine without a past asks the others. Whether enough of them are there.
    fn begin_anew(&mut self, world: &World, name: usize) -> bool {
        let others: Vec<_> = (0..self.machines.len()).filter(|other| *other != name && self.is_up(*other)).collect();
        let committee = self.common.genesis.committee().unwrap();
        if others.len() + 1 < committee.quorum() {
            return false;
        }
        let epochs: Vec<_> = others.iter().filter_map(|other| self.machines[*other].chain.as_ref()).collect();
        let epochs: Vec<_> = epochs.iter().map(|chain| (chain.height() > 0).then(|| chain.epoch())).collect();
        self.machines[name].remember(&self.common, &epochs);
        let mut servers = others;
        while !servers.is_empty() {
            let server = servers.swap_remove(self.chance.place(servers.len()));
            let Some(offer) = self.machines[server].offer() else { continue };
            match self.machines[name].take(&self.common, offer) {
                Ok(height) => {
                    self.note(world, format_args!("{name} takes the snapshot {height} of {server}"));
                    break;
                }
                Err(why) => self.note(world, format_args!("{name} refuses the snapshot of {server}: {why}")),
            }
        }
        true
    }

    /// A bundle comes to one member or more. Whoever waits for it waits at the first.
    fn say(&mut self, signed: &Signed<Bundle>, now: u64, is_for_all: bool) {
        let id = bundle_id(signed);
        let mut is_first = true;
        let offset = self.chance.place(self.machines.len());
        for place in 0..self.machines.len() {
            let name = (place + offset) % self.machines.len();
            if !is_for_all && !is_first && self.chance.in_100(50) {
                continue;
            }
            for chain in self.machines[name].chains() {
                let Ok(entry) = chain.opened(signed.clone(), None) else { continue };
                if !is_first || self.machines[name].lie.is_some() {
                    let _ = chain.hear(entry);
                } else if let Ok(outcome) = chain.submit(entry) {
                    is_first = false;
                    self.waiting.push(Waiting { id, machine: name, outcome });
                }
            }
        }
        self.said.push((signed.clone(), now));
    }

    /// A moment passes.
    async fn tick(&mut self, world: &mut World) {
        world.sleep(TICK).await;
        let now = world.unix_ms();
        let newest = self.machines.iter().filter_map(|machine| Some(machine.chain.as_ref()?.epoch())).max();
        let hurries = self.machines.iter().any(|machine| machine.signs_from_epoch > newest.unwrap_or(0));
        for name in 0..self.machines.len() {
            let id = self.machines[name].id;
            if let Some(why) = world.ended(id).await {
                self.end(name);
                self.note(world, format_args!("{name} has ended: {why}"));
                if !self.is_disk_bad && self.machines[name].lie.is_none() {
                    locked(&self.common.watch).stopped(id, &why);
                }
            }
            if let Some(height) = self.machines[name].care(world, hurries).await {
                self.note(world, format_args!("{name} keeps the snapshot {height}"));
            }
        }
        self.hear_outcomes(world);
        // Whoever says something says it again until it is final.
        self.said.retain(|(_, since)| since + 30_000 > now);
        if self.chance.in_100(25) {
            let said = std::mem::take(&mut self.said);
            for (signed, _) in said.iter().filter(|(signed, _)| !locked(&self.common.watch).has(&bundle_id(signed))) {
                for chain in self.machines.iter().flat_map(Machine::chains) {
                    if let Ok(entry) = chain.opened(signed.clone(), None) {
                        let _ = chain.hear(entry);
                    }
                }
            }
            self.said = said;
        }
    }

    fn hear_outcomes(&mut self, world: &World) {
        let mut told = Vec::new();
        self.waiting.retain_mut(|waiting| match waiting.outcome.try_recv() {
            Ok(Outcome::Final { .. }) => {
                told.push(waiting.id);
                false
            }
            Err(oneshot::error::TryRecvError::Empty) => true,
            _ => false,
        });
        if !told.is_empty() {
            let mut watch = locked(&self.common.watch);
            let height = watch.height();
            told.iter().for_each(|id| watch.told(*id, height));
            drop(watch);
            self.note(world, format_args!("{} callers are told", told.len()));
        }
    }

    fn change_committee(&mut self, world: &World) {
        let (add, remove) = match self.turn {
            2 if self.plan.changes => (vec![self.machines[self.plan.members].id], Vec::new()),
            9 if self.plan.changes => (Vec::new(), vec![self.machines[2].id]),
            _ => return,
        };
        let now = world.unix_ms();
        self.note(world, "the committee is to change");
        let signed = self.crowd.owner(now, vec![Fact::CommitteeChanged { add, remove }]);
        self.say(&signed, now, true);
    }

    /// All faults but lies end; then what is said has to become final, everywhere.
    async fn heal(&mut self, world: &mut World) {
        world.set_weather(Weather::default());
        world.set_disk(Disk::default());
        for one in 0..self.machines.len() {
            for other in 0..one {
                world.heal(self.machines[one].id, self.machines[other].id).await;
            }
        }
        self.note(world, "all is well again");
        // Who fell because of its disk has to come up again.
        for _ in 0..2 {
            for name in 0..self.machines.len() {
                if let Some(why) = world.ended(self.machines[name].id).await {
                    self.end(name);
                    self.note(world, format_args!("{name} has ended: {why}"));
                }
                if !self.is_up(name) {
                    self.bring_up(world, name).await;
                }
            }
        }
        self.is_disk_bad = false;
        let now = world.unix_ms();
        let last = self.crowd.owner(now, vec![Fact::MeasurementAllowed { measurement: [255; 32] }]);
        self.say(&last, now, true);
        let id = bundle_id(&last);
        let mut is_final = false;
        for _ in 0..LIVE_TICKS {
            self.tick(world).await;
            if self.is_over() {
                return;
            }
            let members = self.machines[0].chain.as_ref().map(|chain| chain.members()).unwrap_or_default();
            let has = |machine: &Machine| {
                let measurement = registry::keys::measurement(&[255; 32]);
                let chain = machine.chain.as_ref();
                // One that was removed while it was away is told nothing more by the engines of others; only its supervisor,
                // which is not simulated, sees that and takes a snapshot.
                machine.lie.is_some()
                    || !members.contains(&machine.id)
                    || chain.is_some_and(|chain| chain.latest().borrow().state.read(&measurement).is_some())
            };
            is_final = locked(&self.common.watch).has(&id) && self.machines.iter().all(has);
            if is_final {
                break;
            }
        }
        let lag: Vec<_> = self
            .machines
            .iter()
            .map(|machine| {
                let standing = world.standing(machine.id).unwrap_or_default();
                format!("{} at {} in view {}.{}", machine.name, standing.height, standing.epoch, standing.view)
            })
            .collect();
        locked(&self.common.watch).live(is_final, &lag.join(", "));
        self.note(world, format_args!("the last bundle is final: {is_final}"));
    }
}
