//! What may depend on what.

use super::Outcome;
use crate::failure::Failure;
use crate::process::{cargo, output};
use crate::workspace::Workspace;

/// Our crates from the ground up; the rows of `ARCHITECTURE.md`. A crate depends only on crates of lower rows, so time,
/// randomness and I/O enter at the top.
const ROWS: &[&[&str]] = &[
    &["protocol"],
    &["trust"],
    &["registry"],
    &["scheduler"],
    &["transport", "swarm", "engine", "owner", "consensus"],
    &["client", "node", "worker", "committee"],
    &["orchestrator"],
    &["gateway", "testbed", "sim"],
    &["darkbloom"],
];

/// Members of the workspace that are no part of the house: these commands, and what stands in for a crate of others.
const OUTSIDE: &[&str] = &["xtask", "aws-lc-rs"];

pub(super) fn check(workspace: &Workspace) -> Result<Outcome, Failure> {
    let members = output(&mut cargo(workspace, "tree --workspace --locked --depth 0 --prefix none --format {p}"))?;
    let mut faults = Vec::new();
    let mut count = 0;
    for name in members
        .lines()
        .filter_map(|line| line.split(' ').next())
        .filter(|name| !name.is_empty() && !OUTSIDE.contains(name))
    {
        count += 1;
        let manifest = workspace.read(&format!("crates/{name}/Cargo.toml"))?;
        faults.extend(faults_of(name, &dependencies(&manifest)));
    }
    faults.iter().for_each(|fault| println!("{fault}"));
    if faults.is_empty() {
        Ok(Outcome::Passed(format!("{count} crates")))
    } else {
        Err(Failure::new("a dependency does not point down").hint("ARCHITECTURE.md says the rows"))
    }
}

fn row(name: &str) -> Option<usize> {
    ROWS.iter().position(|row| row.contains(&name))
}

fn faults_of(name: &str, dependencies: &[&str]) -> Vec<String> {
    let Some(own) = row(name) else {
        return vec![format!("{name}: is in no row; give it one in ARCHITECTURE.md and xtask/src/ci/layers.rs")];
    };
    dependencies
        .iter()
        .filter(|dependency| row(dependency).is_some_and(|other| other >= own))
        .map(|dependency| format!("{name}: depends on `{dependency}`, which is not below it"))
        .collect()
}

/// Names in the `[dependencies]` tables of a manifest; those for tests may point anywhere.
fn dependencies(manifest: &str) -> Vec<&str> {
    let mut names = Vec::new();
    let mut inside = false;
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line.ends_with("dependencies]") && !line.contains("dev-dependencies");
        } else if inside && let Some((name, _)) = line.split_once(['.', ' ', '=']) {
            names.push(name);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dependency_upwards_or_sideways_is_a_fault() {
        assert_eq!(faults_of("node", &["protocol", "transport", "tokio"]), Vec::<String>::new());
        assert_eq!(faults_of("node", &["client"]).len(), 1);
        assert_eq!(faults_of("protocol", &["darkbloom"]).len(), 1);
        assert_eq!(faults_of("something-new", &[]).len(), 1);
    }

    #[test]
    fn dependencies_for_tests_do_not_count() {
        let manifest = "[package]\nname = \"a\"\n[dependencies]\nprotocol.workspace = true\nserde = \"1\"\n\
                        [dev-dependencies]\ntestbed.workspace = true\n\
                        [target.'cfg(unix)'.dependencies]\nnix.workspace = true\n";
        assert_eq!(dependencies(manifest), ["protocol", "serde", "nix"]);
    }
}
