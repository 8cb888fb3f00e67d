//! `darkbloom pause`, `resume` and `drain`: what the owner says by hand.

use crate::{
    cli::PauseArguments,
    control::{self, Question},
    failure::Failure,
    home::Home,
    report::Status,
};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use std::process::ExitCode;

/// A longer pause is none that anybody plans.
const PAUSE_MAX: SignedDuration = SignedDuration::from_hours(24 * 366);

pub async fn pause(home: &Home, arguments: &PauseArguments) -> Result<ExitCode, Failure> {
    let until = arguments.r#for.map(|time| Timestamp::now() + time);
    let until_unix_ms = until.and_then(|until| u64::try_from(until.as_millisecond()).ok());
    tell(home, Question::Pause { until_unix_ms }).await?;
    match until {
        Some(until) => println!("paused until {}", until.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S")),
        None => println!("paused"),
    }
    eprintln!("hint: `darkbloom resume` ends it");
    Ok(ExitCode::SUCCESS)
}

pub async fn resume(home: &Home) -> Result<ExitCode, Failure> {
    let status = tell(home, Question::Resume).await?;
    match status.held_back_by.iter().flatten().find(|reason| reason.rule.is_some()) {
        Some(reason) => println!("resumed, and held back by a rule: {}", reason.message),
        None => println!("resumed"),
    }
    Ok(ExitCode::SUCCESS)
}

pub async fn drain(home: &Home) -> Result<ExitCode, Failure> {
    let status = tell(home, Question::Drain).await?;
    println!("taking no more tasks; {} still running", status.active_tasks.unwrap_or_default());
    eprintln!("hint: `darkbloom resume` takes tasks again");
    Ok(ExitCode::SUCCESS)
}

async fn tell(home: &Home, question: Question) -> Result<Status, Failure> {
    let status = control::ask(home, question).await?.ok_or_else(|| {
        Failure::new(format!("nothing runs in {}", home.path().display()))
            .hint("there is nothing to hold back; `--home DIR` names another home")
    })?;
    if status.node_id.is_none() {
        return Err(Failure::new("this home lends no machine").hint("lend it with `darkbloom join TICKET`"));
    }
    Ok(status)
}

/// A length of time on the command line, such as `90m` or `1h30m`.
pub fn parse_time(text: &str) -> Result<SignedDuration, String> {
    let time: SignedDuration = text.parse().map_err(|_| "a length of time, such as `90m` or `2h`".to_owned())?;
    if time <= SignedDuration::ZERO || time > PAUSE_MAX {
        return Err("longer than nothing, and at most 366 days".to_owned());
    }
    Ok(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_that_people_write() {
        assert_eq!(parse_time("2h"), Ok(SignedDuration::from_hours(2)));
        assert_eq!(parse_time("1h30m"), Ok(SignedDuration::from_mins(90)));
        for text in ["", "2", "soon", "-1h", "0s", "9000h"] {
            assert!(parse_time(text).is_err(), "{text}");
        }
    }
}
