//! Simulated time: whole microseconds, so that events at the same instant are the same instant on every machine.

/// Microseconds since the simulation's calendar began, on a Monday at 00:00.
pub type Micros = u64;

/// One millisecond.
pub const MS: Micros = 1_000;
/// One second.
pub const SECOND: Micros = 1_000_000;
/// One minute.
pub const MINUTE: Micros = 60 * SECOND;
/// One hour.
pub const HOUR: Micros = 60 * MINUTE;

/// What the calendar's beginning is in milliseconds since 1970: Monday 5 January 2026, 00:00 UTC.
pub const CALENDAR_UNIX_MS: u64 = 1_767_571_200_000;

/// Whole microseconds, rounded up, so that an event never comes before what it waits for.
pub fn micros(seconds: f64) -> Micros {
    // Saturates for what lies beyond every simulation.
    (seconds * SECOND as f64).ceil().max(0.0) as Micros
}

/// Seconds.
pub fn seconds(time: Micros) -> f64 {
    time as f64 / SECOND as f64
}

/// Milliseconds since 1970.
pub fn unix_ms(time: Micros) -> u64 {
    CALENDAR_UNIX_MS + time / MS
}

/// Hour of the week, 0 being Monday 00:00 to 01:00 UTC.
pub fn hour_of_week(time: Micros) -> usize {
    (time / HOUR % 168) as usize
}

#[cfg(test)]
mod tests {
    use super::{CALENDAR_UNIX_MS, HOUR, hour_of_week, micros, seconds};

    #[test]
    fn the_calendar_begins_on_a_monday() {
        // 1 January 1970 was a Thursday.
        let days = CALENDAR_UNIX_MS / 86_400_000;
        assert_eq!(CALENDAR_UNIX_MS % 86_400_000, 0);
        assert_eq!((days + 3) % 7, 0);
        assert_eq!(hour_of_week(HOUR * (168 + 15)), 15);
    }

    #[test]
    fn rounding_never_goes_back_in_time() {
        assert_eq!(micros(0.000_000_1), 1);
        assert_eq!(micros(-1.0), 0);
        assert!((seconds(micros(12.5)) - 12.5).abs() < 1e-9);
    }
}
