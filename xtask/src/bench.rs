//! Measurements. Every number of `SPEC.md` names the benchmark that obtains it.

use crate::failure::Failure;
use crate::workspace::Workspace;

/// `cargo xtask bench [NAME]`
pub(crate) fn run(_workspace: &Workspace, _arguments: &[&str]) -> Result<(), Failure> {
    Err(Failure::new("no benchmark exists yet"))
}
