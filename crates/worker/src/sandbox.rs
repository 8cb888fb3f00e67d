//! Confinement of the worker: what a process that handles private text and untrusted model files cannot do.
//!
//! The worker starts with a model file, open for reading ([`protocol::ipc::MODEL_FD`]), one socket
//! ([`protocol::ipc::SOCKET_FD`]) and its standard error, and confines itself in this order before it reads a byte of
//! either: other descriptors closed, namespaces left, privileges and core dumps given up, files denied (Landlock or
//! Seatbelt), system calls denied (seccomp). There is no switch that turns any of it off: where a required layer is
//! missing, [`confine`] fails and the worker does not start.
//!
//! The confinement has two stages. In [`Stage::Loading`] the model's own inode may be opened for reading, because
//! llama.cpp opens files by path ([`model_path`]). [`Confined::seal_after_load`] takes opening away altogether and points
//! standard error at nothing, before keys exist and before a task is read: [`Stage::Serving`].

use serde::{Deserialize, Serialize};
use std::{io, path::Path};

#[cfg(target_os = "linux")]
#[path = "sandbox/linux.rs"]
mod platform;
#[cfg(target_os = "macos")]
#[path = "sandbox/macos.rs"]
mod platform;

mod descriptors;
pub mod probe;

/// What holds a worker, and what it was denied when it tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Operating system and version.
    pub kernel: String,
    /// The layers of the confinement, in the order in which they were put on.
    pub layers: Vec<Layer>,
    /// What [`probe`] tried; empty in the report of a worker that serves.
    pub denials: Vec<Denial>,
}

/// One layer of the confinement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// Its name: `descriptors`, `namespaces`, `privileges`, `limits`, `landlock`, `seccomp`, `seatbelt`, `sealed`.
    pub name: String,
    /// Whether it holds.
    pub state: LayerState,
    /// What exactly holds, or why it does not.
    pub detail: String,
}

impl Layer {
    fn enforced(name: &str, detail: impl Into<String>) -> Self {
        Self { name: name.to_owned(), state: LayerState::Enforced, detail: detail.into() }
    }
}

/// Whether a layer holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LayerState {
    /// All of it.
    Enforced,
    /// What this kernel knows of it; other layers cover the rest.
    Partial,
    /// This machine does not permit it. Only layers that are not required are ever in this state.
    Unavailable,
}

/// One thing that a worker must not be able to do, and what happened when it tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denial {
    /// What was tried.
    pub action: probe::Action,
    /// When.
    pub stage: Stage,
    /// Whether the kernel refused.
    pub denied: bool,
    /// The call that decided and its result, such as `socket: EPERM`.
    pub by: String,
}

/// When in a worker's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Confined; the model may be opened.
    Loading,
    /// Nothing may be opened any more; keys and tasks exist only now.
    Serving,
    /// No confinement at all: the control that shows that the probe can fail.
    Unconfined,
}

/// Why a worker cannot be confined. It does not start then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SandboxError {
    /// Landlock and namespaces hold the calling thread only, so no other may exist yet.
    #[error("the worker has {threads} threads before it is confined, expected 1")]
    Threads {
        /// How many.
        threads: usize,
    },
    /// A descriptor is not what the node daemon should have opened.
    #[error("descriptor {descriptor} is not {expected}; a worker is started by a node daemon, not by hand")]
    Descriptor {
        /// Its number.
        descriptor: i32,
        /// What it should be.
        expected: &'static str,
    },
    /// A required step failed.
    #[error("cannot {step}: {source}")]
    Step {
        /// What was being done.
        step: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// A required layer is missing in this kernel.
    #[error("{layer} is not available: {why}; {remedy}")]
    Unavailable {
        /// Which.
        layer: &'static str,
        /// What the kernel said.
        why: String,
        /// What the owner can do.
        remedy: &'static str,
    },
}

/// A `map_err` for a required step.
fn step(step: &'static str) -> impl Fn(io::Error) -> SandboxError {
    move |source| SandboxError::Step { step, source }
}

/// The calling process is confined. Nothing undoes it.
#[derive(Debug)]
pub struct Confined {
    report: Report,
}

impl Confined {
    /// The layers that hold now.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Takes away what only loading needed: from here nothing can be opened, and standard error leads nowhere, so that
    /// not even a diagnostic message of the engine can carry content out.
    pub fn seal_after_load(mut self) -> Result<Report, SandboxError> {
        self.report.layers.push(platform::seal_after_load()?);
        Ok(self.report)
    }
}

/// Confines the calling process for good. To be called first in `main`, while there is one thread.
///
/// Descriptors other than the model, the socket and standard error are closed; standard input and output lead nowhere.
pub fn confine() -> Result<Confined, SandboxError> {
    // Asked before the confinement, which denies asking too.
    let kernel = kernel();
    Ok(Confined { report: Report { kernel, layers: platform::confine()?, denials: Vec::new() } })
}

/// The kernel's name, version and machine.
fn kernel() -> String {
    // SAFETY: all zeros is a valid `utsname`, a struct of characters.
    let mut name: libc::utsname = unsafe { std::mem::zeroed() };
    // SAFETY: `name` outlives the call, which fills its fields with terminated strings.
    if unsafe { libc::uname(&mut name) } != 0 {
        return std::env::consts::OS.to_owned();
    }
    let text = |field: &[libc::c_char]| -> String {
        field.iter().take_while(|byte| **byte != 0).map(|byte| char::from(*byte as u8)).collect()
    };
    format!("{} {} {}", text(&name.sysname), text(&name.release), text(&name.machine))
}

/// Where a confined worker opens its model.
pub fn model_path() -> &'static Path {
    Path::new(platform::MODEL_PATH)
}
