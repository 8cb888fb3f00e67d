//! Heat.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "macos")]
mod macos;

use crate::readings::{Missing, Thermal};

/// Says how hot the machine is.
pub trait ThermalSensor: Send {
    /// Now.
    fn thermal(&mut self) -> Result<Thermal, Missing>;
}

pub(super) fn platform() -> Box<dyn ThermalSensor> {
    #[cfg(target_os = "linux")]
    return Box::new(linux::ThermalZones::new("/sys/class/thermal"));
    #[cfg(target_os = "macos")]
    return Box::new(macos::ProcessInfo);
}
