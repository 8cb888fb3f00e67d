//! `kern.memorystatus_vm_pressure_level`: 1 normal, 2 warning, 4 critical (the values of
//! `DISPATCH_MEMORYPRESSURE_*` in dispatch/source.h).

use super::MemorySensor;
use crate::readings::{Memory, Missing};

pub(super) struct PressureLevel;

impl MemorySensor for PressureLevel {
    fn memory(&mut self) -> Result<Memory, Missing> {
        let mut level: libc::c_int = 0;
        let mut bytes = size_of_val(&level);
        // SAFETY: the name ends with a zero byte; `level` has the `bytes` that the kernel may write; nothing is set.
        let result = unsafe {
            libc::sysctlbyname(
                c"kern.memorystatus_vm_pressure_level".as_ptr(),
                (&raw mut level).cast(),
                &raw mut bytes,
                std::ptr::null_mut(),
                0,
            )
        };
        match (result, level) {
            (0, 1) => Ok(Memory::Normal),
            (0, 2) => Ok(Memory::Warning),
            (0, 4) => Ok(Memory::Critical),
            (0, other) => Err(Missing(format!("an unknown memory pressure: {other}"))),
            _ => Err(Missing(format!("no memory pressure: {}", std::io::Error::last_os_error()))),
        }
    }
}
