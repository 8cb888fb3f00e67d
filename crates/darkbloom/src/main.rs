//! `darkbloom`: every role of a pool, and what a person types.
//!
//! Data goes to standard output, everything else to standard error. Errors have a cause and, where there is one, a
//! remedy behind `hint:`. Exit status: 0 done, 1 failed, 2 the command line is wrong, 130 interrupted twice.

// Nothing outside a program sees its items: `pub` says here what other modules use.
#![allow(unreachable_pub)]

mod amount;
mod cli;
mod commands;
mod control;
mod failure;
mod home;
mod lending;
mod models;
mod progress;
mod report;
mod shutdown;

use clap::Parser;
use std::{io::IsTerminal, process::ExitCode};

fn main() -> ExitCode {
    let arguments = cli::Arguments::parse();
    logging();
    open_files();
    // The TLS of every HTTP client in this process. Nobody has set another before.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime =
        match tokio::runtime::Builder::new_multi_thread().worker_threads(runtime_threads()).enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return failure::Failure::new(format!("cannot start: {error}")).print(),
        };
    let result = runtime.block_on(commands::run(arguments));
    // What still runs in the background has had its time to drain.
    runtime.shutdown_background();
    match result {
        Ok(code) => code,
        Err(failure) => failure.print(),
    }
}

/// The daemons move small messages; the cores belong to the worker. More threads would only cost memory.
fn runtime_threads() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 4)
}

/// A gateway with a thousand idle connections needs more descriptors than the usual soft limit gives.
fn open_files() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    /// macOS refuses more than its `OPEN_MAX`.
    const WANTED: u64 = 10_240;
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < WANTED
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, WANTED.min(hard), hard)
    {
        tracing::warn!(%error, soft, "the limit on open files stays low");
    }
}

/// Logs go to standard error; `DARKBLOOM_LOG` chooses what is logged, as in `DARKBLOOM_LOG=info,iroh=warn`.
fn logging() {
    // What a download has to say is on its progress bar; the transport's own troubles are on our links.
    const DEFAULT_LOG: &str = "warn,swarm=error,iroh=off,noq=off,noq_proto=off,noq_udp=off";
    let terminal = std::io::stderr().is_terminal();
    let filter = tracing_subscriber::EnvFilter::try_from_env("DARKBLOOM_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(DEFAULT_LOG));
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(terminal).with_writer(std::io::stderr).init();
}
