//! What the owner allows: `config.toml`, with the sections `[lend]` for the machine and `[client]` for what its owner asks.

mod schedule;

pub use schedule::{Schedule, Window, WindowError};

use protocol::{
    grant::Locality,
    market::{PRICE_MICRO_MAX, Price},
};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// When and how much of this machine is lent. The defaults are those of a cautious owner.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LendSettings {
    /// Whether the machine is given back when somebody uses it. `darkbloom up` ignores presence unless it is set here.
    pub presence: Presence,
    /// Seconds without keyboard, mouse and terminal input after which nobody is taken to be there.
    pub idle_s: u32,
    /// What to do while the machine runs on its battery. `darkbloom up` ignores it unless it is set here.
    pub battery: Battery,
    /// The thermal pressure at which nothing is lent any more.
    pub thermal: Thermal,
    /// The shortage of memory at which nothing is lent any more.
    pub memory_pressure: Memory,
    /// Most of the processors, in percent of all of them, that the owner's own programs may use while the machine is
    /// lent; 100 ignores them. `darkbloom up` ignores them unless it is set here.
    pub other_load_percent_max: u8,
    /// When the machine may be lent; without entries at any time.
    pub schedule: Schedule,
    /// Names of programs; while one of them runs nothing is lent.
    pub exclusive_programs: Vec<String>,
    /// Most threads of the engine; without it one for each core.
    pub threads: Option<u32>,
    /// Share of the time, in percent, that the engine may compute, on the GPU or where there is none on the processors.
    pub gpu_share_percent: u8,
    /// Most memory of the worker; without it three quarters of the machine's.
    pub memory_bytes_max: Option<u64>,
    /// Most disk space of the models.
    pub disk_bytes_max: u64,
    /// Orders of up to so many micro-credits are served to their end before it is known that the asker can pay them.
    pub credit_micro_max: u64,
}

impl Default for LendSettings {
    fn default() -> Self {
        Self {
            presence: Presence::Yield,
            idle_s: 300,
            battery: Battery::Never,
            thermal: Thermal::Serious,
            memory_pressure: Memory::Warning,
            other_load_percent_max: 50,
            schedule: Schedule::default(),
            exclusive_programs: Vec::new(),
            threads: None,
            gpu_share_percent: 100,
            memory_bytes_max: None,
            disk_bytes_max: 64 << 30,
            credit_micro_max: 1_000_000,
        }
    }
}

/// How this machine asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClientSettings {
    /// Whether, now and then, a second worker of the pool may read a task with its answer, to find nodes that answer with
    /// another model than they name.
    pub audit: bool,
    /// How far tasks may travel: of several pools those are asked whose policy lets tasks travel no further.
    pub locality: Locality,
    /// Most micro-credits for 1,000 tokens of a prompt; without it whatever is asked.
    pub price_max_prompt_micro: Option<u64>,
    /// Most micro-credits for 1,000 tokens of an answer; without it whatever is asked.
    pub price_max_output_micro: Option<u64>,
}

impl ClientSettings {
    /// The most that a node may ask, if it is bounded at all.
    pub fn price_max(&self) -> Option<Price> {
        let (prompt, output) = (self.price_max_prompt_micro, self.price_max_output_micro);
        (prompt.is_some() || output.is_some()).then(|| Price {
            prompt_micro: prompt.unwrap_or(PRICE_MICRO_MAX),
            output_micro: output.unwrap_or(PRICE_MICRO_MAX),
        })
    }
}

impl Default for ClientSettings {
    fn default() -> Self {
        Self { audit: true, locality: Locality::Pool, price_max_prompt_micro: None, price_max_output_micro: None }
    }
}

/// Whether the machine is given back when somebody uses it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Presence {
    /// At once.
    Yield,
    /// Lent all the same.
    Ignore,
    /// As `yield`, and the file says when somebody was there: its content, in milliseconds since 1970, or where it is
    /// empty the time of its last change. For machines that are watched by other means, and for tests.
    File(PathBuf),
}

/// What to do while the machine runs on its battery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Battery {
    /// Lend nothing.
    Never,
    /// Lend all the same.
    Ignore,
    /// Lend while the battery has at least this much charge, in percent.
    PercentMin(u8),
}

/// A thermal pressure, as the system sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Thermal {
    /// Warm: fans are heard.
    Fair,
    /// Hot: the system slows itself down.
    Serious,
    /// Too hot.
    Critical,
    /// None; lend whatever the temperature.
    Ignore,
}

/// A shortage of memory, as the system sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Memory {
    /// Programs wait for memory now and then.
    Warning,
    /// Programs do little else.
    Critical,
    /// None; lend whatever the shortage.
    Ignore,
}

/// Why the machine is lent: it decides on defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To a pool (`darkbloom join`): every default holds.
    Join,
    /// To the owner, who sits at it and asks (`darkbloom up`): presence, battery and other load hold nothing back unless
    /// they are set.
    Up,
}

/// Why settings were not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// Not TOML, or not our fields.
    #[error("{0}")]
    Malformed(#[from] toml::de::Error),
    /// A value that cannot be meant.
    #[error("`lend.{field}`: {why}")]
    Value {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        why: String,
    },
}

impl SettingsError {
    /// What can be done.
    pub fn remedy(&self) -> &'static str {
        "docs/LENDING.md has every field with its values and an example"
    }
}

/// The whole file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigFile {
    #[serde(default)]
    lend: LendSettings,
    #[serde(default)]
    client: ClientSettings,
}

/// Reads `[client]` of `config.toml`; an empty text gives the defaults.
pub fn client_from_toml(text: &str) -> Result<ClientSettings, SettingsError> {
    let ConfigFile { client, .. } = toml::from_str(text)?;
    Ok(client)
}

/// Reads `[lend]` of `config.toml`; an empty text gives the defaults.
pub fn from_toml(text: &str, purpose: Purpose) -> Result<LendSettings, SettingsError> {
    let ConfigFile { mut lend, .. } = toml::from_str(text)?;
    if purpose == Purpose::Up {
        let written: toml::Table = toml::from_str(text)?;
        let is_set = |field| written.get("lend").is_some_and(|section| section.get(field).is_some());
        if !is_set("presence") {
            lend.presence = Presence::Ignore;
        }
        if !is_set("battery") {
            lend.battery = Battery::Ignore;
        }
        if !is_set("other_load_percent_max") {
            lend.other_load_percent_max = 100;
        }
    }
    lend.check()?;
    Ok(lend)
}

impl LendSettings {
    /// Settings that hold nothing back, whatever happens on the machine: for a machine that does nothing else.
    pub fn always() -> Self {
        Self {
            presence: Presence::Ignore,
            battery: Battery::Ignore,
            thermal: Thermal::Ignore,
            memory_pressure: Memory::Ignore,
            other_load_percent_max: 100,
            ..Self::default()
        }
    }

    /// Most memory of a worker on a machine with so much.
    pub fn memory_bytes_max(&self, machine_bytes: u64) -> u64 {
        self.memory_bytes_max.unwrap_or(machine_bytes / 4 * 3)
    }

    fn check(&self) -> Result<(), SettingsError> {
        let wrong = |field, why: &str| Err(SettingsError::Value { field, why: why.to_owned() });
        if self.idle_s == 0 {
            return wrong("idle_s", "0 would never see anybody; `presence = \"ignore\"` says that");
        }
        if matches!(self.battery, Battery::PercentMin(percent) if percent > 100) {
            return wrong("battery", "a charge is at most 100 percent");
        }
        if self.other_load_percent_max > 100 {
            return wrong("other_load_percent_max", "a share is at most 100 percent, which ignores other programs");
        }
        if !(1..=100).contains(&self.gpu_share_percent) {
            return wrong("gpu_share_percent", "a share is from 1 to 100; `darkbloom pause` stops lending");
        }
        if self.threads == Some(0) {
            return wrong("threads", "the engine needs at least one; without the field it takes one for each core");
        }
        if self.memory_bytes_max == Some(0) {
            return wrong("memory_bytes_max", "no model fits; without the field it is three quarters of the machine's");
        }
        if self.exclusive_programs.iter().any(|name| name.trim().is_empty() || name.contains('/')) {
            return wrong("exclusive_programs", "the name of a program, as in its file name without folders");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
