//! Terminals, local and over ssh: the kernel notes when a program last read from one, as `w` shows it. Linux rounds to
//! eight seconds, and still shows the first key after a pause at once.

use protocol::time::unix_ms;
use std::{fs, os::unix::fs::FileTypeExt, path::PathBuf};

pub(super) struct Terminals {
    folders: Vec<PathBuf>,
}

impl Terminals {
    /// Where this system keeps them.
    pub(super) fn new() -> Self {
        let folders: &[&str] = if cfg!(target_os = "macos") { &["/dev"] } else { &["/dev", "/dev/pts"] };
        Self { folders: folders.iter().map(PathBuf::from).collect() }
    }

    /// The latest input to any of them, in milliseconds since 1970. One of the future is of a clock that was wrong.
    pub(super) fn last_input_unix_ms(&self, now_unix_ms: u64) -> Option<u64> {
        let entries = self.folders.iter().filter_map(|folder| Some((folder, fs::read_dir(folder).ok()?)));
        let inputs = entries.flat_map(|(folder, entries)| {
            let pseudo = folder.ends_with("pts");
            entries.flatten().filter_map(move |entry| {
                let name = entry.file_name();
                let name = name.to_str()?;
                is_terminal(name, pseudo).then(|| entry.metadata().ok()).flatten()
            })
        });
        let read = inputs.filter(|metadata| metadata.file_type().is_char_device()).filter_map(|m| m.accessed().ok());
        read.map(unix_ms).filter(|at| *at <= now_unix_ms).max()
    }
}

/// `tty1`, `ttys003` and `pts/0` belong to people; serial lines, `tty` itself and the multiplexers do not.
fn is_terminal(name: &str, pseudo: bool) -> bool {
    let digits = if pseudo {
        name
    } else if cfg!(target_os = "macos") {
        name.strip_prefix("ttys").unwrap_or_default()
    } else {
        name.strip_prefix("tty").unwrap_or_default()
    };
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) && name != "tty0"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_terminals_of_people_count() {
        assert!(is_terminal("7", true) && !is_terminal("ptmx", true));
        for other in ["tty", "ttyS0", "ttyUSB0", "ttyAMA0", "console", "tty0", "null", "random"] {
            assert!(!is_terminal(other, false), "{other}");
        }
        #[cfg(target_os = "linux")]
        assert!(is_terminal("tty1", false));
    }
}
