//! `/sys/class/thermal`: each zone has a temperature and trip points, at which the kernel acts
//! (Linux, Documentation/driver-api/thermal/sysfs-api.rst). Temperatures are in thousandths of a degree Celsius.

use super::ThermalSensor;
use crate::readings::{Missing, Thermal};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// So far below a trip point the pressure is one step lower.
const NEAR_MILLIDEGREES: i64 = 5_000;
/// A zone has no more trip points than this (`THERMAL_MAX_TRIPS` of the kernels that had a limit is 12).
const TRIPS_MAX: usize = 16;

pub(super) struct ThermalZones {
    root: PathBuf,
}

impl ThermalZones {
    pub(super) fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }
}

impl ThermalSensor for ThermalZones {
    fn thermal(&mut self) -> Result<Thermal, Missing> {
        let missing = |why: &str| Missing(format!("{}: {why}", self.root.display()));
        let zones = fs::read_dir(&self.root).map_err(|error| missing(&error.to_string()))?;
        let pressures = zones.flatten().filter_map(|zone| pressure(&zone.path()));
        pressures.max().ok_or_else(|| missing("no zone with a trip point"))
    }
}

/// The pressure in a zone; `None` where it has no temperature or no trip point that means anything.
fn pressure(zone: &Path) -> Option<Thermal> {
    let number = |name: &str| fs::read_to_string(zone.join(name)).ok()?.trim().parse::<i64>().ok();
    let temperature = number("temp")?;
    let trips = (0..TRIPS_MAX).map_while(|at| {
        let kind = fs::read_to_string(zone.join(format!("trip_point_{at}_type"))).ok()?;
        Some((kind.trim().to_owned(), number(&format!("trip_point_{at}_temp"))?))
    });
    let at_trip = |(kind, trip): (String, i64)| {
        // Firmware that has no such point says 0, or the absolute zero.
        if trip <= 0 {
            return None;
        }
        let reached = temperature >= trip;
        let near = temperature >= trip - NEAR_MILLIDEGREES;
        match kind.as_str() {
            // The processor is slowed down.
            "passive" => Some(if reached {
                Thermal::Serious
            } else if near {
                Thermal::Fair
            } else {
                Thermal::Nominal
            }),
            // The system is shut down soon.
            "hot" | "critical" => Some(if near { Thermal::Critical } else { Thermal::Nominal }),
            // Fans, which run on desktops all the time.
            _ => None,
        }
    };
    trips.filter_map(at_trip).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_zone_counts_and_broken_trip_points_do_not() {
        let root = tempfile::tempdir().unwrap();
        let mut sensor = ThermalZones::new(root.path());
        assert!(sensor.thermal().is_err(), "no zones");
        let zone = |name: &str, temp: i64, trips: &[(&str, i64)]| {
            let folder = root.path().join(name);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("temp"), format!("{temp}\n")).unwrap();
            for (at, (kind, trip)) in trips.iter().enumerate() {
                fs::write(folder.join(format!("trip_point_{at}_type")), format!("{kind}\n")).unwrap();
                fs::write(folder.join(format!("trip_point_{at}_temp")), format!("{trip}\n")).unwrap();
            }
        };
        zone("zone0", 50_000, &[("passive", 0), ("passive", -274_000), ("active", 10_000)]);
        assert!(sensor.thermal().is_err(), "no trip point that means anything");
        let trips = [("passive", 90_000), ("critical", 105_000)];
        for (temp, expected) in [
            (60_000, Thermal::Nominal),
            (86_000, Thermal::Fair),
            (90_000, Thermal::Serious),
            (101_000, Thermal::Critical),
        ] {
            zone("zone1", temp, &trips);
            assert_eq!(sensor.thermal(), Ok(expected), "{temp}");
        }
    }
}
