//! Mains or battery.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "macos")]
mod macos;

use crate::readings::{Missing, Power};

/// Says what the machine runs on.
pub trait PowerSensor: Send {
    /// Now.
    fn power(&mut self) -> Result<Power, Missing>;
}

pub(super) fn platform() -> Box<dyn PowerSensor> {
    #[cfg(target_os = "linux")]
    return Box::new(linux::PowerSupplies::new("/sys/class/power_supply"));
    #[cfg(target_os = "macos")]
    return Box::new(macos::PowerSources);
}
