//! What a seed is about.

use super::chance::Chance;
use consensus::simulated::{Disk, Torn, Weather};
use std::time::Duration;

/// How one member lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lie {
    /// Two members under one key say different things to different others.
    Twin,
    /// It proposes blocks that are none, and votes for everything.
    Proposals,
    /// It keeps its blocks from some.
    Withholds,
    /// It says again what was said long ago, and changes what it is asked for.
    Replays,
}

/// What goes wrong beside the network and crashes of members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Nothing else.
    Crashes,
    /// One member lies. Whoever asks it for a snapshot is lied to as well.
    Liar(Lie),
    /// Everything stops at once, and the disk is torn; before, writes and syncs fail.
    Blackouts,
    /// One member at a time loses its disk, or finds bits of it changed.
    Losses,
}

#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) seed: u64,
    /// Of the first committee.
    pub(super) members: usize,
    /// One machine more than members, that takes the place of one of them.
    pub(super) changes: bool,
    pub(super) trouble: Trouble,
    pub(super) weather: Weather,
    pub(super) disk: Disk,
    /// How wrong each machine's clock is.
    pub(super) skews_ms: Vec<i64>,
    /// Turns of a second each in which things go wrong.
    pub(super) turns: u64,
    /// A snapshot after so many blocks.
    pub(super) snapshot_blocks: u64,
}

const LIES: [Lie; 4] = [Lie::Twin, Lie::Proposals, Lie::Withholds, Lie::Replays];

impl Plan {
    pub(super) fn of(seed: u64) -> Self {
        let mut chance = Chance::new(seed);
        let members = match chance.below(12) {
            0 => 1,
            1 => 7,
            _ => 4,
        };
        let trouble = match chance.below(10) {
            _ if members == 1 && chance.in_100(50) => Trouble::Crashes,
            _ if members == 1 => Trouble::Blackouts,
            0 => Trouble::Crashes,
            1..=5 => Trouble::Liar(chance.pick(&LIES)),
            6 | 7 => Trouble::Blackouts,
            _ => Trouble::Losses,
        };
        // A liar leaves no room for a member that is away while it joins.
        let changes = members == 4 && !matches!(trouble, Trouble::Liar(_)) && chance.in_100(50);
        let machines = members + usize::from(changes);
        let skews_ms = (0..machines).map(|_| if chance.in_100(40) { chance.below(6_000) as i64 - 3_000 } else { 0 });
        let skews_ms = skews_ms.collect();
        let weather = Weather {
            lost: chance.below(60),
            twice: chance.below(100),
            late: chance.below(100),
            late_max: Duration::from_millis(50 + chance.below(1_500)),
        };
        let disk = Disk {
            failed_writes: 0,
            failed_syncs: 0,
            kept: chance.below(1_001),
            torn: if chance.in_100(50) { Torn::Prefix } else { Torn::Subset },
        };
        let (turns, snapshot_blocks) = (10 + chance.below(10), 6 + chance.below(10));
        Self { seed, members, changes, trouble, weather, disk, skews_ms, turns, snapshot_blocks }
    }
}
