//! The descriptors a worker keeps: standard error, the model, the socket. Checked, so that a worker started in another
//! way says so instead of confining itself around the wrong file.

use super::{SandboxError, step};
use protocol::ipc::{MODEL_FD, SOCKET_FD};
use std::{
    fs::File,
    io,
    os::fd::{AsRawFd, RawFd},
    time::Duration,
};

/// Longest that a write to the daemon blocks. A daemon that reads nothing for so long is taken for gone.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// Result of a libc call that returns -1 on failure.
pub(super) fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Checks the model and the socket, and makes standard input and output lead nowhere.
pub(super) fn check_and_quiet() -> Result<(), SandboxError> {
    check_model()?;
    check_socket()?;
    let null = File::options().read(true).write(true).open("/dev/null").map_err(step("open /dev/null"))?;
    for standard in [libc::STDIN_FILENO, libc::STDOUT_FILENO] {
        // SAFETY: both descriptors are open; replacing the standard ones is the purpose.
        check(unsafe { libc::dup2(null.as_raw_fd(), standard) }).map_err(step("replace standard input and output"))?;
    }
    Ok(())
}

fn check_model() -> Result<(), SandboxError> {
    let wrong = |_| SandboxError::Descriptor { descriptor: MODEL_FD, expected: "a regular file open for reading only" };
    // SAFETY: plain queries of a descriptor number; an invalid one is an error.
    let flags = check(unsafe { libc::fcntl(MODEL_FD, libc::F_GETFL) }).map_err(wrong)?;
    // SAFETY: all zeros is a valid `stat`, a struct of integers.
    let mut status: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: `status` outlives the call.
    check(unsafe { libc::fstat(MODEL_FD, &mut status) }).map_err(wrong)?;
    if flags & libc::O_ACCMODE != libc::O_RDONLY || status.st_mode & libc::S_IFMT != libc::S_IFREG {
        return Err(wrong(io::Error::from_raw_os_error(libc::EBADF)));
    }
    Ok(())
}

fn check_socket() -> Result<(), SandboxError> {
    let wrong = |_| SandboxError::Descriptor { descriptor: SOCKET_FD, expected: "one end of a unix stream socket" };
    // SAFETY: all zeros is a valid address, of length zero.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    let mut length = size_of_val(&address) as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to `address`, which outlives the call.
    let result = unsafe { libc::getsockname(SOCKET_FD, (&raw mut address).cast(), &mut length) };
    check(result).map_err(wrong)?;
    let kind: libc::c_int = option(SOCKET_FD, libc::SO_TYPE).map_err(wrong)?;
    if libc::c_int::from(address.sun_family) != libc::AF_UNIX || kind != libc::SOCK_STREAM {
        return Err(wrong(io::Error::from_raw_os_error(libc::ENOTSOCK)));
    }
    let timeout = libc::timeval { tv_sec: SEND_TIMEOUT.as_secs() as libc::time_t, tv_usec: 0 };
    // SAFETY: `timeout` outlives the call and its length is given.
    let result = unsafe {
        let length = size_of_val(&timeout) as libc::socklen_t;
        libc::setsockopt(SOCKET_FD, libc::SOL_SOCKET, libc::SO_SNDTIMEO, (&raw const timeout).cast(), length)
    };
    check(result).map_err(step("limit how long a write to the daemon blocks")).map(drop)
}

fn option(socket: RawFd, name: libc::c_int) -> io::Result<libc::c_int> {
    let mut value: libc::c_int = 0;
    let mut length = size_of_val(&value) as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to `value`, which outlives the call.
    check(unsafe { libc::getsockopt(socket, libc::SOL_SOCKET, name, (&raw mut value).cast(), &mut length) })?;
    Ok(value)
}

/// Makes standard error lead nowhere. Uses no call that opens anything: standard input leads nowhere already.
pub(super) fn silence_standard_error() -> Result<(), SandboxError> {
    // SAFETY: both descriptors are open; replacing standard error is the purpose.
    #[cfg(target_os = "linux")]
    let result = unsafe { libc::dup3(libc::STDIN_FILENO, libc::STDERR_FILENO, 0) };
    // SAFETY: as above.
    #[cfg(target_os = "macos")]
    let result = unsafe { libc::dup2(libc::STDIN_FILENO, libc::STDERR_FILENO) };
    check(result).map_err(step("silence standard error")).map(drop)
}

/// Sets soft and hard limit of one resource.
pub(super) fn limit(resource: Resource, value: libc::rlim_t) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: value, rlim_max: value };
    // SAFETY: `limit` outlives the call.
    check(unsafe { libc::setrlimit(resource as _, &limit) }).map(drop)
}

/// The type of `RLIMIT_*`, which differs between C libraries.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(super) type Resource = libc::__rlimit_resource_t;
/// The type of `RLIMIT_*`, which differs between C libraries.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(super) type Resource = libc::c_int;
