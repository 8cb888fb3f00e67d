//! One test for each thing that a worker cannot do. The probe really tries each, under the sandbox of every worker, in
//! both of its stages; the control without the sandbox succeeds, which shows that the probe can fail.

#![allow(clippy::unwrap_used, reason = "clippy's exemption covers test functions, not what they call")]

use std::{
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::LazyLock,
};
use worker::sandbox::{Denial, LayerState, Report, Stage, probe::Action};

const WORKER: &str = env!("CARGO_BIN_EXE_darkbloom-worker");

static CONFINED: LazyLock<Report> = LazyLock::new(|| {
    let output = probe(Path::new(WORKER), &[], None);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    report(&output)
});

static UNCONFINED: LazyLock<Report> = LazyLock::new(|| {
    let output = probe(Path::new(WORKER), &["--unconfined"], None);
    assert_eq!(output.status.code(), Some(1), "a probe to which anything was permitted does not succeed");
    report(&output)
});

fn probe(program: &Path, arguments: &[&str], user: Option<u32>) -> Output {
    let mut command = Command::new(program);
    command.arg("probe").args(arguments);
    if let Some(user) = user {
        command.uid(user).gid(user).current_dir("/");
    }
    command.output().unwrap()
}

fn report(output: &Output) -> Report {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
}

fn of(report: &Report, action: Action) -> Vec<&Denial> {
    report.denials.iter().filter(|denial| denial.action == action).collect()
}

/// Denied in the given stages under confinement, and permitted without.
fn assert_denied(action: Action, stages: &[Stage]) {
    let denials = of(&CONFINED, action);
    assert_eq!(denials.iter().map(|denial| denial.stage).collect::<Vec<_>>(), stages);
    assert!(denials.iter().all(|denial| denial.denied), "{denials:?}");
    let control = of(&UNCONFINED, action);
    assert!(matches!(control[..], [Denial { denied: false, stage: Stage::Unconfined, .. }]), "{control:?}");
}

const ALWAYS: &[Stage] = &[Stage::Loading, Stage::Serving];
const ONCE_LOADED: &[Stage] = &[Stage::Serving];

macro_rules! denied {
    ($($name:ident: $action:ident, $stages:expr;)*) => {
        $(#[test] fn $name() { assert_denied(Action::$action, $stages); })*

        #[test]
        fn every_action_has_its_test() {
            assert_eq!(Action::all(), [$(Action::$action),*]);
        }
    };
}

#[cfg(target_os = "linux")]
denied! {
    cannot_read_a_file: ReadSystemFile, ALWAYS;
    cannot_read_its_own_program: ReadOwnProgram, ALWAYS;
    cannot_list_a_folder: ListFolder, ALWAYS;
    cannot_look_at_a_file_once_loaded: InspectFile, ONCE_LOADED;
    cannot_create_a_file: CreateFile, ALWAYS;
    cannot_write_a_file: WriteFile, ALWAYS;
    cannot_remove_a_file: RemoveFile, ALWAYS;
    cannot_create_a_folder: CreateFolder, ALWAYS;
    cannot_open_the_model_again_once_loaded: ReopenModel, ONCE_LOADED;
    cannot_connect: ConnectTcp, ALWAYS;
    cannot_listen: ListenTcp, ALWAYS;
    cannot_send_a_datagram: SendUdp, ALWAYS;
    cannot_make_a_unix_socket: UnixSocket, ALWAYS;
    cannot_make_a_netlink_socket: NetlinkSocket, ALWAYS;
    cannot_fork: Fork, ALWAYS;
    cannot_execute: Execute, ALWAYS;
    cannot_signal_its_parent: SignalParent, ALWAYS;
    cannot_trace_its_parent: TraceParent, ALWAYS;
    cannot_read_its_parents_memory: ReadParentMemory, ALWAYS;
    cannot_copy_its_parents_memory: CopyParentMemory, ALWAYS;
    cannot_make_executable_memory: ExecutableMemory, ALWAYS;
    cannot_make_an_anonymous_file: AnonymousFile, ALWAYS;
    cannot_queue_system_calls: SystemCallQueue, ALWAYS;
    cannot_make_namespaces: MakeNamespaces, ALWAYS;
    cannot_mount: Mount, ALWAYS;
}

#[cfg(target_os = "macos")]
denied! {
    cannot_read_a_file: ReadSystemFile, ALWAYS;
    cannot_list_a_folder: ListFolder, ALWAYS;
    cannot_create_a_file: CreateFile, ALWAYS;
    cannot_write_a_file: WriteFile, ALWAYS;
    cannot_remove_a_file: RemoveFile, ALWAYS;
    cannot_create_a_folder: CreateFolder, ALWAYS;
    cannot_connect: ConnectTcp, ALWAYS;
    cannot_listen: ListenTcp, ALWAYS;
    cannot_send_a_datagram: SendUdp, ALWAYS;
    cannot_fork: Fork, ALWAYS;
    cannot_execute: Execute, ALWAYS;
    cannot_signal_its_parent: SignalParent, ALWAYS;
}

#[test]
fn the_report_names_every_layer() {
    let names: Vec<&str> = CONFINED.layers.iter().map(|layer| layer.name.as_str()).collect();
    let expected: &[&str] = match cfg!(target_os = "linux") {
        true => &["descriptors", "namespaces", "privileges", "limits", "landlock", "seccomp", "sealed"],
        false => &["descriptors", "privileges", "limits", "seatbelt", "sealed"],
    };
    assert_eq!(names, expected);
    assert!(CONFINED.kernel.split(' ').count() >= 3, "name, version and machine: {}", CONFINED.kernel);
    let required = CONFINED.layers.iter().filter(|layer| layer.name != "namespaces");
    assert!(required.clone().all(|layer| layer.state != LayerState::Unavailable), "{required:?}");
    assert!(CONFINED.holds());
    assert!(!UNCONFINED.holds());
}

/// Root's sandbox differs from an ordinary user's in what the kernel permits on the way in.
#[test]
fn it_holds_for_an_ordinary_user_too() {
    const NOBODY: u32 = 65534;
    // SAFETY: returns a number and cannot fail.
    if unsafe { libc::getuid() } != 0 {
        return;
    }
    // Nobody may not be allowed to walk to the build's own folder.
    let folder = tempfile::tempdir().unwrap();
    let program: PathBuf = folder.path().join("darkbloom-worker");
    std::fs::copy(WORKER, &program).unwrap();
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let confined = report(&probe(&program, &[], Some(NOBODY)));
    assert!(confined.holds(), "{confined:#?}");
    let unconfined = report(&probe(&program, &["--unconfined"], Some(NOBODY)));
    let permitted = unconfined.denials.iter().filter(|denial| !denial.denied).count();
    assert_eq!(permitted, unconfined.denials.len(), "{unconfined:#?}");
}
