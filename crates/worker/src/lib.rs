//! The worker: a process of its own for one loaded model, the only place on a lent machine where a prompt is readable.
//!
//! A node daemon starts it with a model file and one socket ([`launch`]). The worker confines itself before it reads a
//! byte of either ([`sandbox`]), loads the model, takes away what only loading needed, makes its keys, says `Ready`, and
//! then turns sealed tasks into sealed frames until it is told to end or the daemon is gone. Its messages are
//! [`protocol::ipc`]; the daemon never sees more than ciphertext and counts.
//!
//! A program is this library and an engine:
//!
//! ```no_run
//! # #[cfg(feature = "llama")]
//! fn main() -> std::process::ExitCode {
//!     worker::run(|path, _options| Ok(Box::new(engine::LlamaEngine::load(path, Default::default())?)))
//! }
//! # #[cfg(not(feature = "llama"))]
//! # fn main() {}
//! ```
//!
//! Invariants:
//! * no task is read before the sandbox holds in its second stage; where it cannot hold, nothing is read at all;
//! * private keys are born after that and never leave: they rotate by time and by count, and are wiped when their grace
//!   is over;
//! * a sealing is run at most once; what is truncated, changed, replayed or too much gets a typed
//!   [`protocol::ipc::Rejection`], which the daemon counts, and nothing else happens;
//! * content is in memory only, is wiped after use, and never logged: once the model is loaded standard error leads
//!   nowhere, and a panic ends the process at once without a message;
//! * every queue has a bound; cancelling takes at most one step of the engine, and interrupts a rest;
//! * while a task waits or runs there is a sign of life in every [`protocol::stream::KEEP_ALIVE_MS`], however long a step
//!   takes; a process that does not run gives none, and an idle one neither;
//! * of the time it computes no more than [`Options::duty_percent`];
//! * the process never outlives the daemon's end of the socket.

pub mod launch;
pub mod sandbox;

mod alive;
mod arguments;
mod duty;
mod exit;
mod inbox;
mod keys;
mod outbox;
mod reader;
mod serve;

pub use arguments::{ArgumentError, Options};
pub use exit::Exit;

use arguments::Command;
use duty::Duty;
use engine::Engine;
use inbox::Inbox;
use keys::{KeyRing, Rotation};
use outbox::Outbox;
use protocol::ipc::{FromWorker, SOCKET_FD};
use reader::Reader;
use std::{
    error::Error,
    fs::File,
    os::fd::FromRawFd,
    path::Path,
    process::ExitCode,
    sync::{Arc, Mutex},
};

/// Why a model did not load, in the engine's words; the owner of the machine reads it.
pub type LoadFailure = Box<dyn Error>;

/// The whole life of a worker process, to be called first in `main`. `load` opens the model with any engine; it runs
/// inside the sandbox.
pub fn run(load: impl FnOnce(&Path, &Options) -> Result<Box<dyn Engine>, LoadFailure>) -> ExitCode {
    let command = match Command::parse(std::env::args_os().skip(1)) {
        Ok(command) => command,
        Err(error) => {
            eprintln!("error: {error}");
            return Exit::Usage.into();
        }
    };
    match command {
        Command::Probe { unconfined } => sandbox::probe::run(unconfined),
        Command::ProbeInside { folder, unconfined } => sandbox::probe::run_inside(&folder, unconfined),
        Command::ProbeExecuted => ExitCode::SUCCESS,
        Command::Work(options) => work(&options, load).into(),
    }
}

fn work(options: &Options, load: impl FnOnce(&Path, &Options) -> Result<Box<dyn Engine>, LoadFailure>) -> Exit {
    // No unwinding, no message: the process ends where it stands, and the node starts another.
    std::panic::set_hook(Box::new(|panic| {
        if let Some(location) = panic.location() {
            eprintln!("panicked at {location}");
        }
        Exit::Panic.now()
    }));
    let confined = match sandbox::confine() {
        Ok(confined) => confined,
        Err(error) => {
            eprintln!("error: cannot confine the worker: {error}");
            return Exit::Sandbox;
        }
    };
    // SAFETY: the daemon gave this descriptor to this process alone, `confine` has checked it, nothing else owns it.
    let socket = Arc::new(unsafe { File::from_raw_fd(SOCKET_FD) });
    let outbox = Arc::new(Outbox::new(Arc::clone(&socket)));
    let inbox = Arc::new(Inbox::default());
    let keys = Arc::new(Mutex::new(KeyRing::empty(Rotation::default())));
    let reader = Reader { inbox: Arc::clone(&inbox), outbox: Arc::clone(&outbox), keys: Arc::clone(&keys) };
    // From here on, so that a worker whose daemon dies while the model loads goes too.
    std::thread::spawn(move || reader.run(socket).now());

    let fail = |why: String| {
        eprintln!("error: {why}");
        outbox.put(&FromWorker::Failed { why });
        // The daemon may be gone; the exit code says the same.
        let _ = outbox.flush();
    };
    let mut engine = match load(sandbox::model_path(), options) {
        Ok(engine) => engine,
        Err(error) => {
            fail(with_causes(&*error));
            return Exit::Model;
        }
    };
    let report = match confined.seal_after_load() {
        Ok(report) => report,
        Err(error) => {
            fail(format!("cannot seal the sandbox: {error}"));
            return Exit::Sandbox;
        }
    };
    let signs = (Arc::clone(&inbox), Arc::clone(&outbox));
    std::thread::spawn(move || alive::run(&signs.0, &signs.1, alive::PERIOD));
    let duty = Duty::of_percent(options.duty_percent.unwrap_or(100));
    let exit = serve::serve(&mut *engine, &inbox, &outbox, &keys, &report, duty);
    keys.lock().expect("a panic ends the process").clear();
    // At once: memory goes back to the owner of the machine without the engine's library taking it apart first.
    exit.now()
}

fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
