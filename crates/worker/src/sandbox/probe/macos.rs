//! macOS has no trials of its own yet.

use super::{Action, Ground, attempt::Attempt};
use std::io;

pub(super) const ACTIONS: &[Action] = &[
    Action::ReadSystemFile,
    Action::ListFolder,
    Action::CreateFile,
    Action::WriteFile,
    Action::RemoveFile,
    Action::CreateFolder,
    Action::ConnectTcp,
    Action::ListenTcp,
    Action::SendUdp,
    Action::Fork,
    Action::Execute,
    Action::SignalParent,
];

/// macOS needs no preparation.
pub(super) fn let_child_trace_us() -> io::Result<()> {
    Ok(())
}

pub(super) fn attempt(action: Action, _: &Ground) -> Attempt {
    unreachable!("{action:?} is not tried on macOS")
}
