//! The trials that only Linux has.

use super::{
    Action, Ground,
    attempt::{Attempt, checked, socket},
};
use std::{
    ffi::CString,
    io,
    os::fd::{FromRawFd, OwnedFd},
    ptr,
};

pub(super) const ACTIONS: &[Action] = &[
    Action::ReadSystemFile,
    Action::ReadOwnProgram,
    Action::ListFolder,
    Action::InspectFile,
    Action::CreateFile,
    Action::WriteFile,
    Action::RemoveFile,
    Action::CreateFolder,
    Action::ReopenModel,
    Action::ConnectTcp,
    Action::ListenTcp,
    Action::SendUdp,
    Action::UnixSocket,
    Action::NetlinkSocket,
    Action::Fork,
    Action::Execute,
    Action::SignalParent,
    Action::TraceParent,
    Action::ReadParentMemory,
    Action::CopyParentMemory,
    Action::ExecutableMemory,
    Action::AnonymousFile,
    Action::SystemCallQueue,
    Action::MakeNamespaces,
    Action::Mount,
];

/// Where the Yama module forbids tracing anyone but children, this lets the probe's control succeed.
pub(super) fn let_child_trace_us() -> io::Result<()> {
    // SAFETY: takes numbers. Fails where Yama is absent, which then forbids nothing.
    unsafe { libc::prctl(libc::PR_SET_PTRACER, libc::PR_SET_PTRACER_ANY, 0, 0, 0) };
    Ok(())
}

pub(super) fn attempt(action: Action, ground: &Ground) -> Attempt {
    let parent = ground.parent;
    match action {
        Action::NetlinkSocket => socket(libc::AF_NETLINK, libc::SOCK_RAW).map(drop),
        Action::TraceParent => {
            const PTRACE_SEIZE: libc::c_int = 0x4206;
            let none = ptr::null_mut::<libc::c_void>();
            // SAFETY: seizing neither stops the parent nor touches its memory; it ends with this process.
            let result = unsafe { libc::ptrace(PTRACE_SEIZE as _, parent, none, none) };
            checked("ptrace", result as i64).map(drop)
        }
        Action::ReadParentMemory => {
            let path = CString::new(format!("/proc/{parent}/mem")).expect("no zero bytes");
            // SAFETY: `path` is a terminated string that outlives the call.
            close(checked("open", unsafe { libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) })?)
        }
        Action::CopyParentMemory => copy_parent_memory(parent),
        Action::AnonymousFile => {
            // SAFETY: the name is a terminated string.
            close(checked("memfd_create", unsafe { libc::memfd_create(c"probe".as_ptr(), 0) })?)
        }
        Action::SystemCallQueue => system_call_queue(),
        Action::MakeNamespaces => {
            // SAFETY: changes only which namespaces this single-threaded process is in.
            checked("unshare", unsafe { libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS) }).map(drop)
        }
        Action::Mount => mount(ground),
        _ => unreachable!("tried on every platform"),
    }
}

fn copy_parent_memory(parent: libc::pid_t) -> Attempt {
    let mut byte = 0u8;
    // The parent runs the same program; what it has at this address does not matter: permission is asked first, and a
    // wrong address is then `EFAULT`.
    let remote = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    let local = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    // SAFETY: writes at most one byte, to `byte`, which outlives the call.
    let result = unsafe { libc::process_vm_readv(parent, &local, 1, &remote, 1, 0) };
    match checked("process_vm_readv", result as i64) {
        Err(refusal) if !refusal.is_denial() => Ok(()),
        other => other.map(drop),
    }
}

fn system_call_queue() -> Attempt {
    let mut parameters = [0u8; 120];
    // SAFETY: `io_uring_params` has 120 bytes (linux/io_uring.h), all zeros are its defaults, and it outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, parameters.as_mut_ptr()) };
    close(checked("io_uring_setup", result)? as i32)
}

/// The trial succeeded; what it opened is not needed.
fn close(descriptor: i32) -> Attempt {
    // SAFETY: the descriptor was just returned by the kernel, nothing else owns it.
    drop(unsafe { OwnedFd::from_raw_fd(descriptor) });
    Ok(())
}

fn mount(ground: &Ground) -> Attempt {
    let target = CString::new(ground.folder.clone().into_os_string().into_encoded_bytes()).expect("no zero bytes");
    // Permission is asked first; that there is no such file system is found out afterwards, and nothing is mounted.
    let kind = c"no-such-file-system";
    // SAFETY: all strings are terminated and outlive the call.
    let result = unsafe { libc::mount(kind.as_ptr(), target.as_ptr(), kind.as_ptr(), 0, ptr::null()) };
    match checked("mount", result) {
        Err(refusal) if !refusal.is_denial() => Ok(()),
        other => other.map(drop),
    }
}
