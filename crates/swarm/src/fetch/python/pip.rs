//! One run of pip, watched from outside.

use crate::{
    fetch::{Context, OriginError, Patience},
    origin::PythonPackage,
};
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use std::{
    fs, io,
    path::Path,
    process::{ExitStatus, Stdio},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::{Child, Command},
    time::Instant,
};

/// The last of what pip says; enough for its error.
const MESSAGE_BYTES: usize = 8 << 10;

/// Runs one pip command to its end.
pub(super) async fn download(
    context: &Context<'_>,
    package: &PythonPackage,
    command: &[String],
    temporary: &Path,
    result: &Path,
) -> Result<(), OriginError> {
    let Some((program, arguments)) = command.split_first() else { return Err(OriginError::PipMissing) };
    let spawned = Command::new(program)
        .args(arguments)
        .args(["download", "--no-deps", "--only-binary", ":all:", "--no-input", "--disable-pip-version-check"])
        .args(["--progress-bar", "off", "--quiet", "--dest"])
        .arg(result)
        .arg(format!("{}=={}", package.package, package.version))
        .env("TMPDIR", temporary)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn();
    let mut run = match spawned {
        Ok(child) => Run { child },
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => {
            return Err(OriginError::PipMissing);
        }
        Err(error) => return Err(OriginError::PipFailed { message: error.to_string() }),
    };
    let said = run.child.stderr.take().map(|stderr| tokio::spawn(last_of(stderr)));
    let status = watch(context, package, &mut run.child, temporary).await?;
    let message = match said {
        Some(said) => said.await.unwrap_or_default(),
        None => String::new(),
    };
    match status.success() {
        true => Ok(()),
        false if message.contains("No module named pip") => Err(OriginError::PipMissing),
        false => Err(OriginError::PipFailed { message: essence(&message) }),
    }
}

/// A pip that does not outlive the wish for its wheel, nor does anything that it started: a launcher script, say, whose
/// child would go on writing. It leads a process group for that purpose.
struct Run {
    child: Child,
}

impl Drop for Run {
    fn drop(&mut self) {
        // `id` is there until the leader was waited for; until then its number cannot be another process's.
        if let Some(group) = self.child.id().and_then(|id| i32::try_from(id).ok())
            && let Err(error) = killpg(Pid::from_raw(group), Signal::SIGKILL)
        {
            tracing::warn!(%error, "pip could not be ended");
        }
    }
}

/// Waits for pip. Its progress is the size of the file that grows in its temporary directory; it is given up when nothing
/// grows for long, or when something grows too far.
async fn watch(
    context: &Context<'_>,
    package: &PythonPackage,
    child: &mut Child,
    temporary: &Path,
) -> Result<ExitStatus, OriginError> {
    let Patience { stall, lock_poll, .. } = context.settings.patience;
    let (mut largest, mut grown_at) = (0, Instant::now());
    loop {
        tokio::select! {
            status = child.wait() => {
                return status.map_err(|error| OriginError::PipFailed { message: error.to_string() });
            }
            () = tokio::time::sleep(lock_poll) => {}
        }
        let size = largest_file(temporary, 3);
        if size > largest {
            (largest, grown_at) = (size, Instant::now());
            context.progress.done(largest);
        }
        if largest > package.wheel_bytes.saturating_mul(2) {
            return Err(OriginError::WrongSize { offered: largest, expected: package.wheel_bytes });
        }
        // pip is silent while it asks the index and while it copies the whole wheel: be four times as patient.
        if grown_at.elapsed() > stall * 4 {
            return Err(OriginError::Stalled { bytes_done: largest, bytes_total: package.wheel_bytes });
        }
    }
}

/// Size of the largest file in a directory that another process is writing to; whatever vanishes meanwhile is 0.
fn largest_file(directory: &Path, depth: u32) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let sizes = entries.filter_map(|entry| {
        let kind = entry.file_type().ok()?;
        if kind.is_dir() {
            return (depth > 0).then(|| largest_file(&entry.path(), depth - 1));
        }
        entry.metadata().ok().filter(|_| kind.is_file()).map(|metadata| metadata.len())
    });
    sizes.max().unwrap_or(0)
}

/// Reads a stream to its end and keeps its end.
async fn last_of(mut stream: impl AsyncRead + Unpin) -> String {
    let mut kept = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        kept.extend_from_slice(&buffer[..count]);
        if kept.len() > 2 * MESSAGE_BYTES {
            kept.drain(..kept.len() - MESSAGE_BYTES);
        }
    }
    String::from_utf8_lossy(&kept).into_owned()
}

/// The last error that pip named, in one line.
fn essence(message: &str) -> String {
    let lines = || message.lines().map(str::trim).filter(|line| !line.is_empty());
    let line = lines().rfind(|line| line.starts_with("ERROR:")).or_else(|| lines().next_back());
    line.unwrap_or("it gave no reason").trim_start_matches("ERROR:").trim().chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_essence_of_what_pip_says_is_its_last_error() {
        let said =
            "WARNING: retrying\nERROR: Could not find a version\nERROR: No matching distribution found for x==1\n\n";
        assert_eq!(essence(said), "No matching distribution found for x==1");
        assert_eq!(essence("Traceback\n  OSError: boom\n"), "OSError: boom");
        assert_eq!(essence(""), "it gave no reason");
    }
}
