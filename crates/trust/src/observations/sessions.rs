//! When a node stayed and when it went, by hour of the week.

use super::{ObservationsError, faded};
use serde::{Deserialize, Serialize};

/// Hours of one week, which begins at midnight UTC before a Thursday, as Unix time does.
pub const HOURS_PER_WEEK: usize = 168;
const HOUR_MS: u64 = 60 * 60 * 1000;
/// A session is remembered for about four weeks.
const FADES_IN_EPOCHS: u32 = 4 * HOURS_PER_WEEK as u32;
/// One departure, in thousandths.
const DEPARTURE_MILLI: u16 = 1000;
/// Hours of one session that one note can spread over; what is longer is noted in parts.
const NOTED_HOURS_MAX: u64 = HOURS_PER_WEEK as u64;

/// Sessions, as the survival model needs them ([`crate::survival`]).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sessions {
    /// By ascending hour; hours of which nothing is known are missing.
    pub bins: Vec<Bin>,
}

/// One hour of the week. Small, because every node has up to [`HOURS_PER_WEEK`] of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bin {
    /// Which, below [`HOURS_PER_WEEK`].
    pub hour: u8,
    /// Departures, in thousandths.
    pub departures_milli: u16,
    /// Operational time at risk of a departure, in thousandths of √hours: see [`operational_milli`].
    pub exposure_milli: u16,
}

/// Operational time of a session of this age: the square root of its hours, in thousandths. Rounded down.
///
/// Sessions of volunteers have a hazard that falls with age. Under a Weibull law of shape ½ the cumulative hazard is
/// proportional to this, and departures per operational time are a Poisson process.
pub fn operational_milli(age_ms: u64) -> u64 {
    // √(age / 3,600,000) · 1000 = √(age · 10⁶ / 3.6·10⁶) = √(age / 3.6)
    u64::try_from((u128::from(age_ms) * 10 / 36).isqrt()).expect("the root of 64 bits has 32")
}

impl Sessions {
    /// Notes that a session went on from one age to another, which it reached at `unix_ms`, and whether it ended then.
    pub fn note(&mut self, from_age_ms: u64, to_age_ms: u64, unix_ms: u64, departed: bool) {
        let to = to_age_ms.max(from_age_ms);
        let mut at = from_age_ms.max(to.saturating_sub(NOTED_HOURS_MAX * HOUR_MS));
        while at < to {
            let clock = unix_ms.saturating_sub(to - at);
            let next = to.min(at + (HOUR_MS - clock % HOUR_MS));
            let exposure = operational_milli(next) - operational_milli(at);
            let bin = self.bin_mut(hour_of_week(clock));
            bin.exposure_milli = bin.exposure_milli.saturating_add(u16::try_from(exposure).unwrap_or(u16::MAX));
            at = next;
        }
        if departed {
            let bin = self.bin_mut(hour_of_week(unix_ms));
            bin.departures_milli = bin.departures_milli.saturating_add(DEPARTURE_MILLI);
        }
    }

    /// Departures and exposure in one hour of the week, in thousandths.
    pub fn hour(&self, hour: u8) -> (u32, u32) {
        let at = self.bins.binary_search_by_key(&hour, |bin| bin.hour).ok();
        at.map_or((0, 0), |at| (self.bins[at].departures_milli.into(), self.bins[at].exposure_milli.into()))
    }

    /// Departures and exposure in all hours, in thousandths.
    pub fn total(&self) -> (u64, u64) {
        self.bins.iter().fold((0, 0), |(departures, exposure), bin| {
            (departures + u64::from(bin.departures_milli), exposure + u64::from(bin.exposure_milli))
        })
    }

    fn bin_mut(&mut self, hour: u8) -> &mut Bin {
        let at = match self.bins.binary_search_by_key(&hour, |bin| bin.hour) {
            Ok(at) => at,
            Err(at) => {
                self.bins.insert(at, Bin { hour, ..Bin::default() });
                at
            }
        };
        &mut self.bins[at]
    }

    pub(super) fn check(&self) -> Result<(), ObservationsError> {
        let ascending = self.bins.windows(2).all(|pair| pair[0].hour < pair[1].hour);
        let in_week = self.bins.last().is_none_or(|bin| usize::from(bin.hour) < HOURS_PER_WEEK);
        if ascending && in_week { Ok(()) } else { Err(ObservationsError::Hours) }
    }

    pub(super) fn decay(&mut self) {
        for bin in &mut self.bins {
            for count in [&mut bin.departures_milli, &mut bin.exposure_milli] {
                *count = u16::try_from(faded((*count).into(), FADES_IN_EPOCHS)).expect("less than it was");
            }
        }
        self.bins.retain(|bin| bin.departures_milli > 0 || bin.exposure_milli > 0);
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for theirs in &other.bins {
            let own = self.bin_mut(theirs.hour);
            own.departures_milli = own.departures_milli.saturating_add(theirs.departures_milli);
            own.exposure_milli = own.exposure_milli.saturating_add(theirs.exposure_milli);
        }
    }
}

/// The hour of the week at this time.
pub(crate) fn hour_of_week(unix_ms: u64) -> u8 {
    u8::try_from(unix_ms / HOUR_MS % HOURS_PER_WEEK as u64).expect("a week has 168 hours")
}
