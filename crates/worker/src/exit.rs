//! How a worker process ends.

use std::process::ExitCode;

/// Why a worker process ended: its exit code. Those above 0 follow `sysexits.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[non_exhaustive]
pub enum Exit {
    /// It was told to.
    Shutdown = 0,
    /// Its arguments were wrong.
    Usage = 64,
    /// The model did not load; the reason went over the socket and to standard error.
    Model = 65,
    /// A panic. Nothing of it is printed but, before the model is loaded, its place in the source.
    Panic = 70,
    /// The daemon is gone or reads nothing any more.
    DaemonGone = 74,
    /// The engine cannot compute; a new process may.
    Engine = 75,
    /// The daemon sent something that is no message.
    Protocol = 76,
    /// The sandbox cannot hold on this machine; the reason went to standard error.
    Sandbox = 77,
}

impl Exit {
    /// Ends the process where it stands: no destructor of the engine's library runs beside its own working threads.
    pub(crate) fn now(self) -> ! {
        // SAFETY: ends the process; nothing of it is used any more.
        unsafe { libc::_exit(i32::from(self as u8)) }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
