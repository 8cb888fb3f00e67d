//! A worker that tries everything it must not be able to do.
//!
//! `darkbloom-worker probe` starts itself again exactly as a node starts a worker, with itself as the parent to attack,
//! and prints what the confined process reports: a [`Report`] in JSON. It exits with 0 if everything was denied, 1 if
//! anything was permitted, 2 if there was nothing to report.
//!
//! Each [`Action`] is really tried, in both stages; it counts as denied only where the kernel refused permission, so that
//! a missing file or a closed port is not mistaken for confinement.

use super::{Denial, LayerState, Report, Stage, confine, model_path};
use crate::launch;
use protocol::ipc::SOCKET_FD;
use serde::{Deserialize, Serialize};
use std::{
    ffi::{OsStr, OsString},
    fs::{self, File},
    io::{self, Read, Write},
    os::fd::FromRawFd,
    path::{Path, PathBuf},
    process::{ExitCode, Stdio},
};

mod attempt;
#[cfg(target_os = "linux")]
#[path = "probe/linux.rs"]
mod platform;
#[cfg(target_os = "macos")]
#[path = "probe/macos.rs"]
mod platform;

/// Argument of the process that [`run`] starts.
pub(crate) const INSIDE: &str = "probe-inside";
/// Argument that leaves the confinement out, to show that the probe can fail.
pub(crate) const UNCONFINED: &str = "--unconfined";
/// Argument of the process that [`Action::Execute`] starts where it can.
pub(crate) const EXECUTED: &str = "probe-executed";

/// One thing that a worker must not be able to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Action {
    /// Open `/etc/passwd`.
    ReadSystemFile,
    /// Open its own program.
    ReadOwnProgram,
    /// List a folder.
    ListFolder,
    /// Look at a file's size and owner.
    InspectFile,
    /// Make a file.
    CreateFile,
    /// Open a file for writing.
    WriteFile,
    /// Remove a file.
    RemoveFile,
    /// Make a folder.
    CreateFolder,
    /// Open the model once more.
    ReopenModel,
    /// Connect to a TCP port of this machine.
    ConnectTcp,
    /// Listen on a TCP port.
    ListenTcp,
    /// Send a UDP datagram.
    SendUdp,
    /// Make a unix socket.
    UnixSocket,
    /// Make a socket to the kernel's network configuration.
    NetlinkSocket,
    /// Start a process.
    Fork,
    /// Run a program.
    Execute,
    /// Signal its parent.
    SignalParent,
    /// Attach to its parent as a debugger.
    TraceParent,
    /// Open its parent's memory.
    ReadParentMemory,
    /// Copy from its parent's memory.
    CopyParentMemory,
    /// Make memory that is both writable and executable.
    ExecutableMemory,
    /// Make a file in memory.
    AnonymousFile,
    /// Make a queue of system calls past the filter.
    SystemCallQueue,
    /// Make namespaces, in which it would be root.
    MakeNamespaces,
    /// Mount a file system, in such a namespace where it could make one.
    Mount,
}

impl Action {
    /// What this platform tries, in order; those that change the process come last.
    pub fn all() -> &'static [Self] {
        platform::ACTIONS
    }

    /// Whether a worker that still loads its model is denied it too. Opening the model is what loading is; looking at a
    /// file hides in the same system call as looking at an open one.
    fn is_denied_while_loading(self) -> bool {
        !matches!(self, Self::ReopenModel | Self::InspectFile)
    }
}

/// What the trials are aimed at: files of the probe's own and its own parent, so that the control without confinement
/// harms nothing.
struct Ground {
    folder: PathBuf,
    /// Asked before the confinement, which denies asking too.
    parent: libc::pid_t,
}

impl Ground {
    const FILE: &str = "file";
    const DOOMED: &str = "doomed";

    fn prepare() -> io::Result<Self> {
        let folder = std::env::temp_dir().join(format!("darkbloom-probe-{}", std::process::id()));
        fs::create_dir(&folder)?;
        for name in [Self::FILE, Self::DOOMED] {
            fs::write(folder.join(name), "probe")?;
        }
        Ok(Self { folder, parent: 0 })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// Probes this machine's confinement: prints a [`Report`] as JSON to standard output. Success only if everything was
/// denied.
pub(crate) fn run(unconfined: bool) -> ExitCode {
    match report_of_child(unconfined) {
        Ok(report) => {
            println!("{report}");
            match serde_json::from_str::<Report>(&report) {
                Ok(report) if report.holds() => ExitCode::SUCCESS,
                _ => ExitCode::FAILURE,
            }
        }
        Err(error) => {
            eprintln!("error: cannot probe: {error}");
            ExitCode::from(2)
        }
    }
}

impl Report {
    /// Whether every layer that is required holds and everything that was tried was denied. A report without trials
    /// does not say so.
    pub fn holds(&self) -> bool {
        let optional = |name: &str| name == "namespaces";
        let holds = |layer: &super::Layer| layer.state != LayerState::Unavailable || optional(&layer.name);
        self.layers.iter().all(holds) && !self.denials.is_empty() && self.denials.iter().all(|denial| denial.denied)
    }
}

fn report_of_child(unconfined: bool) -> io::Result<String> {
    platform::let_child_trace_us()?;
    let program = std::env::current_exe()?;
    let ground = Ground::prepare()?;
    let result = run_child(&program, &ground, unconfined);
    let removed = fs::remove_dir_all(&ground.folder);
    let report = result?;
    removed?;
    Ok(report)
}

fn run_child(program: &Path, ground: &Ground, unconfined: bool) -> io::Result<String> {
    let mut arguments: Vec<OsString> = vec![INSIDE.into(), ground.folder.clone().into()];
    arguments.extend(unconfined.then(|| UNCONFINED.into()));
    // Any regular file stands for the model.
    let launch::Launch { mut command, mut socket } =
        launch::prepare(program, File::open(ground.path(Ground::FILE))?, arguments)?;
    let mut child = command.stderr(Stdio::inherit()).spawn()?;
    drop(command);
    let mut report = String::new();
    let read = socket.read_to_string(&mut report);
    let status = child.wait()?;
    read?;
    if report.is_empty() {
        return Err(io::Error::other(format!("the confined process ended without a report ({status})")));
    }
    Ok(report)
}

/// The process that [`run`] starts: confines itself and tries everything.
pub(crate) fn run_inside(folder: &OsStr, unconfined: bool) -> ExitCode {
    // SAFETY: returns a number and cannot fail.
    let ground = Ground { folder: folder.into(), parent: unsafe { libc::getppid() } };
    let tried = if unconfined { Ok(try_unconfined(&ground)) } else { try_confined(&ground) };
    let report = match tried {
        Ok(report) => report,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(2);
        }
    };
    let json = serde_json::to_vec(&report).expect("a report is plain data");
    // SAFETY: the parent gave this descriptor to this process alone; nothing else here owns it.
    let mut socket = unsafe { File::from_raw_fd(SOCKET_FD) };
    match socket.write_all(&json) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(2),
    }
}

fn try_unconfined(ground: &Ground) -> Report {
    let denials = Action::all().iter().map(|action| try_one(*action, Stage::Unconfined, ground)).collect();
    Report { kernel: super::kernel(), layers: Vec::new(), denials }
}

fn try_confined(ground: &Ground) -> Result<Report, Box<dyn std::error::Error>> {
    let confined = confine()?;
    // If this failed, the denials below would prove nothing about the confinement that a loading worker has.
    File::open(model_path()).map_err(|error| format!("a confined worker cannot open its model: {error}"))?;
    let loading = Action::all().iter().filter(|action| action.is_denied_while_loading());
    let mut denials: Vec<Denial> = loading.map(|action| try_one(*action, Stage::Loading, ground)).collect();
    let mut report = confined.seal_after_load()?;
    denials.extend(Action::all().iter().map(|action| try_one(*action, Stage::Serving, ground)));
    report.denials = denials;
    Ok(report)
}

fn try_one(action: Action, stage: Stage, ground: &Ground) -> Denial {
    let (denied, by) = match attempt::attempt(action, ground) {
        Ok(()) => (false, "permitted".to_owned()),
        Err(refusal) => (refusal.is_denial(), refusal.to_string()),
    };
    Denial { action, stage, denied, by }
}
