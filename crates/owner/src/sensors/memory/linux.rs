//! Pressure stall information (Linux, Documentation/accounting/psi.rst): the share of the last ten seconds in which some,
//! or all, programs waited for memory; and what is available, for kernels without it and for what comes suddenly.

use super::MemorySensor;
use crate::readings::{Memory, Missing};
use std::{fs, path::PathBuf};

/// Share of time, in percent, in which some programs wait: felt as stutter.
const SOME_PERCENT_MAX: f32 = 10.0;
/// Share of time, in percent, in which all of them do.
const FULL_PERCENT_MAX: f32 = 10.0;
/// Shares of memory available, in percent, below which the kernel is about to push programs out.
const AVAILABLE_PERCENT_WARNING: u64 = 8;
const AVAILABLE_PERCENT_CRITICAL: u64 = 4;

pub(super) struct Shortage {
    proc: PathBuf,
}

impl Shortage {
    pub(super) fn new(proc: impl Into<PathBuf>) -> Self {
        Self { proc: proc.into() }
    }
}

impl MemorySensor for Shortage {
    fn memory(&mut self) -> Result<Memory, Missing> {
        let read = |name: &str| fs::read_to_string(self.proc.join(name));
        let stalled = read("pressure/memory").ok().and_then(|text| stalled(&text));
        let available = read("meminfo").ok().and_then(|text| available(&text));
        let folder = self.proc.display();
        stalled.max(available).ok_or_else(|| Missing(format!("neither {folder}/pressure/memory nor {folder}/meminfo")))
    }
}

fn stalled(text: &str) -> Option<Memory> {
    let share = |kind: &str| -> Option<f32> {
        let line = text.lines().find(|line| line.starts_with(kind))?;
        line.split_whitespace().find_map(|word| word.strip_prefix("avg10=")?.parse().ok())
    };
    Some(if share("full").is_some_and(|percent| percent > FULL_PERCENT_MAX) {
        Memory::Critical
    } else if share("some")? > SOME_PERCENT_MAX {
        Memory::Warning
    } else {
        Memory::Normal
    })
}

fn available(text: &str) -> Option<Memory> {
    let kib = |name: &str| -> Option<u64> {
        text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
    };
    let (total, available) = (kib("MemTotal:")?, kib("MemAvailable:")?);
    let percent = available.saturating_mul(100).checked_div(total)?;
    Some(if percent < AVAILABLE_PERCENT_CRITICAL {
        Memory::Critical
    } else if percent < AVAILABLE_PERCENT_WARNING {
        Memory::Warning
    } else {
        Memory::Normal
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_and_what_is_left_both_count() {
        let proc = tempfile::tempdir().unwrap();
        let mut sensor = Shortage::new(proc.path());
        assert!(sensor.memory().is_err());
        let write = |available: u64| {
            let text = format!("MemTotal:       1000 kB\nMemFree: 5 kB\nMemAvailable:    {available} kB\n");
            fs::write(proc.path().join("meminfo"), text).unwrap();
        };
        for (available, expected) in [(500, Memory::Normal), (70, Memory::Warning), (39, Memory::Critical)] {
            write(available);
            assert_eq!(sensor.memory(), Ok(expected));
        }
        write(500);
        fs::create_dir(proc.path().join("pressure")).unwrap();
        for (some, full, expected) in
            [("0.00", "0.00", Memory::Normal), ("12.5", "3.00", Memory::Warning), ("60", "10.1", Memory::Critical)]
        {
            let text = format!(
                "some avg10={some} avg60=0.00 avg300=0.00 total=1\nfull avg10={full} avg60=0.00 avg300=0.00 total=1\n"
            );
            fs::write(proc.path().join("pressure/memory"), text).unwrap();
            assert_eq!(sensor.memory(), Ok(expected));
        }
    }

    #[test]
    fn this_machine_has_a_reading() {
        assert!(Shortage::new("/proc").memory().is_ok());
    }
}
