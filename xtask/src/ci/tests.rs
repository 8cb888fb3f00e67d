//! All tests of the workspace, with the real things that some of them need.

use super::{Outcome, python};
use crate::failure::Failure;
use crate::process::{cargo, command, output, run};
use crate::workspace::Workspace;

pub(super) fn run_all(workspace: &Workspace) -> Result<Outcome, Failure> {
    let python = python::environment(workspace, "tests")?;
    let model = default_model(workspace)?;
    let mut tests = cargo(workspace, "test --release --workspace --locked --no-fail-fast");
    tests.env("DARKBLOOM_TEST_MODEL", &model).env("DARKBLOOM_TEST_PYTHON", &python);
    // Tests that start whole pools compute on two threads each: more of them at once would only starve each other.
    if std::env::var_os("RUST_TEST_THREADS").is_none() {
        tests.env("RUST_TEST_THREADS", "2");
    }
    println!("DARKBLOOM_TEST_MODEL={model}\nDARKBLOOM_TEST_PYTHON={}", python.display());
    run(&mut tests)?;
    Ok(Outcome::passed())
}

/// The file of the default chat model, fetched the way a user's machine fetches it, and kept for the next run.
fn default_model(workspace: &Workspace) -> Result<String, Failure> {
    let home = workspace.target.join("test-home");
    let darkbloom = workspace.binary("darkbloom");
    run(command(workspace, &darkbloom).args(["models", "pull", "default", "--home"]).arg(&home))?;
    let path = output(command(workspace, &darkbloom).args(["models", "path", "default", "--home"]).arg(&home))?;
    let path = path.trim().to_owned();
    if std::path::Path::new(&path).is_file() {
        Ok(path)
    } else {
        Err(Failure::new(format!("`darkbloom models path default` says `{path}`, which is not a file")))
    }
}
