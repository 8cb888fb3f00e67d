//! When somebody last used the machine.

mod file;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "macos")]
mod macos;
mod terminals;

use crate::readings::{LastInput, Missing};
use std::path::PathBuf;

/// Says when somebody last used the machine. Asked ten times a second: it must not block.
pub trait PresenceSensor: Send {
    /// As known now.
    fn last_input(&mut self) -> Result<LastInput, Missing>;
}

pub(super) fn platform() -> Box<dyn PresenceSensor> {
    #[cfg(target_os = "linux")]
    return Box::new(linux::Everywhere::start());
    #[cfg(target_os = "macos")]
    return Box::new(macos::Everywhere::default());
}

pub(super) fn file(path: PathBuf) -> Box<dyn PresenceSensor> {
    Box::new(file::InputFile::new(path))
}
