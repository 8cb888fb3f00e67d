//! IOKit's `HIDIdleTime`: nanoseconds since the last event of keyboard, mouse or trackpad, kept by `IOHIDSystem`.

use super::{PresenceSensor, terminals::Terminals};
use crate::readings::{LastInput, Missing};
use objc2_core_foundation::{CFDictionary, CFNumber, CFRetained, CFString};
use objc2_io_kit::{
    IOObjectRelease, IORegistryEntryCreateCFProperty, IOServiceGetMatchingService, IOServiceMatching, io_service_t,
    kIOMainPortDefault,
};
use protocol::time::unix_ms;
use std::time::SystemTime;

pub(super) struct Everywhere {
    terminals: Terminals,
    /// Looked for once; 0 where there is none.
    system: io_service_t,
}

impl Default for Everywhere {
    fn default() -> Self {
        // SAFETY: the name ends with a zero byte and names a class of services.
        let matching = unsafe { IOServiceMatching(c"IOHIDSystem".as_ptr()) };
        // SAFETY: a mutable dictionary is a dictionary; the cast keeps its one reference.
        let matching = matching.map(|matching| unsafe { CFRetained::cast_unchecked::<CFDictionary>(matching) });
        // SAFETY: the port is a constant of the system; the function takes the dictionary's reference.
        let system = unsafe { IOServiceGetMatchingService(kIOMainPortDefault, matching) };
        Self { terminals: Terminals::new(), system }
    }
}

impl Drop for Everywhere {
    fn drop(&mut self) {
        if self.system != 0 {
            IOObjectRelease(self.system);
        }
    }
}

impl Everywhere {
    fn idle_ns(&self) -> Option<u64> {
        if self.system == 0 {
            return None;
        }
        let key = CFString::from_static_str("HIDIdleTime");
        // SAFETY: the service is held by `self`; the key is a string; the default allocator needs no argument.
        let value = unsafe { IORegistryEntryCreateCFProperty(self.system, Some(&key), None, 0) }?;
        u64::try_from(value.downcast_ref::<CFNumber>()?.as_i64()?).ok()
    }
}

impl PresenceSensor for Everywhere {
    fn last_input(&mut self) -> Result<LastInput, Missing> {
        let now_unix_ms = unix_ms(SystemTime::now());
        let by_hand = self.idle_ns().map(|ns| now_unix_ms.saturating_sub(ns / 1_000_000));
        match by_hand.max(self.terminals.last_input_unix_ms(now_unix_ms)) {
            Some(last_unix_ms) => Ok(LastInput::At(last_unix_ms)),
            None => Err(Missing("IOKit has no HIDIdleTime, and there is no terminal".to_owned())),
        }
    }
}
