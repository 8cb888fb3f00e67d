//! Shortage of memory.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "macos")]
mod macos;

use crate::readings::{Memory, Missing};

/// Says how short of memory the machine is.
pub trait MemorySensor: Send {
    /// Now.
    fn memory(&mut self) -> Result<Memory, Missing>;
}

pub(super) fn platform() -> Box<dyn MemorySensor> {
    #[cfg(target_os = "linux")]
    return Box::new(linux::Shortage::new("/proc"));
    #[cfg(target_os = "macos")]
    return Box::new(macos::PressureLevel);
}
