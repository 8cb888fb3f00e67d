//! `NSProcessInfo.thermalState`.

use super::ThermalSensor;
use crate::readings::{Missing, Thermal};
use objc2_foundation::{NSProcessInfo, NSProcessInfoThermalState};

pub(super) struct ProcessInfo;

impl ThermalSensor for ProcessInfo {
    fn thermal(&mut self) -> Result<Thermal, Missing> {
        match NSProcessInfo::processInfo().thermalState() {
            NSProcessInfoThermalState::Nominal => Ok(Thermal::Nominal),
            NSProcessInfoThermalState::Fair => Ok(Thermal::Fair),
            NSProcessInfoThermalState::Serious => Ok(Thermal::Serious),
            NSProcessInfoThermalState::Critical => Ok(Thermal::Critical),
            NSProcessInfoThermalState(other) => Err(Missing(format!("an unknown thermal state: {other}"))),
        }
    }
}
