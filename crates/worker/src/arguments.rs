//! The worker's command line. Parsed by hand: the program has six options, and what is not linked needs no audit.

use crate::sandbox::probe;
use std::ffi::{OsStr, OsString};

const DUTY_PERCENT: &str = "--duty-percent";

/// What a worker takes of the machine; `None` is the engine's own default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Most tokens that one task may hold, prompt and answer together.
    pub context_tokens: Option<u32>,
    /// Tasks at once.
    pub slots: Option<u32>,
    /// Threads that compute.
    pub threads: Option<u32>,
    /// Tokens of prompts that one step reads.
    pub batch_tokens: Option<u32>,
    /// At most this share of the time is spent computing, 1 to 100: after each step the worker rests.
    pub duty_percent: Option<u32>,
}

impl Options {
    /// The arguments that make a worker parse these options, for [`crate::launch::prepare`].
    pub fn arguments(&self) -> Vec<String> {
        let mut options = self.clone();
        let named = options.named();
        named.into_iter().filter_map(|(name, value)| value.map(|value| format!("{name}={value}"))).collect()
    }

    fn named(&mut self) -> [(&'static str, &mut Option<u32>); 5] {
        [
            ("--context-tokens", &mut self.context_tokens),
            ("--slots", &mut self.slots),
            ("--threads", &mut self.threads),
            ("--batch-tokens", &mut self.batch_tokens),
            (DUTY_PERCENT, &mut self.duty_percent),
        ]
    }
}

/// Why a command line is not one of a worker.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ArgumentError {
    /// Not an option of the worker, or its value is missing.
    #[error(
        "unknown argument `{argument}`; a worker is started by a node daemon, by hand only as `darkbloom-worker probe`"
    )]
    Unknown {
        /// The argument.
        argument: String,
    },
    /// A share of the time that is none.
    #[error("`{argument}`: expected a percentage from 1 to 100")]
    Percentage {
        /// The argument.
        argument: String,
    },
    /// Not a number.
    #[error("`{argument}`: expected a whole number after `=`")]
    Number {
        /// The argument.
        argument: String,
    },
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Work(Options),
    Probe { unconfined: bool },
    ProbeInside { folder: OsString, unconfined: bool },
    ProbeExecuted,
}

impl Command {
    pub(crate) fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Self, ArgumentError> {
        let arguments: Vec<OsString> = arguments.collect();
        let words: Vec<&OsStr> = arguments.iter().map(OsString::as_os_str).collect();
        let is = |word: &OsStr, text: &str| word == OsStr::new(text);
        match words.as_slice() {
            [probe, rest @ ..] if is(probe, "probe") => Ok(Self::Probe { unconfined: unconfined(rest)? }),
            [inside, folder, rest @ ..] if is(inside, probe::INSIDE) => {
                Ok(Self::ProbeInside { folder: (*folder).to_owned(), unconfined: unconfined(rest)? })
            }
            [executed] if is(executed, probe::EXECUTED) => Ok(Self::ProbeExecuted),
            options => options.iter().try_fold(Options::default(), with_option).map(Self::Work),
        }
    }
}

fn unconfined(rest: &[&OsStr]) -> Result<bool, ArgumentError> {
    match rest {
        [] => Ok(false),
        [only] if *only == OsStr::new(probe::UNCONFINED) => Ok(true),
        [first, ..] => Err(unknown(first)),
    }
}

fn unknown(argument: &OsStr) -> ArgumentError {
    ArgumentError::Unknown { argument: argument.to_string_lossy().into_owned() }
}

fn with_option(mut options: Options, argument: &&OsStr) -> Result<Options, ArgumentError> {
    let (name, value) = argument.to_str().and_then(|text| text.split_once('=')).ok_or_else(|| unknown(argument))?;
    let known = options.named().into_iter().find(|(known, _)| *known == name);
    let (_, place) = known.ok_or_else(|| unknown(argument))?;
    let whole = || argument.to_string_lossy().into_owned();
    let number = value.parse().map_err(|_| ArgumentError::Number { argument: whole() })?;
    if name == DUTY_PERCENT && !(1..=100).contains(&number) {
        return Err(ArgumentError::Percentage { argument: whole() });
    }
    *place = Some(number);
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Command, ArgumentError> {
        Command::parse(arguments.iter().map(OsString::from))
    }

    #[test]
    fn options_round_trip() {
        let options = Options {
            context_tokens: Some(4096),
            slots: Some(8),
            threads: None,
            batch_tokens: Some(1),
            duty_percent: Some(40),
        };
        let arguments = options.arguments();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        assert_eq!(parse(&arguments), Ok(Command::Work(options)));
        assert_eq!(parse(&[]), Ok(Command::Work(Options::default())));
    }

    #[test]
    fn anything_else_is_refused() {
        for arguments in
            [&["--slots"][..], &["--slots", "8"], &["--gpu=1"], &["probe", "--confined"], &["probe-inside"]]
        {
            assert!(matches!(parse(arguments), Err(ArgumentError::Unknown { .. })), "{arguments:?}");
        }
        for argument in ["--duty-percent=0", "--duty-percent=101"] {
            assert!(matches!(parse(&[argument]), Err(ArgumentError::Percentage { .. })));
        }
        assert!(matches!(parse(&["--slots=-1"]), Err(ArgumentError::Number { .. })));
        assert_eq!(parse(&["probe", "--unconfined"]), Ok(Command::Probe { unconfined: true }));
    }
}
