//! How a worker is started: which descriptors, arguments and environment it gets. For the
//! probe and for tests; the node daemon does the same in its own words, on its asynchronous runtime.

use protocol::ipc::{MODEL_FD, SOCKET_FD};
use std::{
    ffi::OsStr,
    fs::File,
    io,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
        unix::{net::UnixStream, process::CommandExt},
    },
    path::Path,
    process::{Command, Stdio},
};

/// A prepared worker process and the daemon's end of its socket.
///
/// Drop the command once it is spawned: it holds the worker's end of the socket, and only when every copy of that is
/// closed does the daemon read the end of the stream after its worker died.
///
/// On Linux, spawn it from a thread that lives as long as the daemon (a thread of the asynchronous runtime does, one of
/// its blocking pool does not): the worker dies with the *thread* that started it (`PR_SET_PDEATHSIG`).
#[derive(Debug)]
pub struct Launch {
    /// Arguments may be added; descriptors and environment are set. Standard error is the caller's choice; a worker is
    /// silent once its model is loaded.
    pub command: Command,
    /// Messages of [`protocol::ipc`].
    pub socket: UnixStream,
}

/// Prepares to start `binary` on `model`, a file that is open for reading only.
pub fn prepare(binary: &Path, model: File, arguments: impl IntoIterator<Item: AsRef<OsStr>>) -> io::Result<Launch> {
    let (socket, workers_end) = UnixStream::pair()?;
    let model = above_fixed_numbers(model.into())?;
    let workers_end = above_fixed_numbers(workers_end.into())?;
    // The standard library's own pipe to the child must not get a number that the child replaces.
    let placeholders = occupy_fixed_numbers()?;

    let mut command = Command::new(binary);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
    // Nothing of the daemon's environment is the worker's business. Spinning threads of OpenMP starve each other on a
    // busy machine: 80 tokens/s fell to 2.
    command.env_clear().env("GOMP_SPINCOUNT", "1000");
    // SAFETY: only `dup2`, which is async-signal-safe, runs between fork and exec, on descriptors that the closure owns.
    unsafe {
        command.pre_exec(move || {
            let _ = &placeholders;
            replace(&model, MODEL_FD)?;
            replace(&workers_end, SOCKET_FD)
        });
    }
    Ok(Launch { command, socket })
}

fn replace(from: &OwnedFd, to: RawFd) -> io::Result<()> {
    // SAFETY: `from` is open; the number `to` belongs to nothing in the child before exec.
    if unsafe { libc::dup2(from.as_raw_fd(), to) } < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn above_fixed_numbers(descriptor: OwnedFd) -> io::Result<OwnedFd> {
    duplicate(&descriptor, SOCKET_FD + 1)
}

fn occupy_fixed_numbers() -> io::Result<Vec<OwnedFd>> {
    let null: OwnedFd = File::open("/dev/null")?.into();
    let mut held = Vec::new();
    loop {
        let next = duplicate(&null, MODEL_FD)?;
        if next.as_raw_fd() > SOCKET_FD {
            if null.as_raw_fd() <= SOCKET_FD {
                held.push(null);
            }
            return Ok(held);
        }
        held.push(next);
    }
}

fn duplicate(descriptor: &OwnedFd, at_least: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: `descriptor` is open.
    let copy = unsafe { libc::fcntl(descriptor.as_raw_fd(), libc::F_DUPFD_CLOEXEC, at_least) };
    if copy < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call returned a new descriptor, which nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}
