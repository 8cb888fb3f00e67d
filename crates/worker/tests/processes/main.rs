//! The whole worker as a process: real sandbox, real sealing, real socket, an engine that does what the prompt says.
//!
//! This program is both the tests and, started again by them, the worker: a worker has one thread when it starts, which
//! a test under the standard harness has not. It understands the harness's `--list`, `--exact` and name filters.

#![allow(clippy::unwrap_used, reason = "clippy's exemption covers test functions, not what they call")]

mod daemon;
mod obedient;

use daemon::{Daemon, text_of};
use protocol::{
    ids::TaskId,
    ipc::{FromWorker, Rejection, ToWorker},
    limits,
    sealing::Suite,
    stream::KEEP_ALIVE_MS,
    task::{Frame, Generation, Prompt, Resume, Task, TaskError, Usage},
};
use std::{process::ExitCode, time::Duration};
use worker::{
    Exit,
    sandbox::{LayerState, Report},
};

const TESTS: &[(&str, fn())] = &[
    ("a_task_goes_in_sealed_and_comes_back_sealed", a_task_goes_in_sealed_and_comes_back_sealed),
    ("ready_tells_keys_model_and_sandbox", ready_tells_keys_model_and_sandbox),
    ("a_replayed_task_is_refused", a_replayed_task_is_refused),
    ("changed_cut_and_misdirected_tasks_are_refused", changed_cut_and_misdirected_tasks_are_refused),
    ("a_task_out_of_bounds_gets_a_sealed_error", a_task_out_of_bounds_gets_a_sealed_error),
    ("an_id_that_runs_is_refused", an_id_that_runs_is_refused),
    ("a_full_worker_says_so", a_full_worker_says_so),
    ("a_cancelled_task_gives_its_slot_away", a_cancelled_task_gives_its_slot_away),
    ("a_stuck_step_is_no_silence_and_a_stopped_process_is", a_stuck_step_is_no_silence_and_a_stopped_process_is),
    ("a_worker_with_little_duty_answers", a_worker_with_little_duty_answers),
    ("shutdown_tells_running_and_waiting_tasks", shutdown_tells_running_and_waiting_tasks),
    ("a_lost_daemon_ends_the_worker", a_lost_daemon_ends_the_worker),
    ("a_lost_daemon_ends_a_worker_that_still_loads", a_lost_daemon_ends_a_worker_that_still_loads),
    ("a_daemon_that_talks_nonsense_ends_the_worker", a_daemon_that_talks_nonsense_ends_the_worker),
    ("a_panic_ends_the_worker_without_a_word", a_panic_ends_the_worker_without_a_word),
    ("a_failed_engine_ends_the_worker_after_the_answers", a_failed_engine_ends_the_worker_after_the_answers),
    ("an_engine_cannot_print_once_it_is_loaded", an_engine_cannot_print_once_it_is_loaded),
    ("an_engine_can_start_threads_after_it_is_loaded", an_engine_can_start_threads_after_it_is_loaded),
    ("an_engine_cannot_open_anything_once_it_is_loaded", an_engine_cannot_open_anything_once_it_is_loaded),
    ("a_model_that_does_not_load_is_reported", a_model_that_does_not_load_is_reported),
    #[cfg(target_os = "linux")]
    ("without_landlock_it_does_not_start", without_landlock_it_does_not_start),
    #[cfg(target_os = "linux")]
    ("without_seccomp_it_does_not_start", without_seccomp_it_does_not_start),
    #[cfg(target_os = "linux")]
    ("without_namespaces_it_starts_and_says_so", without_namespaces_it_starts_and_says_so),
    ("a_writable_model_is_refused", a_writable_model_is_refused),
];

/// The exit code of a process that ended this way.
fn code(exit: Exit) -> Option<i32> {
    Some(i32::from(exit as u8))
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument.starts_with("--slots=")) {
        return worker::run(obedient::load);
    }
    if arguments.iter().any(|argument| argument == "--list") {
        // None is ever ignored.
        let listed = if arguments.iter().any(|argument| argument == "--ignored") { &[] } else { TESTS };
        listed.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let exact = arguments.iter().any(|argument| argument == "--exact");
    let filters: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let wanted = |name: &str| {
        let matches = |filter: &&String| if exact { name == filter.as_str() } else { name.contains(filter.as_str()) };
        filters.is_empty() || filters.iter().any(matches)
    };
    let mut failed = false;
    for (name, test) in TESTS.iter().filter(|(name, _)| wanted(name)) {
        let passed = std::panic::catch_unwind(test).is_ok();
        println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
        failed |= !passed;
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn a_task_goes_in_sealed_and_comes_back_sealed() {
    for suite in Suite::PREFERENCE {
        let mut daemon = Daemon::start(1);
        let task = daemon.run_with(suite, "say five words of your own");
        let (frames, usage) = daemon.answer(task);
        assert_eq!(frames.first(), Some(&Frame::Started { prompt_tokens: 6 }));
        assert_eq!(text_of(&frames), "five words of your own ");
        assert_eq!(usage, Usage { prompt_tokens: 6, completion_tokens: 5 });
        assert!(matches!(frames.last(), Some(Frame::Done { .. })));
    }
}

fn ready_tells_keys_model_and_sandbox() {
    let daemon = Daemon::start(3);
    let suites: Vec<Suite> = daemon.keys.iter().map(|key| key.suite).collect();
    assert_eq!(suites, Suite::PREFERENCE);
    assert_eq!(daemon.model.slots, 3);
    assert_eq!(daemon.model.architecture, "obedient", "read from the model file, inside the sandbox");
    let report: Report = serde_json::from_str(&daemon.sandbox_json).unwrap();
    let required: &[&str] = match cfg!(target_os = "linux") {
        true => &["descriptors", "privileges", "limits", "landlock", "seccomp", "sealed"],
        false => &["descriptors", "privileges", "limits", "seatbelt", "sealed"],
    };
    for name in required {
        let layer = report.layers.iter().find(|layer| layer.name == *name).unwrap();
        assert_ne!(layer.state, LayerState::Unavailable, "{layer:?}");
    }
    assert!(!report.holds(), "nothing was tried here, so nothing is proven");
}

fn a_replayed_task_is_refused() {
    let mut daemon = Daemon::start(1);
    let (task, sealed) = daemon.seal("say once");
    daemon.send(&ToWorker::Run { task, sealed: sealed.clone() });
    assert_eq!(text_of(&daemon.answer(task).0), "once ");
    daemon.send(&ToWorker::Run { task, sealed });
    assert_eq!(daemon.next(), FromWorker::Rejected { task, why: Rejection::Replayed });
}

fn changed_cut_and_misdirected_tasks_are_refused() {
    let mut daemon = Daemon::start(1);
    let (task, sealed) = daemon.seal("say nothing");
    let mut flipped = sealed.clone();
    flipped.ciphertext[0] ^= 1;
    let mut cut = sealed.clone();
    cut.ciphertext.truncate(100);
    let mut empty = sealed.clone();
    empty.ciphertext.clear();
    let mut encapsulation = sealed.clone();
    encapsulation.encapsulated[0] ^= 1;
    let mut suite = sealed.clone();
    suite.suite = Suite::X25519;
    for broken in [flipped, cut, empty, encapsulation, suite] {
        daemon.send(&ToWorker::Run { task, sealed: broken });
        assert_eq!(daemon.next(), FromWorker::Rejected { task, why: Rejection::NotAuthentic });
    }
    let other = TaskId::random();
    daemon.send(&ToWorker::Run { task: other, sealed: sealed.clone() });
    assert_eq!(daemon.next(), FromWorker::Rejected { task: other, why: Rejection::NotAuthentic }, "another id");
    let mut unknown = sealed.clone();
    unknown.key.0[0] ^= 1;
    daemon.send(&ToWorker::Run { task, sealed: unknown });
    assert_eq!(daemon.next(), FromWorker::Rejected { task, why: Rejection::UnknownKey });
    // And none of it did any harm.
    daemon.send(&ToWorker::Run { task, sealed });
    assert_eq!(text_of(&daemon.answer(task).0), "nothing ");
}

fn a_task_out_of_bounds_gets_a_sealed_error() {
    let mut daemon = Daemon::start(1);
    let resume = Resume { ids: vec![1; limits::RESUME_TOKENS_MAX + 1], text_bytes: 0 };
    let generation = Generation { resume, ..Generation::default() };
    for task in [
        Task::Embedding { inputs: Vec::new() },
        Task::Score { prompt: Prompt::Text("say".to_owned()), ids: Vec::new() },
        Task::Completion { prompt: "say".to_owned(), generation },
    ] {
        let task = daemon.run_task(&task);
        let (frames, usage) = daemon.answer(task);
        assert!(matches!(frames[..], [Frame::Failed { error: TaskError::Invalid { .. } }]), "{frames:?}");
        assert_eq!(usage, Usage::default());
    }
}

fn an_id_that_runs_is_refused() {
    let mut daemon = Daemon::start(1);
    let task = daemon.run("forever");
    daemon.await_start(task);
    let sealed = daemon.seal_as(task, &Task::Completion { prompt: "say no".into(), generation: Default::default() });
    daemon.send(&ToWorker::Run { task, sealed });
    assert_eq!(daemon.next_but_frames(), FromWorker::Rejected { task, why: Rejection::Duplicate });
}

fn a_full_worker_says_so() {
    const WAITING_MAX: usize = 32;
    let mut daemon = Daemon::start(2);
    for _ in 0..2 {
        let task = daemon.run("forever");
        daemon.await_start(task);
    }
    for _ in 0..WAITING_MAX {
        daemon.run("forever");
    }
    let (task, sealed) = daemon.seal("say too much");
    daemon.send(&ToWorker::Run { task, sealed });
    assert_eq!(daemon.next_but_frames(), FromWorker::Rejected { task, why: Rejection::Full });
}

fn a_cancelled_task_gives_its_slot_away() {
    let mut daemon = Daemon::start(1);
    let endless = daemon.run("forever");
    daemon.await_start(endless);
    let waiting = daemon.run("say never");
    let next = daemon.run("say next");
    daemon.send(&ToWorker::Cancel { task: waiting });
    daemon.send(&ToWorker::Cancel { task: endless });
    daemon.send(&ToWorker::Cancel { task: TaskId::random() });
    assert_eq!(text_of(&daemon.answer(next).0), "next ");
    daemon.send(&ToWorker::Shutdown);
    assert!(daemon.rest().is_empty(), "nothing more is said about cancelled tasks");
    assert_eq!(daemon.exit().0, code(Exit::Shutdown));
}

fn a_stuck_step_is_no_silence_and_a_stopped_process_is() {
    let mut daemon = Daemon::start(1);
    let task = daemon.run("stick");
    daemon.await_start(task);
    for _ in 0..2 {
        assert_eq!(daemon.next_of_all(), FromWorker::Alive, "in the confined process, while its engine hangs");
    }
    daemon.signal(libc::SIGSTOP);
    // What was under way when it stopped; then there is silence, for longer than a period.
    while daemon.is_heard_within(Duration::from_millis(3 * KEEP_ALIVE_MS)) {
        assert_eq!(daemon.next_of_all(), FromWorker::Alive);
    }
    daemon.signal(libc::SIGCONT);
    assert_eq!(daemon.next_of_all(), FromWorker::Alive, "it goes on");
}

fn a_worker_with_little_duty_answers() {
    let mut daemon = Daemon::spawn("obedient", 1, |command| {
        command.arg("--duty-percent=20");
    });
    daemon.await_ready();
    let task = daemon.run("say it slowly");
    assert_eq!(text_of(&daemon.answer(task).0), "it slowly ");
    let (exit, printed) = Daemon::spawn("obedient", 1, |command| {
        command.arg("--duty-percent=0");
    })
    .exit();
    assert_eq!(exit, code(Exit::Usage));
    assert!(printed.contains("expected a percentage from 1 to 100"), "{printed}");
}

fn shutdown_tells_running_and_waiting_tasks() {
    let mut daemon = Daemon::start(1);
    let running = daemon.run("forever");
    daemon.await_start(running);
    let waiting = daemon.run("say something");
    daemon.send(&ToWorker::Shutdown);
    for task in [running, waiting] {
        let (frames, usage) = daemon.answer(task);
        assert_eq!(frames.last(), Some(&Frame::Failed { error: TaskError::ShuttingDown }));
        assert_eq!(usage, Usage::default());
    }
    assert_eq!(daemon.exit().0, code(Exit::Shutdown));
}

fn a_lost_daemon_ends_the_worker() {
    let mut daemon = Daemon::start(1);
    let task = daemon.run("forever");
    daemon.await_start(task);
    assert_eq!(daemon.hang_up().0, code(Exit::DaemonGone), "while it computes");
    assert_eq!(Daemon::start(1).hang_up().0, code(Exit::DaemonGone), "while it waits");
}

fn a_lost_daemon_ends_a_worker_that_still_loads() {
    let daemon = Daemon::spawn("hang", 1, |_| {});
    assert_eq!(daemon.hang_up().0, code(Exit::DaemonGone));
}

fn a_daemon_that_talks_nonsense_ends_the_worker() {
    for nonsense in [&[255; 64][..], &[1, 0, 0, 0, 99]] {
        let mut daemon = Daemon::start(1);
        daemon.send_bytes(nonsense);
        assert_eq!(daemon.exit().0, code(Exit::Protocol));
    }
}

fn a_panic_ends_the_worker_without_a_word() {
    let mut daemon = Daemon::start(1);
    daemon.run("panic with a secret");
    let (exit, printed) = daemon.exit();
    assert_eq!(exit, code(Exit::Panic));
    assert_eq!(printed, "");
}

fn a_failed_engine_ends_the_worker_after_the_answers() {
    let mut daemon = Daemon::start(2);
    let bystander = daemon.run("forever");
    daemon.await_start(bystander);
    let task = daemon.run("break");
    for task in [task, bystander] {
        let (frames, _) = daemon.answer(task);
        assert!(matches!(frames.last(), Some(Frame::Failed { error: TaskError::Engine { .. } })), "{frames:?}");
    }
    assert_eq!(daemon.exit().0, code(Exit::Engine));
}

fn an_engine_cannot_print_once_it_is_loaded() {
    let mut daemon = Daemon::start(1);
    let task = daemon.run("print a secret");
    daemon.answer(task);
    daemon.send(&ToWorker::Shutdown);
    assert_eq!(daemon.exit(), (code(Exit::Shutdown), String::new()));
    // The same engine can before: what it prints while it loads reaches the daemon.
    let mut daemon = Daemon::spawn("print", 1, |_| {});
    daemon.await_ready();
    daemon.send(&ToWorker::Shutdown);
    assert_eq!(daemon.exit(), (code(Exit::Shutdown), "loading\n".to_owned()));
}

fn an_engine_can_start_threads_after_it_is_loaded() {
    let mut daemon = Daemon::start(1);
    let task = daemon.run("thread");
    assert_eq!(text_of(&daemon.answer(task).0), "joined ");
}

fn an_engine_cannot_open_anything_once_it_is_loaded() {
    let mut daemon = Daemon::start(1);
    let task = daemon.run("open the model");
    assert_eq!(text_of(&daemon.answer(task).0), "PermissionDenied ");
}

fn a_model_that_does_not_load_is_reported() {
    let mut daemon = Daemon::spawn("broken", 1, |_| {});
    assert_eq!(daemon.next(), FromWorker::Failed { why: "the model says `broken`: its cause".to_owned() });
    let (exit, printed) = daemon.exit();
    assert_eq!((exit, printed.as_str()), (code(Exit::Model), "error: the model says `broken`: its cause\n"));
}

/// Starts a worker for which the kernel seems not to have a system call; what it prints.
#[cfg(target_os = "linux")]
fn start_without(call: libc::c_long, errno: i32) -> Daemon {
    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
    use std::os::unix::process::CommandExt;
    let rules = [(call, Vec::new())].into_iter().collect();
    let architecture = std::env::consts::ARCH.try_into().unwrap();
    let missing = SeccompAction::Errno(errno as u32);
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, missing, architecture).unwrap();
    let filter: BpfProgram = filter.try_into().unwrap();
    Daemon::spawn("obedient", 1, move |command| {
        // SAFETY: installing a filter that was compiled before takes two system calls and no memory.
        unsafe {
            command.pre_exec(move || seccompiler::apply_filter(&filter).map_err(|_| std::io::ErrorKind::Other.into()));
        }
    })
}

#[cfg(target_os = "linux")]
fn without_landlock_it_does_not_start() {
    let (exit, printed) = start_without(libc::SYS_landlock_create_ruleset, libc::ENOSYS).exit();
    assert_eq!(exit, code(Exit::Sandbox));
    assert!(printed.contains("Landlock is not available") && printed.contains("needs Linux 5.13"), "{printed}");
}

#[cfg(target_os = "linux")]
fn without_seccomp_it_does_not_start() {
    let (exit, printed) = start_without(libc::SYS_seccomp, libc::ENOSYS).exit();
    assert_eq!(exit, code(Exit::Sandbox));
    assert!(printed.contains("seccomp is not available"), "{printed}");
}

#[cfg(target_os = "linux")]
fn without_namespaces_it_starts_and_says_so() {
    let mut daemon = start_without(libc::SYS_unshare, libc::EPERM);
    daemon.await_ready();
    let report: Report = serde_json::from_str(&daemon.sandbox_json).unwrap();
    let layer = report.layers.iter().find(|layer| layer.name == "namespaces").unwrap();
    assert_eq!(layer.state, LayerState::Unavailable);
    let task = daemon.run("say here");
    assert_eq!(text_of(&daemon.answer(task).0), "here ");
}

fn a_writable_model_is_refused() {
    let (exit, printed) = Daemon::spawn_writable().exit();
    assert_eq!(exit, code(Exit::Sandbox));
    assert!(printed.contains("descriptor 3 is not a regular file open for reading only"), "{printed}");
}
