//! Virtual environments for what PyPI brings: the SDK that drives the gateway, the C compiler for macOS.

use std::fs;
use std::path::PathBuf;

use crate::failure::{Failure, on_path};
use crate::process::{command, run};
use crate::workspace::Workspace;

/// The interpreter of the environment `name` with exactly `xtask/python/{name}.txt` installed; made when it is missing
/// or the list has changed.
pub(super) fn environment(workspace: &Workspace, name: &str) -> Result<PathBuf, Failure> {
    let list = workspace.root.join("xtask/python").join(name).with_extension("txt");
    let wanted = fs::read_to_string(&list).map_err(on_path(&list))?;
    let folder = workspace.target.join("python").join(name);
    let python = folder.join("bin/python");
    // Written last: an installation that was cut off does not count.
    let installed = folder.join("installed.txt");
    if fs::read_to_string(&installed).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    run(command(workspace, "python3").args(["-m", "venv", "--clear"]).arg(&folder))
        .map_err(|failure| failure.hint("`make prepare` installs what is missing"))?;
    run(command(workspace, &python).args(["-m", "pip", "install", "--quiet", "--requirement"]).arg(&list))?;
    fs::write(&installed, wanted).map_err(on_path(&installed))?;
    Ok(python)
}
