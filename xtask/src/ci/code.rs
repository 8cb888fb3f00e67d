//! What the compiler and its companions check.
//!
//! Everything is in the release profile, the only one: what `make up` has compiled is not compiled again. Clippy and
//! rustdoc share one pass of metadata over the dependencies, and the build scripts' results (llama.cpp above all) with
//! the build.

use super::Outcome;
use crate::failure::Failure;
use crate::process::{cargo, run};
use crate::workspace::Workspace;

pub(super) fn format(workspace: &Workspace) -> Result<Outcome, Failure> {
    run(&mut cargo(workspace, "fmt --all --check")).map_err(|failure| failure.hint("cargo fmt --all"))?;
    run(&mut cargo(workspace, "fmt --manifest-path fuzz/Cargo.toml --check"))
        .map_err(|failure| failure.hint("cargo fmt --manifest-path fuzz/Cargo.toml"))?;
    Ok(Outcome::passed())
}

pub(super) fn build(workspace: &Workspace) -> Result<Outcome, Failure> {
    run(&mut cargo(workspace, "build --release --workspace --locked"))?;
    Ok(Outcome::passed())
}

pub(super) fn clippy(workspace: &Workspace) -> Result<Outcome, Failure> {
    run(&mut cargo(workspace, "clippy --release --workspace --all-targets --locked -- -D warnings"))?;
    Ok(Outcome::passed())
}

pub(super) fn docs(workspace: &Workspace) -> Result<Outcome, Failure> {
    run(cargo(workspace, "doc --release --no-deps --workspace --locked").env("RUSTDOCFLAGS", "-D warnings"))?;
    Ok(Outcome::passed())
}
