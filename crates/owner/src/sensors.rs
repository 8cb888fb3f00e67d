//! The sensors: one trait for each concern, with the platforms' ways beside each other.

mod load;
mod memory;
mod power;
mod presence;
mod thermal;

pub use load::LoadSensor;
pub use memory::MemorySensor;
pub use power::PowerSensor;
pub use presence::PresenceSensor;
pub use thermal::ThermalSensor;

use crate::{
    readings::{LastInput, Missing, Reading, Readings},
    settings::{self, Battery, LendSettings, Presence},
};

/// What looks quickly, every tenth of a second.
pub(crate) struct Quick {
    presence: Option<Box<dyn PresenceSensor>>,
}

/// What looks every few seconds. Some of it may block, so it has a thread of its own.
pub(crate) struct Slow {
    power: Option<Box<dyn PowerSensor>>,
    thermal: Option<Box<dyn ThermalSensor>>,
    memory: Option<Box<dyn MemorySensor>>,
    load: Option<Box<dyn LoadSensor>>,
    asks_for_programs: bool,
    asks_for_load: bool,
}

/// The sensors that these settings need.
pub(crate) fn of(settings: &LendSettings) -> (Quick, Slow) {
    let presence = match &settings.presence {
        Presence::Ignore => None,
        Presence::Yield => Some(presence::platform()),
        Presence::File(path) => Some(presence::file(path.clone())),
    };
    let asks_for_load = settings.other_load_percent_max < 100;
    let asks_for_programs = !settings.exclusive_programs.is_empty();
    let slow = Slow {
        power: (settings.battery != Battery::Ignore).then(power::platform),
        thermal: (settings.thermal != settings::Thermal::Ignore).then(thermal::platform),
        memory: (settings.memory_pressure != settings::Memory::Ignore).then(memory::platform),
        load: (asks_for_load || asks_for_programs).then(|| load::platform(settings.exclusive_programs.clone())),
        asks_for_programs,
        asks_for_load,
    };
    (Quick { presence }, slow)
}

impl Quick {
    pub(crate) fn look(&mut self) -> Reading<LastInput> {
        self.presence.as_mut().map_or(Reading::NotAsked, |sensor| sensor.last_input().into())
    }
}

impl Slow {
    pub(crate) fn is_needed(&self) -> bool {
        self.power.is_some() || self.thermal.is_some() || self.memory.is_some() || self.load.is_some()
    }

    pub(crate) fn look(&mut self) -> Readings {
        let power = self.power.as_mut().map_or(Reading::NotAsked, |sensor| sensor.power().into());
        let thermal = self.thermal.as_mut().map_or(Reading::NotAsked, |sensor| sensor.thermal().into());
        let memory = self.memory.as_mut().map_or(Reading::NotAsked, |sensor| sensor.memory().into());
        let (mut other_load_percent, mut programs) = (Reading::NotAsked, Reading::NotAsked);
        if let Some(sensor) = &mut self.load {
            sensor.refresh();
            if self.asks_for_load {
                other_load_percent = match sensor.other_load_percent() {
                    Ok(Some(percent)) => Reading::Known(percent),
                    Ok(None) => Reading::NotAsked,
                    Err(Missing(why)) => Reading::Missing { why },
                };
            }
            if self.asks_for_programs {
                programs = sensor.running().into();
            }
        }
        Readings { last_input: Reading::NotAsked, power, thermal, memory, other_load_percent, programs }
    }
}
