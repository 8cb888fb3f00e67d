//! `SPEC.md`: each promise names the tests that fail when it stops being true, or says that none does yet.
//!
//! The form, which is also what a reader sees:
//!
//! ```text
//! - **P1.2** No log contains a prompt or an answer.
//!   - test: `crates/darkbloom/tests/canary.rs::marker_is_in_no_log`
//! - **P2.1** Tasks of policy `device` never leave the machine.
//!   - *pending*: policies other than `pool` do not exist yet
//! ```
//!
//! A test exists when its file has its name and when the built tests of that crate list it: one behind a
//! condition that does not hold proves nothing.

use std::collections::BTreeSet;

use super::{Outcome, testing};
use crate::failure::Failure;
use crate::workspace::Workspace;

/// Promises that must appear, each in at least one line.
const PROMISES: std::ops::RangeInclusive<u32> = 1..=10;

/// One promise line with what stands under it.
#[derive(Debug, PartialEq)]
struct Promise<'text> {
    id: &'text str,
    /// `file::test` or `cargo xtask bench --only NAME`, without the backticks.
    proofs: Vec<&'text str>,
    pending: bool,
}

pub(super) fn check(workspace: &Workspace) -> Result<Outcome, Failure> {
    let spec = workspace.read("SPEC.md")?;
    let promises = parse(&spec);
    let tests = testing::list(workspace)?;
    let mut faults = Vec::new();
    for promise in &promises {
        if promise.proofs.is_empty() && !promise.pending {
            faults.push(format!("{}: names no test and does not say *pending*", promise.id));
        }
        for proof in &promise.proofs {
            if let Err(why) = proven(workspace, &tests, proof) {
                faults.push(format!("{}: `{proof}`: {why}", promise.id));
            }
        }
    }
    let mut seen = BTreeSet::new();
    faults.extend(
        promises.iter().filter(|promise| !seen.insert(promise.id)).map(|promise| format!("{}: twice", promise.id)),
    );
    for number in PROMISES {
        let prefix = format!("P{number}.");
        if !promises.iter().any(|promise| promise.id.starts_with(&prefix)) {
            faults.push(format!("P{number}: missing"));
        }
    }
    faults.iter().for_each(|fault| println!("{fault}"));
    if !faults.is_empty() {
        return Err(Failure::new(format!("{} faults in SPEC.md", faults.len())));
    }
    let pending = promises.iter().filter(|promise| promise.pending).count();
    Ok(Outcome::Passed(format!("{} lines, {pending} of them pending", promises.len())))
}

fn parse(spec: &str) -> Vec<Promise<'_>> {
    let mut promises: Vec<Promise<'_>> = Vec::new();
    for line in spec.lines() {
        if let Some((id, _)) = line.strip_prefix("- **").and_then(|rest| rest.split_once("** ")) {
            promises.push(Promise { id, proofs: Vec::new(), pending: false });
        } else if let Some(promise) = promises.last_mut() {
            let item = line.trim_start();
            if let Some(proofs) = item.strip_prefix("- test: ").or_else(|| item.strip_prefix("- measured by: ")) {
                promise.proofs.extend(proofs.split('`').skip(1).step_by(2));
            } else if item.starts_with("- *pending*") {
                promise.pending = true;
            }
        }
    }
    promises
}

/// Whether a proof exists where its name says.
fn proven(workspace: &Workspace, tests: &BTreeSet<testing::Test>, proof: &str) -> Result<(), String> {
    if let Some(benchmark) = proof.strip_prefix("cargo xtask bench --only ") {
        let exists =
            workspace.read("xtask/src/bench.rs").is_ok_and(|source| source.contains(&format!("\"{benchmark}\"")));
        return if exists { Ok(()) } else { Err("no such benchmark in xtask/src/bench.rs".to_owned()) };
    }
    if let Some(package) = proof.strip_prefix("cargo bench -p ") {
        let exists = workspace.root.join("crates").join(package).join("benches").is_dir();
        return if exists { Ok(()) } else { Err("that crate has no benchmarks".to_owned()) };
    }
    if proof == "cargo xtask chaos" {
        let exists = workspace.root.join("xtask/src/chaos.rs").is_file();
        return if exists { Ok(()) } else { Err("there is no such command".to_owned()) };
    }
    if let Some(step) = proof.strip_prefix("cargo xtask ci --only ") {
        let exists = super::STEPS.iter().any(|known| known.name == step);
        return if exists { Ok(()) } else { Err("no such step".to_owned()) };
    }
    let (file, name) = proof.split_once("::").ok_or("not of the form `file::test`")?;
    let source = workspace.read(file).map_err(|_| "no such file")?;
    if !has_word(&source, name) {
        return Err("the file has no such test".to_owned());
    }
    let package = file.strip_prefix("crates/").unwrap_or(file).split('/').next().unwrap_or_default();
    let test = testing::Test { package: package.to_owned(), name: name.to_owned() };
    if tests.contains(&test) { Ok(()) } else { Err(format!("the tests of `{package}` do not list it")) }
}

/// Whether `name` stands in `source` and is not a part of a longer name.
fn has_word(source: &str, name: &str) -> bool {
    source.split(|character: char| !character.is_alphanumeric() && character != '_').any(|word| word == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn promises_are_read_with_their_proofs() {
        let spec = "# Title\n- **P1.1** Text\n  over two lines.\n  - test: `a.rs::b`, `c.rs::d`\n\
                    - **P2.1** Other.\n  - *pending*: why\n- **N1** Rate.\n  - measured by: `cargo xtask bench --only decode`\n\
                    - **P3.1** Nothing.\n";
        let expected = [
            Promise { id: "P1.1", proofs: vec!["a.rs::b", "c.rs::d"], pending: false },
            Promise { id: "P2.1", proofs: vec![], pending: true },
            Promise { id: "N1", proofs: vec!["cargo xtask bench --only decode"], pending: false },
            Promise { id: "P3.1", proofs: vec![], pending: false },
        ];
        assert_eq!(parse(spec), expected);
    }

    #[test]
    fn a_name_inside_a_longer_one_does_not_count() {
        assert!(has_word("#[test]\nfn first() {}", "first"));
        assert!(has_word("denials! { opening: open, }", "opening"));
        assert!(!has_word("fn first_of_all() {}", "first"));
    }
}
