//! Files that are generated and committed: they must be what the code generates now.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::Outcome;
use crate::failure::{Failure, on_path};
use crate::process::{command, run};
use crate::workspace::Workspace;

const SCHEMAS: &str = "docs/schemas";

pub(super) fn check(workspace: &Workspace) -> Result<Outcome, Failure> {
    let fresh_folder = workspace.target.join("schemas");
    if fresh_folder.exists() {
        fs::remove_dir_all(&fresh_folder).map_err(on_path(&fresh_folder))?;
    }
    fs::create_dir_all(&fresh_folder).map_err(on_path(&fresh_folder))?;
    run(command(workspace, workspace.binary("darkbloom")).args(["schema", "--dir"]).arg(&fresh_folder))?;

    let fresh = files(&fresh_folder)?;
    let committed = files(&workspace.root.join(SCHEMAS))?;
    if fresh.is_empty() {
        return Err(Failure::new("`darkbloom schema` wrote nothing"));
    }
    let mut faults = Vec::new();
    for (name, text) in &fresh {
        match committed.get(name) {
            None => faults.push(format!("{SCHEMAS}/{name}: missing")),
            Some(old) if old != text => faults.push(format!("{SCHEMAS}/{name}: not what the code says")),
            Some(_) => {}
        }
    }
    let left_over = committed.keys().filter(|name| !fresh.contains_key(*name));
    faults.extend(left_over.map(|name| format!("{SCHEMAS}/{name}: the code no longer has it")));
    faults.iter().for_each(|fault| println!("{fault}"));
    if faults.is_empty() {
        Ok(Outcome::Passed(format!("{} schemas", fresh.len())))
    } else {
        Err(Failure::new("generated files are stale").hint(format!("target/release/darkbloom schema --dir {SCHEMAS}")))
    }
}

/// Name and text of every file in a folder; a missing folder has none.
fn files(folder: &Path) -> Result<BTreeMap<String, String>, Failure> {
    let mut files = BTreeMap::new();
    if !folder.exists() {
        return Ok(files);
    }
    for entry in fs::read_dir(folder).map_err(on_path(folder))? {
        let path = entry.map_err(on_path(folder))?.path();
        let text = fs::read_to_string(&path).map_err(on_path(&path))?;
        files.insert(path.file_name().unwrap_or_default().to_string_lossy().into_owned(), text);
    }
    Ok(files)
}
