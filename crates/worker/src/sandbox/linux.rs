//! Linux: namespaces, no privileges, Landlock, seccomp.

use super::{
    Layer, LayerState, SandboxError,
    descriptors::{self, check, limit},
    step,
};
use protocol::ipc::SOCKET_FD;
use std::io;

#[path = "linux/files.rs"]
mod files;
#[path = "linux/system_calls.rs"]
mod system_calls;

/// Opening a descriptor's entry opens its inode anew; the Landlock rule is on that inode.
pub(super) const MODEL_PATH: &str = "/proc/self/fd/3";
const _: () = assert!(protocol::ipc::MODEL_FD == 3);

/// Descriptors at once: three standard ones, the model, the socket, and the engine's openings of the model.
const DESCRIPTORS_MAX: libc::rlim_t = 16;
/// Threads at once, where the limit counts only this process (in a user namespace of its own).
const THREADS_MAX: libc::rlim_t = 4096;

pub(super) fn confine() -> Result<Vec<Layer>, SandboxError> {
    let threads = std::fs::read_dir("/proc/self/task").map_err(step("count threads in /proc"))?.count();
    if threads != 1 {
        return Err(SandboxError::Threads { threads });
    }
    descriptors::check_and_quiet()?;
    // The rule's inode must be known before anything denies looking at it; so is every other preparation.
    let calls = system_calls::Filters::compile()?;
    Ok(vec![
        close_others()?,
        leave_namespaces(),
        give_up_privileges()?,
        set_limits()?,
        files::deny()?,
        calls.install()?,
    ])
}

pub(super) fn seal_after_load() -> Result<Layer, SandboxError> {
    descriptors::silence_standard_error()?;
    system_calls::seal()?;
    Ok(Layer::enforced("sealed", "nothing can be opened; standard error leads nowhere"))
}

fn close_others() -> Result<Layer, SandboxError> {
    let first = SOCKET_FD as libc::c_uint + 1;
    // SAFETY: nothing in this process owns a descriptor above the socket yet; `confine` runs first in `main`.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0) };
    if result != 0 {
        return Err(step("close inherited descriptors")(io::Error::last_os_error()));
    }
    Ok(Layer::enforced("descriptors", "only the model (read-only), the socket and standard error are open"))
}

/// Leaves the host's network, IPC objects, names and mounts for empty ones of its own, where the machine permits it.
fn leave_namespaces() -> Layer {
    let with_mounts =
        libc::CLONE_NEWNET | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS | libc::CLONE_NEWNS | libc::CLONE_NEWCGROUP;
    let attempts = [
        (libc::CLONE_NEWUSER | with_mounts, "user, network, IPC, UTS, mount, cgroup"),
        (libc::CLONE_NEWUSER | libc::CLONE_NEWNET, "user, network"),
        // Root on a machine that forbids user namespaces.
        (libc::CLONE_NEWNET | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS, "network, IPC, UTS"),
    ];
    let mut refused = None;
    for (flags, names) in attempts {
        // SAFETY: changes only which namespaces this single-threaded process is in.
        match check(unsafe { libc::unshare(flags) }) {
            Ok(_) => {
                let detail = format!("empty namespaces of its own: {names}");
                return Layer::enforced("namespaces", detail);
            }
            Err(error) => refused.get_or_insert(error),
        };
    }
    let why = refused.map(|error| error.to_string()).unwrap_or_default();
    Layer {
        name: "namespaces".to_owned(),
        state: LayerState::Unavailable,
        detail: format!("this machine forbids them ({why}); seccomp denies every socket"),
    }
}

fn give_up_privileges() -> Result<Layer, SandboxError> {
    // After `unshare`, which may reset it. The socket's end is noticed too; this also ends a worker that is stuck.
    prctl("die with the daemon", libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong)?;
    for capability in 0..=63 {
        // SAFETY: takes a number; an unknown one is an error, and so is lacking the right to drop, which `capset` below
        // makes irrelevant together with no-new-privileges.
        if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) } != 0 {
            break;
        }
    }
    drop_capabilities().map_err(step("drop capabilities"))?;
    prctl("set no-new-privileges", libc::PR_SET_NO_NEW_PRIVS, 1)?;
    // No core dump, and /proc/PID belongs to root: nobody of the same user reads this memory.
    prctl("become undumpable", libc::PR_SET_DUMPABLE, 0)?;
    Ok(Layer::enforced("privileges", "no capabilities, no-new-privileges, not dumpable, dies with the daemon"))
}

fn prctl(name: &'static str, option: libc::c_int, value: libc::c_ulong) -> Result<(), SandboxError> {
    let zero: libc::c_ulong = 0;
    // SAFETY: the options used here take one number and three zeros.
    check(unsafe { libc::prctl(option, value, zero, zero, zero) }).map_err(step(name)).map(drop)
}

/// Empties the effective, permitted and inheritable sets (capset(2), version 3: 64 bits in two structs).
fn drop_capabilities() -> io::Result<()> {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    #[repr(C)]
    #[derive(Clone, Copy)]
    struct Data {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    const LINUX_CAPABILITY_VERSION_3: u32 = 0x2008_0522;
    let header = Header { version: LINUX_CAPABILITY_VERSION_3, pid: 0 };
    let data = [Data { effective: 0, permitted: 0, inheritable: 0 }; 2];
    // SAFETY: both structs have the kernel's layout for this version and outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw const header, &raw const data) };
    if result != 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn set_limits() -> Result<Layer, SandboxError> {
    // A file that standard error may be would otherwise kill the process by SIGXFSZ instead of failing the write.
    // SAFETY: ignoring a signal installs no handler.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    limit(libc::RLIMIT_CORE, 0).map_err(step("forbid core dumps"))?;
    limit(libc::RLIMIT_FSIZE, 0).map_err(step("forbid writing to files"))?;
    limit(libc::RLIMIT_NOFILE, DESCRIPTORS_MAX).map_err(step("limit descriptors"))?;
    limit(libc::RLIMIT_MSGQUEUE, 0).map_err(step("forbid message queues"))?;
    // Counts all threads of the user, unless in a user namespace of its own; a smaller limit may be in force already.
    let threads = if limit(libc::RLIMIT_NPROC, THREADS_MAX).is_ok() { ", threads limited" } else { "" };
    Ok(Layer::enforced("limits", format!("no core, no file growth, {DESCRIPTORS_MAX} descriptors{threads}")))
}
