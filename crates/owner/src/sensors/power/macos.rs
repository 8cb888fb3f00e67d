//! IOKit's power sources.

use super::PowerSensor;
use crate::readings::{Missing, Power};
use objc2_core_foundation::{CFDictionary, CFNumber, CFString, CFType};
use objc2_io_kit::{
    IOPSCopyPowerSourcesInfo, IOPSCopyPowerSourcesList, IOPSGetPowerSourceDescription, IOPSGetProvidingPowerSourceType,
};

pub(super) struct PowerSources;

impl PowerSensor for PowerSources {
    fn power(&mut self) -> Result<Power, Missing> {
        let info = IOPSCopyPowerSourcesInfo().ok_or_else(|| Missing("IOKit has no power sources".to_owned()))?;
        // SAFETY: `info` is what `IOPSCopyPowerSourcesInfo` returned.
        let providing = unsafe { IOPSGetProvidingPowerSourceType(Some(&info)) };
        let providing = providing.ok_or_else(|| Missing("IOKit does not say what provides power".to_owned()))?;
        if providing.to_string() != "Battery Power" {
            return Ok(Power::Mains);
        }
        Ok(Power::Battery { percent: charge(&info) })
    }
}

/// Charge of the first power source, in percent.
fn charge(info: &CFType) -> Option<u8> {
    // SAFETY: `info` is what `IOPSCopyPowerSourcesInfo` returned.
    let list = unsafe { IOPSCopyPowerSourcesList(Some(info)) }?;
    if list.is_empty() {
        return None;
    }
    // SAFETY: the list is not empty and holds Core Foundation objects that live as long as it does.
    let source: &CFType = unsafe { list.value_at_index(0).cast::<CFType>().as_ref() }?;
    // SAFETY: both are what IOKit returned, and belong together.
    let description = unsafe { IOPSGetPowerSourceDescription(Some(info), Some(source)) }?;
    let number = |key: &'static str| -> Option<i64> {
        let key = CFString::from_static_str(key);
        let description: &CFDictionary = &description;
        // SAFETY: the description's keys are strings, which is what is looked up; a value that is there is an object.
        let value = unsafe { description.value(std::ptr::from_ref::<CFString>(&key).cast()) };
        // SAFETY: null or an object that lives as long as the description.
        let value: &CFType = unsafe { value.cast::<CFType>().as_ref() }?;
        value.downcast_ref::<CFNumber>()?.as_i64()
    };
    let (current, max) = (number("Current Capacity")?, number("Max Capacity")?);
    u8::try_from((100 * current).checked_div(max)?.clamp(0, 100)).ok()
}
