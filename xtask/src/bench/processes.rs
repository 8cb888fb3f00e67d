//! Processor time and memory of processes, from `/proc`. Where there is none (macOS), `ps` knows the resident size and
//! the rest is left out.

use std::collections::HashMap;
use std::fs;
use std::process::Command;

/// Linux counts processor time in hundredths of a second for every program, whatever the kernel's own tick is.
const TICKS_IN_SECOND: f64 = 100.0;

/// Processor time in seconds that a process and its living descendants have used.
pub(super) fn cpu_s(root: u32) -> Option<f64> {
    let mut processes = HashMap::new();
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // A process may end in between.
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        processes.extend(parse_stat(&stat).map(|facts| (id, facts)));
    }
    let mut family = vec![root];
    let mut ticks = 0;
    while let Some(id) = family.pop() {
        ticks += processes.get(&id)?.1;
        family.extend(processes.iter().filter(|(_, (parent, _))| *parent == id).map(|(child, _)| child));
    }
    Some(ticks as f64 / TICKS_IN_SECOND)
}

/// Parent and ticks; see proc_pid_stat(5).
fn parse_stat(stat: &str) -> Option<(u32, u64)> {
    // The name before it may hold anything, a bracket too.
    let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index)?.parse::<u64>().ok();
    Some((fields.get(1)?.parse().ok()?, ticks(11)? + ticks(12)?))
}

/// Processor time in seconds that the whole machine has used.
pub(super) fn machine_cpu_s() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let fields: Vec<u64> = line.split_whitespace().filter_map(|field| field.parse().ok()).collect();
    // user, nice, system, (idle, iowait), irq, softirq, steal; see proc_stat(5)
    let busy: u64 = [0, 1, 2, 5, 6, 7].iter().filter_map(|&index| fields.get(index)).sum();
    Some(busy as f64 / TICKS_IN_SECOND)
}

/// Processes that wanted a core in the last minute.
pub(super) fn load_average() -> Option<f64> {
    fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}

/// Memory of one process, in KiB.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Memory {
    /// Resident, with everything that is shared.
    pub(super) rss_kib: u64,
    /// Resident, with a fair part of what is shared.
    pub(super) pss_kib: Option<u64>,
    /// Resident and not backed by a file: what the program has allocated.
    pub(super) anonymous_kib: Option<u64>,
}

pub(super) fn memory(id: u32) -> Option<Memory> {
    if let Ok(rollup) = fs::read_to_string(format!("/proc/{id}/smaps_rollup")) {
        return parse_rollup(&rollup);
    }
    let output = Command::new("ps").args(["-o", "rss=", "-p", &id.to_string()]).output().ok()?;
    let rss_kib = String::from_utf8_lossy(&output.stdout).trim().parse().ok()?;
    Some(Memory { rss_kib, ..Memory::default() })
}

fn parse_rollup(rollup: &str) -> Option<Memory> {
    let field = |name: &str| {
        let line = rollup.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix("kB")?.trim().parse().ok()
    };
    Some(Memory { rss_kib: field("Rss:")?, pss_kib: field("Pss:"), anonymous_kib: field("Anonymous:") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_proc_are_read() {
        assert_eq!(parse_stat("7 (a) b) S 1 7 7 0 -1 4194560 1 2 3 4 250 50 0 0 20"), Some((1, 300)));
        let rollup = "00-ff ---p 00000000 00:00 0 [rollup]\nRss:   1024 kB\nPss:    512 kB\nAnonymous:   12 kB\n";
        let expected = Memory { rss_kib: 1024, pss_kib: Some(512), anonymous_kib: Some(12) };
        assert_eq!(parse_rollup(rollup), Some(expected));
    }
}
