//! What goes wrong: crashes, cuts, and the disk.

use super::{Course, TICK};
use crate::{locks::locked, simulation::plan::Trouble};
use consensus::simulated::{Disk, Weather, World};

impl Course {
    /// What goes wrong in this turn.
    pub(super) async fn misfortune(&mut self, world: &mut World) {
        let count = self.machines.len();
        let name = self.chance.place(count);
        let down = (0..count).filter(|name| !self.is_up(*name)).collect::<Vec<_>>();
        let weather = if self.chance.in_100(50) { self.plan.weather } else { Weather::default() };
        world.set_weather(weather);
        if self.chance.in_100(40) {
            for (one, other) in std::mem::take(&mut self.cuts) {
                world.heal(one, other).await;
            }
        }
        match self.chance.below(10) {
            0 | 1 if self.is_up(name) && down.len() < 2 => {
                world.crash(self.machines[name].id).await;
                self.end(name);
                self.machines[name].crash(&self.common);
                self.note(world, format_args!("{name} crashes"));
                if self.plan.trouble == Trouble::Losses && down.is_empty() {
                    self.spoil(world, name).await;
                }
            }
            2 | 3 => {
                // Cut off, in one direction or both.
                let (id, ways) = (self.machines[name].id, self.chance.below(3));
                for other in (0..count).filter(|other| *other != name) {
                    let other = self.machines[other].id;
                    match ways {
                        0 => world.cut_way(id, other).await,
                        1 => world.cut_way(other, id).await,
                        _ => world.cut(id, other).await,
                    }
                    self.cuts.push((id, other));
                }
                self.note(world, format_args!("{name} is cut off, way {ways}"));
            }
            4 if count > 3 => {
                // Two parts.
                for one in 0..count / 2 {
                    for other in count / 2..count {
                        let pair = (self.machines[one].id, self.machines[other].id);
                        world.cut(pair.0, pair.1).await;
                        self.cuts.push(pair);
                    }
                }
                self.note(world, "the network is in two parts");
            }
            5 | 6 if self.plan.trouble == Trouble::Blackouts && !self.is_disk_bad => {
                self.is_disk_bad = true;
                let (failed_writes, failed_syncs) = match self.chance.below(3) {
                    0 => (0, 0),
                    1 => (2, 0),
                    _ => (0, 4),
                };
                let disk = Disk { failed_writes, failed_syncs, ..self.plan.disk };
                world.set_disk(disk);
                self.note(world, format_args!("{disk:?}"));
            }
            _ => {}
        }
        for name in down {
            if self.chance.in_100(50) {
                self.bring_up(world, name).await;
            }
        }
    }

    /// The disk of a machine that is down is empty, or bits of it are changed.
    async fn spoil(&mut self, world: &mut World, name: usize) {
        let id = self.machines[name].id;
        // One that may not vote yet is one that the committee does without already.
        let waits = self.machines.iter().any(|machine| {
            let epoch = machine.chain.as_ref().map_or(0, |chain| chain.epoch());
            machine.signs_from_epoch > epoch
        });
        // Before the first block nobody can tell a pool that begins from a member that forgets: see `Duty::of_newcomer`.
        let has_begun =
            self.machines.iter().filter_map(|machine| machine.chain.as_ref()).all(|chain| chain.height() > 0);
        if waits || !has_begun || self.machines.iter().any(|machine| machine.is_damaged) {
            return;
        }
        if self.chance.in_100(50) {
            self.lose(world, name);
            return;
        }
        // Its tasks let go of the disk in a moment.
        world.sleep(TICK).await;
        let disk = self.machines[name].disk();
        if let Some(place) = world.corrupt(id, &disk).await {
            self.machines[name].is_damaged = true;
            self.note(world, format_args!("a bit of {name} is changed: {place}"));
        }
    }

    pub(super) fn lose(&mut self, world: &World, name: usize) {
        self.machines[name].lose();
        locked(&self.common.watch).excuse(self.machines[name].id);
        self.note(world, format_args!("{name} has lost its disk"));
    }
}
