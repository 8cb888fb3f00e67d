//! The rules: settings and readings in, what is held back and why out. Pure: time is an argument.

use crate::{
    readings::{LastInput, Memory, Power, Reading, Readings, Thermal},
    settings::{self, Battery, LendSettings, Presence},
};
use jiff::Zoned;
use protocol::hold::Hold;
use std::collections::BTreeMap;

/// A battery that was too low must have so much more before it counts as full enough.
const BATTERY_BAND_PERCENT: u8 = 5;

/// A rule of the owner's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// Nobody uses the machine.
    Presence,
    /// It is not on its battery, or has charge enough.
    Battery,
    /// It is not hot.
    Thermal,
    /// It is not short of memory.
    MemoryPressure,
    /// Other programs do not need it.
    OtherLoad,
    /// It is the time for it.
    Schedule,
    /// No exclusive program runs.
    ExclusivePrograms,
}

impl Rule {
    /// The field of `[lend]` that sets it.
    pub fn field(self) -> &'static str {
        match self {
            Self::Presence => "presence",
            Self::Battery => "battery",
            Self::Thermal => "thermal",
            Self::MemoryPressure => "memory_pressure",
            Self::OtherLoad => "other_load_percent_max",
            Self::Schedule => "schedule",
            Self::ExclusivePrograms => "exclusive_programs",
        }
    }

    /// What the pool is told: the rule, and nothing that it found.
    pub fn public(self) -> &'static str {
        match self {
            Self::Presence => "somebody uses the machine (rule `presence`)",
            Self::Battery => "it runs on its battery (rule `battery`)",
            Self::Thermal => "it is hot (rule `thermal`)",
            Self::MemoryPressure => "it is short of memory (rule `memory_pressure`)",
            Self::OtherLoad => "other programs need it (rule `other_load_percent_max`)",
            Self::Schedule => "it is not lent at this time (rule `schedule`)",
            Self::ExclusivePrograms => "another program comes first (rule `exclusive_programs`)",
        }
    }

    /// How long its condition must have been gone before it lifts. Presence waits by itself; loading a model into memory
    /// that was short a moment ago would make it short again.
    pub fn calm_ms(self) -> u64 {
        match self {
            Self::Presence | Self::Battery | Self::Schedule => 0,
            Self::ExclusivePrograms => 10_000,
            Self::Thermal | Self::OtherLoad => 60_000,
            Self::MemoryPressure => 300_000,
        }
    }
}

/// A rule that is broken now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// Which.
    pub rule: Rule,
    /// What was found, for the owner's eyes.
    pub found: String,
    /// When it lifts if nothing happens until then, in milliseconds since 1970.
    pub lifts_unix_ms: Option<u64>,
}

/// A sensor that a rule needs and that is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingSensor {
    /// The field of `[lend]` that needs it.
    pub field: &'static str,
    /// Why it is not there.
    pub why: String,
}

/// What the rules say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Why nothing is lent now, if so: the broken rule that lifts last.
    pub hold: Option<Hold>,
    /// Every broken rule, the one that lifts last first. Empty exactly where nothing is held back.
    pub broken: Vec<Broken>,
    /// What could not be looked at.
    pub missing: Vec<MissingSensor>,
}

/// When each rule was last found broken.
#[derive(Debug, Clone, Default)]
pub struct History {
    broken_unix_ms: BTreeMap<Rule, u64>,
}

/// Compares settings and readings. `history` carries over from one call to the next, so that a rule lifts only when its
/// condition has been gone for [`Rule::calm_ms`].
pub fn verdict(settings: &LendSettings, readings: &Readings, history: &mut History, now: &Zoned) -> Verdict {
    let now_unix_ms = u64::try_from(now.timestamp().as_millisecond()).unwrap_or_default();
    let was_broken = history.broken_unix_ms.contains_key(&Rule::Battery);
    let found = [
        presence(settings, readings, now_unix_ms),
        battery(settings, readings, was_broken),
        thermal(settings, readings),
        memory(settings, readings),
        other_load(settings, readings),
        schedule(settings, now),
        programs(readings),
    ];
    let mut broken: Vec<Broken> = found.into_iter().flatten().collect();
    for broken in &broken {
        history.broken_unix_ms.insert(broken.rule, now_unix_ms);
    }
    history.broken_unix_ms.retain(|rule, last_unix_ms| {
        // A clock that was set back must not prolong it.
        *last_unix_ms = (*last_unix_ms).min(now_unix_ms);
        let lifts_unix_ms = *last_unix_ms + rule.calm_ms();
        let is_broken = broken.iter().any(|broken| broken.rule == *rule);
        if !is_broken && now_unix_ms < lifts_unix_ms {
            let found = "gone, and not for long enough yet".to_owned();
            broken.push(Broken { rule: *rule, found, lifts_unix_ms: Some(lifts_unix_ms) });
        }
        is_broken || now_unix_ms < lifts_unix_ms
    });
    broken.sort_by_key(|broken| std::cmp::Reverse((broken.lifts_unix_ms.is_none(), broken.lifts_unix_ms)));
    let hold = broken
        .first()
        .map(|broken| Hold::Owner { rule: broken.rule.public().to_owned(), lifts_unix_ms: broken.lifts_unix_ms });
    Verdict { hold, broken, missing: missing(settings, readings) }
}

fn broken(rule: Rule, found: String) -> Option<Broken> {
    Some(Broken { rule, found, lifts_unix_ms: None })
}

fn presence(settings: &LendSettings, readings: &Readings, now_unix_ms: u64) -> Option<Broken> {
    if settings.presence == Presence::Ignore {
        return None;
    }
    match readings.last_input.known()? {
        LastInput::Never => None,
        LastInput::Unreadable { why } => broken(Rule::Presence, why.clone()),
        LastInput::At(last_unix_ms) => {
            // A clock that was set back must not prolong it for long.
            let last_unix_ms = (*last_unix_ms).min(now_unix_ms);
            let lifts_unix_ms = last_unix_ms.saturating_add(u64::from(settings.idle_s) * 1_000);
            let ago_s = (now_unix_ms - last_unix_ms) / 1_000;
            let found = format!("last input {ago_s} s ago, lent after {} s", settings.idle_s);
            (now_unix_ms < lifts_unix_ms).then_some(Broken {
                rule: Rule::Presence,
                found,
                lifts_unix_ms: Some(lifts_unix_ms),
            })
        }
    }
}

fn battery(settings: &LendSettings, readings: &Readings, was_broken: bool) -> Option<Broken> {
    let Power::Battery { percent } = readings.power.known()? else { return None };
    match (settings.battery, percent) {
        (Battery::Ignore, _) => None,
        (Battery::Never, _) => broken(Rule::Battery, "it runs on its battery".to_owned()),
        (Battery::PercentMin(_), None) => broken(Rule::Battery, "its charge is not known".to_owned()),
        (Battery::PercentMin(least), Some(percent)) => {
            let least = if was_broken { least.saturating_add(BATTERY_BAND_PERCENT).min(100) } else { least };
            let found = format!("its charge is {percent} %, lent from {least} % on");
            if *percent < least { broken(Rule::Battery, found) } else { None }
        }
    }
}

fn thermal(settings: &LendSettings, readings: &Readings) -> Option<Broken> {
    let least = match settings.thermal {
        settings::Thermal::Fair => Thermal::Fair,
        settings::Thermal::Serious => Thermal::Serious,
        settings::Thermal::Critical => Thermal::Critical,
        settings::Thermal::Ignore => return None,
    };
    let pressure = *readings.thermal.known()?;
    let found = format!("the thermal pressure is {}", format!("{pressure:?}").to_lowercase());
    if pressure >= least { broken(Rule::Thermal, found) } else { None }
}

fn memory(settings: &LendSettings, readings: &Readings) -> Option<Broken> {
    let least = match settings.memory_pressure {
        settings::Memory::Warning => Memory::Warning,
        settings::Memory::Critical => Memory::Critical,
        settings::Memory::Ignore => return None,
    };
    let pressure = *readings.memory.known()?;
    let found = format!("the memory pressure is {}", format!("{pressure:?}").to_lowercase());
    if pressure >= least { broken(Rule::MemoryPressure, found) } else { None }
}

fn other_load(settings: &LendSettings, readings: &Readings) -> Option<Broken> {
    let (load, most) = (*readings.other_load_percent.known()?, settings.other_load_percent_max);
    let found = format!("other programs use {load} % of the processors, lent up to {most} %");
    // 100 is never exceeded, so it ignores them.
    if load.min(100) > most { broken(Rule::OtherLoad, found) } else { None }
}

fn schedule(settings: &LendSettings, now: &Zoned) -> Option<Broken> {
    if settings.schedule.is_open(now.datetime()) {
        return None;
    }
    let found = format!("it is {}", now.strftime("%A %H:%M"));
    Some(Broken { rule: Rule::Schedule, found, lifts_unix_ms: settings.schedule.opens_unix_ms(now) })
}

fn programs(readings: &Readings) -> Option<Broken> {
    let running = readings.programs.known()?;
    if running.is_empty() { None } else { broken(Rule::ExclusivePrograms, format!("running: {}", running.join(", "))) }
}

fn missing(settings: &LendSettings, readings: &Readings) -> Vec<MissingSensor> {
    let asked = [
        (Rule::Presence, why(&readings.last_input), settings.presence != Presence::Ignore),
        (Rule::Battery, why(&readings.power), settings.battery != Battery::Ignore),
        (Rule::Thermal, why(&readings.thermal), settings.thermal != settings::Thermal::Ignore),
        (Rule::MemoryPressure, why(&readings.memory), settings.memory_pressure != settings::Memory::Ignore),
        (Rule::OtherLoad, why(&readings.other_load_percent), settings.other_load_percent_max < 100),
        (Rule::ExclusivePrograms, why(&readings.programs), !settings.exclusive_programs.is_empty()),
    ];
    let missing = asked.into_iter().filter(|(.., is_asked)| *is_asked);
    missing.filter_map(|(rule, why, _)| Some(MissingSensor { field: rule.field(), why: why? })).collect()
}

fn why<T>(reading: &Reading<T>) -> Option<String> {
    match reading {
        Reading::Missing { why } => Some(why.clone()),
        Reading::Known(_) | Reading::NotAsked => None,
    }
}

#[cfg(test)]
mod tests;
