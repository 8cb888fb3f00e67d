//! Other programs: what they use, and which of them run. The same library reads `/proc` and asks the Mac's kernel.

use crate::readings::Missing;
use std::{collections::HashMap, ffi::OsStr, time::Instant};
use sysinfo::{CpuRefreshKind, Pid, ProcessRefreshKind, ProcessesToUpdate, RefreshKind, System, UpdateKind};

/// The load is an average over about this long, so that starting a program is not yet load.
const SMOOTHING_S: f32 = 10.0;
/// Linux gives no more of a program's name in the place where every user may read it.
const SHORT_NAME_BYTES: usize = 15;

/// Says what other programs do.
pub trait LoadSensor: Send {
    /// Looks anew.
    fn refresh(&mut self);
    /// What programs other than ours use, in percent of all processors; `None` before the second look.
    fn other_load_percent(&self) -> Result<Option<u8>, Missing>;
    /// Which of the exclusive programs run.
    fn running(&self) -> Result<Vec<String>, Missing>;
}

pub(super) fn platform(exclusive: Vec<String>) -> Box<dyn LoadSensor> {
    Box::new(Processes::new(exclusive))
}

struct Processes {
    system: Result<System, Missing>,
    exclusive: Vec<String>,
    smoothed: Option<f32>,
    last_look: Option<Instant>,
}

impl Processes {
    fn new(exclusive: Vec<String>) -> Self {
        let refresh = RefreshKind::nothing().with_cpu(CpuRefreshKind::nothing().with_usage());
        let system = System::new_with_specifics(refresh).map_err(|error| Missing(format!("no processes: {error:?}")));
        Self { system, exclusive, smoothed: None, last_look: None }
    }
}

impl LoadSensor for Processes {
    fn refresh(&mut self) {
        let Ok(system) = &mut self.system else { return };
        system.refresh_cpu_usage();
        let mut what = ProcessRefreshKind::nothing().with_cpu().without_tasks();
        if !self.exclusive.is_empty() {
            what = what.with_exe(UpdateKind::OnlyIfNotSet);
        }
        system.refresh_processes_specifics(ProcessesToUpdate::All, true, what);
        let elapsed_s = self.last_look.replace(Instant::now()).map(|last| last.elapsed().as_secs_f32());
        // Use is the difference of two looks.
        if let Some(elapsed_s) = elapsed_s {
            let load = other_load(system);
            let weight = 1.0 - (-elapsed_s / SMOOTHING_S).exp();
            let before = self.smoothed.unwrap_or(0.0);
            self.smoothed = Some(before + weight * (load - before));
        }
    }

    fn other_load_percent(&self) -> Result<Option<u8>, Missing> {
        self.system.as_ref().map_err(Clone::clone)?;
        Ok(self.smoothed.map(|percent| percent.clamp(0.0, 100.0) as u8))
    }

    fn running(&self) -> Result<Vec<String>, Missing> {
        let system = self.system.as_ref().map_err(Clone::clone)?;
        let runs = |wanted: &&String| {
            let is_it = |name: &OsStr| matches(wanted, &name.to_string_lossy());
            let mut processes = system.processes().values();
            processes.any(|process| {
                is_it(process.name()) || process.exe().and_then(|exe| exe.file_name()).is_some_and(is_it)
            })
        };
        Ok(self.exclusive.iter().filter(runs).cloned().collect())
    }
}

/// Whether a process of this name is the program that the owner means.
fn matches(wanted: &str, name: &str) -> bool {
    let is_cut = name.len() == SHORT_NAME_BYTES && wanted.len() > SHORT_NAME_BYTES;
    let wanted = if is_cut { wanted.get(..SHORT_NAME_BYTES).unwrap_or(wanted) } else { wanted };
    wanted.eq_ignore_ascii_case(name)
}

/// Use of all processors by processes that are neither this one nor its descendants, in percent.
fn other_load(system: &System) -> f32 {
    let processors = system.cpus().len().max(1) as f32;
    let parents: HashMap<Pid, Option<Pid>> =
        system.processes().iter().map(|(id, process)| (*id, process.parent())).collect();
    let own = Pid::from_u32(std::process::id());
    let is_ours = |id: &Pid| {
        // A chain that is longer is none: process ids are reused while they are read.
        let chain = std::iter::successors(Some(*id), |id| parents.get(id).copied().flatten()).take(32);
        chain.into_iter().any(|ancestor| ancestor == own)
    };
    let ours: f32 =
        system.processes().iter().filter(|(id, _)| is_ours(id)).map(|(_, process)| process.cpu_usage()).sum();
    (system.global_cpu_usage() - ours / processors).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_by_its_name() {
        let own = std::env::current_exe().unwrap();
        let own = own.file_name().unwrap().to_string_lossy().to_uppercase();
        let mut sensor = Processes::new(vec![own.clone(), "no-such-program".to_owned()]);
        sensor.refresh();
        assert_eq!(sensor.running(), Ok(vec![own]));
        assert!(matches("a-name-that-is-long", "a-name-that-is-") && !matches("a-name", "a-nam"));
    }

    #[test]
    fn the_load_is_known_from_the_second_look_on() {
        let mut sensor = Processes::new(Vec::new());
        sensor.refresh();
        assert_eq!(sensor.other_load_percent(), Ok(None));
        sensor.refresh();
        assert!(matches!(sensor.other_load_percent(), Ok(Some(percent)) if percent <= 100));
    }
}
