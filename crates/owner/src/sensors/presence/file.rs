//! A file that says when somebody was there.

use super::PresenceSensor;
use crate::readings::{LastInput, Missing};
use protocol::time::unix_ms;
use std::{
    fs::File,
    io::{ErrorKind, Read},
    path::PathBuf,
};

/// More than any number has.
const BYTES_MAX: u64 = 64;

pub(super) struct InputFile {
    path: PathBuf,
}

impl InputFile {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }
}

impl PresenceSensor for InputFile {
    fn last_input(&mut self) -> Result<LastInput, Missing> {
        let missing = |why: &dyn std::fmt::Display| Missing(format!("{}: {why}", self.path.display()));
        let file = match File::open(&self.path) {
            Ok(file) => file,
            // Nobody has been there yet.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(LastInput::Never),
            Err(error) => return Err(missing(&error)),
        };
        let changed = file.metadata().and_then(|metadata| metadata.modified()).map_err(|error| missing(&error))?;
        let mut text = String::new();
        file.take(BYTES_MAX).read_to_string(&mut text).map_err(|error| missing(&error))?;
        match text.trim() {
            "" => Ok(LastInput::At(unix_ms(changed))),
            number => {
                number.parse().map(LastInput::At).map_err(|_| missing(&"neither empty nor milliseconds since 1970"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    #[test]
    fn the_content_or_the_time_of_the_last_change_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("input");
        let mut sensor = InputFile::new(path.clone());
        assert_eq!(sensor.last_input(), Ok(LastInput::Never));
        let before = unix_ms(SystemTime::now());
        std::fs::write(&path, "").unwrap();
        // File systems have coarser clocks than the system.
        assert!(matches!(sensor.last_input(), Ok(LastInput::At(at)) if at + 1_000 >= before));
        std::fs::write(&path, "1800000000000\n").unwrap();
        assert_eq!(sensor.last_input(), Ok(LastInput::At(1_800_000_000_000)));
        std::fs::write(&path, "yesterday").unwrap();
        assert!(sensor.last_input().is_err());
    }
}
