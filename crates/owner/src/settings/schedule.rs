//! Hours of the week, in the machine's local time.

use jiff::{
    Zoned,
    civil::{Date, DateTime, Time, Weekday},
};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// When the machine may be lent. Without any entry: at any time; with one, a day without entries lends nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Schedule {
    /// Windows that begin on a Monday.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mon: Vec<Window>,
    /// Windows that begin on a Tuesday.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tue: Vec<Window>,
    /// Windows that begin on a Wednesday.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub wed: Vec<Window>,
    /// Windows that begin on a Thursday.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub thu: Vec<Window>,
    /// Windows that begin on a Friday.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fri: Vec<Window>,
    /// Windows that begin on a Saturday.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sat: Vec<Window>,
    /// Windows that begin on a Sunday.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sun: Vec<Window>,
}

/// From one time of day to another, such as `18:00-08:00`: the end is not part of it, and where it is not after the
/// start it is on the next day. `00:00-24:00` is a whole day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Window {
    start_minute: u16,
    /// Counted from the same midnight as the start, so up to two days.
    end_minute: u16,
}

/// Text that is no window.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no window of time; write one like \"18:00-08:00\"")]
pub struct WindowError(String);

const DAY_MINUTES: u16 = 24 * 60;

impl FromStr for Window {
    type Err = WindowError;

    fn from_str(text: &str) -> Result<Self, WindowError> {
        let fail = || WindowError(text.chars().take(40).collect());
        let minute = |time: &str| -> Option<u16> {
            let (hour, minute) = time.trim().split_once(':')?;
            let is_number = |part: &str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
            if !is_number(hour) || !is_number(minute) {
                return None;
            }
            let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
            (minute < 60 && hour * 60 + minute <= DAY_MINUTES).then_some(hour * 60 + minute)
        };
        let (start, end) = text.split_once('-').ok_or_else(fail)?;
        let (start, end) = (minute(start).ok_or_else(fail)?, minute(end).ok_or_else(fail)?);
        if start == DAY_MINUTES || start == end {
            return Err(fail());
        }
        Ok(Self { start_minute: start, end_minute: if end > start { end } else { end + DAY_MINUTES } })
    }
}

impl TryFrom<String> for Window {
    type Error = WindowError;

    fn try_from(text: String) -> Result<Self, WindowError> {
        text.parse()
    }
}

impl From<Window> for String {
    fn from(window: Window) -> Self {
        window.to_string()
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = if self.end_minute > DAY_MINUTES { self.end_minute - DAY_MINUTES } else { self.end_minute };
        let (start, end) = ((self.start_minute / 60, self.start_minute % 60), (end / 60, end % 60));
        write!(f, "{:02}:{:02}-{:02}:{:02}", start.0, start.1, end.0, end.1)
    }
}

impl Schedule {
    fn of(&self, weekday: Weekday) -> &[Window] {
        match weekday {
            Weekday::Monday => &self.mon,
            Weekday::Tuesday => &self.tue,
            Weekday::Wednesday => &self.wed,
            Weekday::Thursday => &self.thu,
            Weekday::Friday => &self.fri,
            Weekday::Saturday => &self.sat,
            Weekday::Sunday => &self.sun,
        }
    }

    /// Whether it has no entry, so that any time will do.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether the machine may be lent at this time.
    pub fn is_open(&self, now: DateTime) -> bool {
        let minute = minute_of(now.time());
        let yesterday = now.date().yesterday().ok();
        self.is_empty()
            || self.of(now.date().weekday()).iter().any(|w| (w.start_minute..w.end_minute).contains(&minute))
            || yesterday.is_some_and(|yesterday| {
                let minute = minute + DAY_MINUTES;
                self.of(yesterday.weekday()).iter().any(|w| (w.start_minute..w.end_minute).contains(&minute))
            })
    }

    /// When the next window begins, in milliseconds since 1970.
    pub fn opens_unix_ms(&self, now: &Zoned) -> Option<u64> {
        let mut day: Date = now.date();
        // This weekday once more: its earlier windows are over for today.
        for _ in 0..=7 {
            let starts = self.of(day.weekday()).iter().map(|window| window.start_minute);
            let later = starts.filter(|start| day > now.date() || *start > minute_of(now.time())).min();
            if let Some(start) = later {
                let time = Time::constant(0, 0, 0, 0) + jiff::Span::new().minutes(start);
                // A time that the clocks jump over begins when they have.
                let at = day.to_datetime(time).to_zoned(now.time_zone().clone()).ok()?;
                return u64::try_from(at.timestamp().as_millisecond()).ok();
            }
            day = day.tomorrow().ok()?;
        }
        None
    }
}

fn minute_of(time: Time) -> u16 {
    u16::from(time.hour().unsigned_abs()) * 60 + u16::from(time.minute().unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::{civil::date, tz::TimeZone};
    use proptest::prelude::*;

    fn schedule(day: &str) -> Schedule {
        Schedule { mon: vec![day.parse().unwrap()], ..Schedule::default() }
    }

    #[test]
    fn a_window_may_pass_midnight() {
        let schedule = schedule("18:00-08:00");
        // The second of March 2026 is a Monday.
        let at = |day, hour, minute| schedule.is_open(date(2026, 3, day).at(hour, minute, 0, 0));
        assert!(!at(2, 17, 59) && at(2, 18, 0) && at(2, 23, 59) && at(3, 0, 0) && at(3, 7, 59));
        assert!(!at(3, 8, 0) && !at(3, 18, 0), "Tuesday has no window of its own");
        assert!(Schedule::default().is_open(date(2026, 3, 3).at(8, 0, 0, 0)), "no entries, no rule");
    }

    #[test]
    fn the_next_window_is_found_in_local_time() {
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        let now = date(2026, 3, 3).at(9, 0, 0, 0).to_zoned(zone).unwrap();
        let opens = schedule("18:00-08:00").opens_unix_ms(&now).unwrap();
        let expected: jiff::Timestamp = "2026-03-09T16:00:00Z".parse().unwrap();
        assert_eq!(i64::try_from(opens).unwrap(), expected.as_millisecond());
    }

    #[test]
    fn what_is_no_window_is_refused() {
        for text in ["", "18:00", "18-08", "24:00-08:00", "18:60-19:00", "8:00-9:00", "10:00-10:00", "+1:00-02:00"] {
            assert!(text.parse::<Window>().is_err(), "{text}");
        }
        for text in ["00:00-24:00", "18:00-08:00", "18:00-00:00"] {
            assert!(text.parse::<Window>().is_ok(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_window_is_read_as_it_is_written(start in 0u16..1440, end in 0u16..=1440) {
            prop_assume!(start != end);
            let text = format!("{:02}:{:02}-{:02}:{:02}", start / 60, start % 60, end / 60, end % 60);
            let window: Window = text.parse().unwrap();
            prop_assert_eq!(window.to_string().parse::<Window>().unwrap(), window);
        }

        #[test]
        fn a_closed_schedule_says_when_it_opens(start in 0u16..1440, end in 0u16..=1440, minute in 0i64..20_160) {
            prop_assume!(start != end);
            let text = format!("{:02}:{:02}-{:02}:{:02}", start / 60, start % 60, end / 60, end % 60);
            let schedule = schedule(&text);
            let now = (date(2026, 3, 2).at(0, 0, 0, 0) + jiff::Span::new().minutes(minute)).to_zoned(TimeZone::UTC).unwrap();
            let opens = schedule.opens_unix_ms(&now).unwrap();
            let opens = jiff::Timestamp::from_millisecond(opens as i64).unwrap().to_zoned(TimeZone::UTC);
            prop_assert!(opens > now);
            prop_assert!(schedule.is_open(opens.datetime()));
        }
    }
}
