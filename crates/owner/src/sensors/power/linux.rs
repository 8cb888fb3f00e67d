//! `/sys/class/power_supply`: one folder for each battery and adapter
//! (Linux, Documentation/ABI/testing/sysfs-class-power).

use super::PowerSensor;
use crate::readings::{Missing, Power};
use std::{fs, path::PathBuf};

pub(super) struct PowerSupplies {
    root: PathBuf,
}

impl PowerSupplies {
    pub(super) fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }
}

impl PowerSensor for PowerSupplies {
    fn power(&mut self) -> Result<Power, Missing> {
        let folder = fs::read_dir(&self.root).map_err(|error| Missing(format!("{}: {error}", self.root.display())))?;
        let (mut discharging, mut percents) = (false, Vec::new());
        for supply in folder.flatten() {
            let text = |name: &str| fs::read_to_string(supply.path().join(name)).unwrap_or_default();
            // `Device` is the battery of a mouse or a headset.
            if text("type").trim() != "Battery" || text("scope").trim() == "Device" {
                continue;
            }
            discharging |= text("status").trim() == "Discharging";
            percents.extend(text("capacity").trim().parse::<u8>().ok().map(|percent| percent.min(100)));
        }
        if !discharging {
            return Ok(Power::Mains);
        }
        // The emptiest: a machine with two batteries runs on one after the other, and caution errs this way.
        Ok(Power::Battery { percent: percents.into_iter().min() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn supply(root: &std::path::Path, name: &str, files: &[(&str, &str)]) {
        let folder = root.join(name);
        fs::create_dir_all(&folder).unwrap();
        for (name, text) in files {
            fs::write(folder.join(name), format!("{text}\n")).unwrap();
        }
    }

    #[test]
    fn a_laptop_is_told_from_a_desktop_with_a_mouse() {
        let root = tempfile::tempdir().unwrap();
        let mut sensor = PowerSupplies::new(root.path());
        assert_eq!(sensor.power(), Ok(Power::Mains));
        supply(
            root.path(),
            "mouse",
            &[("type", "Battery"), ("scope", "Device"), ("status", "Discharging"), ("capacity", "5")],
        );
        supply(root.path(), "AC", &[("type", "Mains"), ("online", "1")]);
        assert_eq!(sensor.power(), Ok(Power::Mains));
        supply(root.path(), "BAT0", &[("type", "Battery"), ("status", "Not charging"), ("capacity", "100")]);
        assert_eq!(sensor.power(), Ok(Power::Mains));
        supply(root.path(), "BAT1", &[("type", "Battery"), ("status", "Discharging"), ("capacity", "61")]);
        assert_eq!(sensor.power(), Ok(Power::Battery { percent: Some(61) }));
        supply(root.path(), "BAT1", &[("capacity", "many")]);
        supply(root.path(), "BAT0", &[("capacity", "")]);
        assert_eq!(sensor.power(), Ok(Power::Battery { percent: None }));
        assert!(PowerSupplies::new(root.path().join("none")).power().is_err());
    }
}
