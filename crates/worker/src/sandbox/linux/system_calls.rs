//! seccomp: a list of the system calls that inference on a loaded model needs; every other one fails with `EPERM`.
//!
//! Not on the list, among all others: execve, fork, ptrace, process_vm_readv, every socket call (the worker uses `read`
//! and `write` on its one socket), mount, bpf, io_uring, userfaultfd, perf_event_open, kill, ioctl. `EPERM` rather than
//! a kill, so that libraries take their fallbacks and the probe can try everything in one process.

use super::super::{Layer, SandboxError};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Len, SeccompCmpOp as Op, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};
use std::collections::BTreeMap;

const REMEDY: &str = "a worker needs a kernel with CONFIG_SECCOMP_FILTER, and a container must permit `seccomp`";

/// Allowed with any arguments. They act on this process's own memory, threads, time and open descriptors.
const ALLOWED: &[libc::c_long] = &[
    // The socket, the model, standard error.
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_lseek,
    libc::SYS_close,
    libc::SYS_fstat,
    libc::SYS_fadvise64,
    // Memory; see also `mmap` and `mprotect` below.
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    // Threads; see also `clone` below.
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_getcpu,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_exit,
    libc::SYS_exit_group,
    // Signals to itself; see also `tgkill` below.
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    // Time, randomness, its own use of the machine.
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_sysinfo,
];

/// Needed to load the model and to install the second filter, and by nothing afterwards.
const TAKEN_AFTER_LOAD: &[libc::c_long] =
    &[libc::SYS_openat, libc::SYS_newfstatat, libc::SYS_fadvise64, libc::SYS_dup3, libc::SYS_fcntl, libc::SYS_seccomp];

/// Fail with `ENOSYS` instead of `EPERM`: the C library then falls back to a call whose arguments a filter can see.
const PRETEND_UNKNOWN: &[libc::c_long] = &[libc::SYS_clone3, libc::SYS_openat2, libc::SYS_statx];

pub(super) struct Filters {
    allow: BpfProgram,
    unknown: BpfProgram,
}

impl Filters {
    pub(super) fn compile() -> Result<Self, SandboxError> {
        let denied = SeccompAction::Errno(libc::EPERM as u32);
        let unknown = SeccompAction::Errno(libc::ENOSYS as u32);
        Ok(Self {
            allow: compile(allowed()?, denied, SeccompAction::Allow)?,
            unknown: compile(any_arguments(PRETEND_UNKNOWN), SeccompAction::Allow, unknown)?,
        })
    }

    /// Of two filters that fail a call the younger one names the error, so the list goes first.
    pub(super) fn install(self) -> Result<Layer, SandboxError> {
        seccompiler::apply_filter(&self.allow).map_err(|error| missing(&error))?;
        seccompiler::apply_filter(&self.unknown).map_err(|error| missing(&error))?;
        let calls = ALLOWED.len() + conditional().len();
        Ok(Layer::enforced(
            "seccomp",
            format!("{calls} system calls allowed, {} of them with conditions", conditional().len()),
        ))
    }
}

/// The second filter, over all threads that the engine has started.
pub(super) fn seal() -> Result<(), SandboxError> {
    let denied = SeccompAction::Errno(libc::EPERM as u32);
    let filter = compile(any_arguments(TAKEN_AFTER_LOAD), SeccompAction::Allow, denied)?;
    seccompiler::apply_filter_all_threads(&filter).map_err(|error| missing(&error))
}

fn missing(error: &dyn std::error::Error) -> SandboxError {
    SandboxError::Unavailable { layer: "seccomp", why: error.to_string(), remedy: REMEDY }
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn any_arguments(calls: &[libc::c_long]) -> Rules {
    calls.iter().map(|call| (*call, Vec::new())).collect()
}

fn allowed() -> Result<Rules, SandboxError> {
    let mut rules = any_arguments(ALLOWED);
    for (call, alternatives) in conditional() {
        let alternatives: Result<Vec<_>, _> = alternatives.into_iter().map(rule).collect();
        rules.insert(call, alternatives.map_err(|error| missing(&error))?);
    }
    Ok(rules)
}

/// One argument and what it must be: `value` under `mask`.
struct Must {
    argument: u8,
    length: Len,
    mask: u64,
    value: u64,
}

/// For arguments of which the kernel itself looks at 32 bits only.
fn must(argument: u8, mask: libc::c_int, value: libc::c_int) -> Must {
    Must { argument, length: Len::Dword, mask: u64::from(mask as u32), value: u64::from(value as u32) }
}

fn must_be_null(argument: u8) -> Must {
    Must { argument, length: Len::Qword, mask: u64::MAX, value: 0 }
}

const ALL: libc::c_int = -1;

/// Allowed where one of the alternatives holds; an alternative holds where all its conditions do.
fn conditional() -> Vec<(libc::c_long, Vec<Vec<Must>>)> {
    // SAFETY: returns a number and cannot fail.
    let own = unsafe { libc::getpid() };
    let writing = libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC | libc::O_APPEND | libc::O_TMPFILE | libc::O_PATH;
    let namespaces = libc::CLONE_NEWUSER
        | libc::CLONE_NEWNET
        | libc::CLONE_NEWNS
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWCGROUP;
    let thread = libc::CLONE_THREAD | libc::CLONE_VM;
    vec![
        // Threads of this process only: no fork, no namespace.
        (libc::SYS_clone, vec![vec![must(0, thread | namespaces, thread)]]),
        // No memory is ever executable that was not at the start.
        (libc::SYS_mmap, vec![vec![must(2, libc::PROT_EXEC, 0)]]),
        (libc::SYS_mprotect, vec![vec![must(2, libc::PROT_EXEC, 0)]]),
        // Reading only; Landlock says which file.
        (libc::SYS_openat, vec![vec![must(2, writing, libc::O_RDONLY)]]),
        // The C library's `fstat`. A path beside the flag still gives metadata, which ends with the second filter.
        (libc::SYS_newfstatat, vec![vec![must(3, libc::AT_EMPTY_PATH, libc::AT_EMPTY_PATH)]]),
        (libc::SYS_fcntl, [libc::F_GETFD, libc::F_SETFD, libc::F_GETFL].map(|op| vec![must(1, ALL, op)]).into()),
        // Standard error is silenced once the model is loaded.
        (libc::SYS_dup3, vec![vec![must(0, ALL, libc::STDIN_FILENO), must(1, ALL, libc::STDERR_FILENO)]]),
        // Reading its own limits, to size stacks.
        (libc::SYS_prlimit64, vec![vec![must(0, ALL, 0), must_be_null(2)]]),
        // `abort`.
        (libc::SYS_tgkill, vec![vec![must(0, ALL, own)]]),
        (libc::SYS_prctl, [libc::PR_SET_NAME, libc::PR_SET_NO_NEW_PRIVS].map(|op| vec![must(0, ALL, op)]).into()),
        // The second filter, and nothing that could hand calls to a supervisor.
        (
            libc::SYS_seccomp,
            [0, libc::SECCOMP_FILTER_FLAG_TSYNC as libc::c_int]
                .map(|flags| vec![must(0, ALL, libc::SECCOMP_SET_MODE_FILTER as libc::c_int), must(1, ALL, flags)])
                .into(),
        ),
    ]
}

fn rule(conditions: Vec<Must>) -> Result<SeccompRule, seccompiler::BackendError> {
    let conditions: Result<Vec<_>, _> = conditions
        .into_iter()
        .map(|must| SeccompCondition::new(must.argument, must.length, Op::MaskedEq(must.mask), must.value))
        .collect();
    SeccompRule::new(conditions?)
}

fn compile(rules: Rules, otherwise: SeccompAction, matched: SeccompAction) -> Result<BpfProgram, SandboxError> {
    let architecture = TargetArch::try_from(std::env::consts::ARCH).map_err(|error| missing(&error))?;
    let filter = SeccompFilter::new(rules, otherwise, matched, architecture).map_err(|error| missing(&error))?;
    BpfProgram::try_from(filter).map_err(|error| missing(&error))
}
