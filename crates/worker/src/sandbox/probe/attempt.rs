//! The trials that every platform has.

use super::{Action, EXECUTED, Ground, model_path, platform};
use nix::errno::Errno;
use std::{
    ffi::CString,
    fmt,
    fs::{self, File},
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    ptr,
};

/// A call that did not succeed.
pub(super) struct Refusal {
    call: &'static str,
    errno: Errno,
}

impl Refusal {
    /// Whether the kernel refused permission, and not merely found nothing there.
    pub(super) fn is_denial(&self) -> bool {
        matches!(self.errno, Errno::EPERM | Errno::EACCES)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?}", self.call, self.errno)
    }
}

pub(super) type Attempt = Result<(), Refusal>;

/// The result of a call that returns -1 on failure.
pub(super) fn checked<T: Into<i64> + Copy>(call: &'static str, result: T) -> Result<T, Refusal> {
    if result.into() == -1 { Err(Refusal { call, errno: Errno::last() }) } else { Ok(result) }
}

fn io<T>(call: &'static str, result: io::Result<T>) -> Attempt {
    result.map(drop).map_err(|error| Refusal { call, errno: Errno::from_raw(error.raw_os_error().unwrap_or(0)) })
}

pub(super) fn attempt(action: Action, ground: &Ground) -> Attempt {
    match action {
        Action::ReadSystemFile => io("open", File::open("/etc/passwd")),
        Action::ReadOwnProgram => own_program(),
        Action::ListFolder => io("opendir", fs::read_dir(&ground.folder)),
        Action::InspectFile => io("stat", fs::metadata(ground.path(Ground::FILE))),
        Action::CreateFile => io("open", File::create_new(ground.path("created"))),
        Action::WriteFile => io("open", File::options().write(true).open(ground.path(Ground::FILE))),
        Action::RemoveFile => io("unlink", fs::remove_file(ground.path(Ground::DOOMED))),
        Action::CreateFolder => io("mkdir", fs::create_dir(ground.path("folder"))),
        Action::ReopenModel => io("open", File::open(model_path())),
        Action::ConnectTcp => connect_tcp(),
        Action::ListenTcp => listen_tcp(),
        Action::SendUdp => send_udp(),
        Action::UnixSocket => socket(libc::AF_UNIX, libc::SOCK_STREAM).map(drop),
        Action::Fork => fork(|| 0),
        Action::Execute => execute(),
        Action::SignalParent => {
            // SAFETY: signal 0 only asks for permission.
            checked("kill", unsafe { libc::kill(ground.parent, 0) }).map(drop)
        }
        Action::ExecutableMemory => executable_memory(),
        other => platform::attempt(other, ground),
    }
}

fn own_program() -> Attempt {
    let by_name = || std::env::args_os().next().unwrap_or_default();
    io("open", File::open(if cfg!(target_os = "linux") { "/proc/self/exe".into() } else { by_name() }))
}

pub(super) fn socket(family: libc::c_int, kind: libc::c_int) -> Result<OwnedFd, Refusal> {
    // SAFETY: takes numbers.
    let descriptor = checked("socket", unsafe { libc::socket(family, kind, 0) })?;
    // SAFETY: the call returned a new descriptor, which nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Loopback at a port; every field that this does not set is zero.
fn loopback(port: u16) -> libc::sockaddr_in {
    // SAFETY: all zeros is a valid address, a struct of integers.
    let mut address: libc::sockaddr_in = unsafe { std::mem::zeroed() };
    address.sin_family = libc::AF_INET as libc::sa_family_t;
    address.sin_port = port.to_be();
    address.sin_addr.s_addr = u32::from(std::net::Ipv4Addr::LOCALHOST).to_be();
    address
}

const ADDRESS_BYTES: libc::socklen_t = size_of::<libc::sockaddr_in>() as libc::socklen_t;
/// A port where nothing listens: being refused by the machine is not being denied by the kernel.
const DISCARD: u16 = 9;

fn connect_tcp() -> Attempt {
    let socket = socket(libc::AF_INET, libc::SOCK_STREAM)?;
    let address = loopback(DISCARD);
    // SAFETY: `address` outlives the call and its length is given.
    let result = unsafe { libc::connect(socket.as_raw_fd(), (&raw const address).cast(), ADDRESS_BYTES) };
    match checked("connect", result) {
        Err(refusal) if refusal.errno == Errno::ECONNREFUSED => Ok(()),
        other => other.map(drop),
    }
}

fn listen_tcp() -> Attempt {
    let socket = socket(libc::AF_INET, libc::SOCK_STREAM)?;
    let address = loopback(0);
    // SAFETY: `address` outlives the call and its length is given.
    checked("bind", unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), ADDRESS_BYTES) })?;
    // SAFETY: takes numbers.
    checked("listen", unsafe { libc::listen(socket.as_raw_fd(), 1) }).map(drop)
}

fn send_udp() -> Attempt {
    let socket = socket(libc::AF_INET, libc::SOCK_DGRAM)?;
    let address = loopback(DISCARD);
    let content = [0u8; 1];
    // SAFETY: `content` and `address` outlive the call and their lengths are given.
    let result = unsafe {
        let to = (&raw const address).cast();
        libc::sendto(socket.as_raw_fd(), content.as_ptr().cast(), content.len(), 0, to, ADDRESS_BYTES)
    };
    checked("sendto", result as i64).map(drop)
}

/// Starts a process that does `inside` and ends; waits for it.
fn fork(inside: impl FnOnce() -> libc::c_int) -> Attempt {
    // SAFETY: this process has one thread, so the child may do what it likes; it leaves by `_exit`.
    let child = checked("fork", unsafe { libc::fork() })?;
    if child == 0 {
        let code = inside();
        // SAFETY: ends the child without running the parent's exit handlers.
        unsafe { libc::_exit(code) };
    }
    let mut status = 0;
    // SAFETY: `status` outlives the call.
    checked("waitpid", unsafe { libc::waitpid(child, &mut status, 0) })?;
    let code = if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { libc::EIO };
    if code == 0 { Ok(()) } else { Err(Refusal { call: "execve", errno: Errno::from_raw(code) }) }
}

/// Runs its own program, in a process of its own where it can make one, else in its own place.
fn execute() -> Attempt {
    let path = std::env::current_exe().ok().or_else(|| std::env::args_os().next().map(Into::into)).unwrap_or_default();
    let path = CString::new(path.into_os_string().into_encoded_bytes()).expect("paths hold no zero bytes");
    let argument = CString::new(EXECUTED).expect("no zero bytes");
    let exec = || {
        let arguments = [path.as_ptr(), argument.as_ptr(), ptr::null()];
        let environment: [*const libc::c_char; 1] = [ptr::null()];
        // SAFETY: both lists end with a null pointer and hold terminated strings that outlive the call.
        unsafe { libc::execve(path.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
        Errno::last_raw()
    };
    match fork(exec) {
        Err(refusal) if refusal.call == "fork" => Err(Refusal { call: "execve", errno: Errno::from_raw(exec()) }),
        other => other,
    }
}

fn executable_memory() -> Attempt {
    let all = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
    // SAFETY: a new private mapping at an address of the kernel's choice touches nothing that exists.
    let memory = unsafe { libc::mmap(ptr::null_mut(), 4096, all, libc::MAP_PRIVATE | libc::MAP_ANON, -1, 0) };
    checked("mmap", if memory == libc::MAP_FAILED { -1 } else { 0 }).map(drop)
}
