//! How much memory a process takes.

use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};

/// Measures one process.
pub struct MemoryMeter {
    process_id: Pid,
    system: Option<System>,
}

impl MemoryMeter {
    /// Measures this process.
    pub fn new(process_id: u32) -> Self {
        Self { process_id: Pid::from_u32(process_id), system: System::new().ok() }
    }

    /// Memory in pages that are there, those of mapped files included, in bytes; `None` where it has ended.
    pub fn resident_bytes(&mut self) -> Option<u64> {
        let system = self.system.as_mut()?;
        let what = ProcessRefreshKind::nothing().with_memory().without_tasks();
        system.refresh_processes_specifics(ProcessesToUpdate::Some(&[self.process_id]), true, what);
        Some(system.process(self.process_id)?.memory())
    }
}

/// Memory of this machine, in bytes, or of the container that it is; `None` where the system does not say.
pub fn machine_memory_bytes() -> Option<u64> {
    let mut system = System::new().ok()?;
    system.refresh_memory();
    let machine = system.total_memory();
    let container = system.cgroup_limits().map(|limits| limits.total_memory);
    Some(container.unwrap_or(machine).min(machine)).filter(|bytes| *bytes > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_takes_memory_and_another_does_not_exist() {
        let mut meter = MemoryMeter::new(std::process::id());
        let before = meter.resident_bytes().expect("it runs");
        let block = std::hint::black_box(vec![1_u8; 64 << 20]);
        let after = meter.resident_bytes().expect("it runs");
        assert!(after >= before + (32 << 20), "{before} {after} {}", block.len());
        assert_eq!(MemoryMeter::new(0).resident_bytes(), None);
        assert!(machine_memory_bytes().is_some_and(|bytes| bytes > 64 << 20));
    }
}
