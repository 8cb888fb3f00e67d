//! The one error of these commands: what went wrong, and what to do about it.

use std::fmt;

/// Why a command or a step did not succeed.
#[derive(Debug)]
pub(crate) struct Failure {
    what: String,
    remedies: Vec<String>,
}

impl Failure {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), remedies: Vec::new() }
    }

    /// Adds a remedy, printed as a line of its own.
    pub(crate) fn hint(mut self, remedy: impl Into<String>) -> Self {
        self.remedies.push(remedy.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "error: {}", self.what)?;
        self.remedies.iter().try_for_each(|remedy| write!(formatter, "\nhint: {remedy}"))
    }
}

/// For `map_err` on file operations: names the path, which `std::io::Error` does not.
pub(crate) fn on_path(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Failure {
    let path = path.display().to_string();
    move |error| Failure::new(format!("{path}: {error}"))
}
