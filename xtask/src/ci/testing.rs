//! All tests of the workspace, with the real things that some of them need.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

use super::{Outcome, python};
use crate::failure::Failure;
use crate::process::{cargo, command, output, run};
use crate::workspace::Workspace;

/// Builds what the tests are, and checks that this compiles no dependency that the ordinary build has compiled already:
/// llama.cpp and iroh cost minutes.
///
/// A second compilation comes from a feature that only a dependency for tests switches on. It shows in a fresh target
/// folder, as CI has it; where everything has been built before, there is nothing to see.
pub(super) fn build(workspace: &Workspace) -> Result<Outcome, Failure> {
    let tree =
        output(&mut cargo(workspace, "tree --workspace --locked --edges normal,build --prefix none --format {p}"))?;
    let built: BTreeSet<&str> = tree.lines().map(|line| line.trim_end_matches(" (*)")).collect();

    let line = "test --release --workspace --locked --no-run";
    println!("$ cargo {line}");
    let start = |error| Failure::new(format!("cargo could not be started: {error}"));
    let mut child = cargo(workspace, line).stderr(Stdio::piped()).spawn().map_err(start)?;
    let messages = BufReader::new(child.stderr.take().expect("it was piped"));
    let mut again = BTreeSet::new();
    for line in messages.lines().map_while(Result::ok) {
        eprintln!("{line}");
        again.extend(compiled(&line).filter(|package| built.contains(package)).map(str::to_owned));
    }
    let status = child.wait().map_err(start)?;
    if !status.success() {
        return Err(Failure::new(format!("the tests do not build: {status}")));
    }
    if again.is_empty() {
        return Ok(Outcome::passed());
    }
    let again = again.into_iter().collect::<Vec<_>>().join(", ");
    Err(Failure::new(format!("compiled for the tests although the build has compiled it: {again}"))
        .hint("name the dependency for tests that switches a feature on in `crates/testbed/Cargo.toml`"))
}

/// The package that a line of cargo's progress says is being compiled, unless it is one of ours, which stand with their
/// path.
fn compiled(line: &str) -> Option<&str> {
    line.trim_start().strip_prefix("Compiling ").filter(|package| !package.contains(" ("))
}

/// A test, as its program lists it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Test {
    /// The folder of its package.
    pub(super) package: String,
    /// Its function, without the modules around it.
    pub(super) name: String,
}

/// Every test of the workspace. (The step `sources` refuses those that are marked as not to be run.)
pub(super) fn list(workspace: &Workspace) -> Result<BTreeSet<Test>, Failure> {
    let line = "test --release --workspace --locked --no-run --message-format json-render-diagnostics";
    let messages = output(&mut cargo(workspace, line))?;
    let mut tests = BTreeSet::new();
    for message in messages.lines() {
        let (Some(manifest), Some(program)) = (member(message, "manifest_path"), member(message, "executable")) else {
            continue;
        };
        let profile = message.split_once("\"profile\":{").and_then(|(_, rest)| rest.split('}').next());
        if !profile.is_some_and(|profile| profile.contains("\"test\":true")) {
            continue; // a program that the tests use
        }
        let folder = Path::new(manifest).parent().expect("a manifest is in a folder");
        let package = folder.file_name().unwrap_or_default().to_string_lossy();
        let listed = output(command(workspace, program).current_dir(folder).arg("--list"))?;
        tests.extend(listed.lines().filter_map(|line| line.strip_suffix(": test")).map(|path| Test {
            package: package.clone().into_owned(),
            name: path.rsplit("::").next().unwrap_or(path).to_owned(),
        }));
    }
    Ok(tests)
}

/// The text of a member of one of cargo's messages, whose paths hold nothing that JSON would escape.
fn member<'message>(message: &'message str, name: &str) -> Option<&'message str> {
    let (_, rest) = message.split_once(&format!("\"{name}\":\""))?;
    rest.split('"').next()
}

/// Runs them.
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
    if Path::new(&path).is_file() {
        Ok(path)
    } else {
        Err(Failure::new(format!("`darkbloom models path default` says `{path}`, which is not a file")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_foreign_packages_that_are_compiled_count() {
        assert_eq!(compiled("   Compiling iroh v1.4.1"), Some("iroh v1.4.1"));
        assert_eq!(compiled("   Compiling protocol v0.1.0 (/home/me/darkbloom/crates/protocol)"), None);
        assert_eq!(compiled("    Finished `release` profile [optimized] target(s) in 0.10s"), None);
    }

    #[test]
    fn members_of_messages_are_found() {
        let message =
            r#"{"reason":"compiler-artifact","manifest_path":"/a/crates/b/Cargo.toml","executable":"/a/b-1"}"#;
        assert_eq!(member(message, "executable"), Some("/a/b-1"));
        assert_eq!(member(r#"{"executable":null}"#, "executable"), None);
    }
}
