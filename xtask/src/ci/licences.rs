//! What is in the dependency tree, and whether it may be: `cargo-deny` with `deny.toml`.

use super::Outcome;
use crate::failure::Failure;
use crate::fuzz;
use crate::process::{cargo, command, output, run, succeeds};
use crate::workspace::Workspace;

/// Measured: installing it takes 3.7 CPU-minutes, once per target folder.
const CARGO_DENY: &str = "0.20.2";

/// Licences, refused crates, and sources, of the workspace and of the fuzz targets.
pub(super) fn licences(workspace: &Workspace) -> Result<Outcome, Failure> {
    let cargo_deny = cargo_deny(workspace)?;
    for manifest in ["Cargo.toml", "fuzz/Cargo.toml"] {
        let line = format!("--locked --manifest-path {manifest} --config deny.toml check licenses bans sources");
        run(command(workspace, &cargo_deny).args(line.split(' '))).map_err(|failure| {
            failure.hint("choose another crate, or argue for an entry in deny.toml").hint(fuzz::STALE_LOCK)
        })?;
    }
    Ok(Outcome::passed())
}

/// Known vulnerabilities and yanked versions. The database is a git repository, not a package of a registry: a machine
/// that reaches only registries cannot have it, and is told so.
pub(super) fn advisories(workspace: &Workspace) -> Result<Outcome, Failure> {
    let cargo_deny = cargo_deny(workspace)?;
    if run(command(workspace, &cargo_deny).args(["fetch", "db"])).is_err() {
        return Ok(Outcome::NotChecked("the advisory database cannot be reached from this machine".to_owned()));
    }
    run(command(workspace, &cargo_deny).args(["--locked", "check", "advisories"])).map_err(|failure| {
        failure.hint("update or replace the crate; or give the reason why it is harmless in deny.toml")
    })?;
    Ok(Outcome::passed())
}

/// The pinned `cargo-deny`: the one on the PATH, or one installed into the target folder.
fn cargo_deny(workspace: &Workspace) -> Result<std::path::PathBuf, Failure> {
    let tools = workspace.target.join("tools");
    let own = tools.join("bin/cargo-deny");
    for candidate in ["cargo-deny".into(), own.clone()] {
        if succeeds(command(workspace, &candidate).arg("--version"))
            && output(command(workspace, &candidate).arg("--version"))?.contains(CARGO_DENY)
        {
            return Ok(candidate);
        }
    }
    let line = format!("install cargo-deny --version {CARGO_DENY} --locked --quiet");
    run(cargo(workspace, &line).arg("--root").arg(&tools))?;
    Ok(own)
}
