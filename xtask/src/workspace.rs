//! Where things are.

use std::fs;
use std::path::{Path, PathBuf};

use crate::failure::{Failure, on_path};

/// The folders that the commands work in.
pub(crate) struct Workspace {
    /// The folder of the workspace's `Cargo.toml`.
    pub(crate) root: PathBuf,
    /// Cargo's target folder; whatever the commands make lives under it.
    pub(crate) target: PathBuf,
}

impl Workspace {
    /// Finds the workspace of the running `cargo xtask`.
    pub(crate) fn locate() -> Result<Self, Failure> {
        let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
            .ok_or_else(|| Failure::new("this program is not run by hand").hint("cargo xtask help"))?;
        let root =
            Path::new(&manifest).parent().expect("a package of the workspace is in a folder of its own").to_owned();
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |path| root.join(path));
        Ok(Self { root, target })
    }

    /// A binary of the release build.
    pub(crate) fn binary(&self, name: &str) -> PathBuf {
        self.target.join("release").join(name)
    }

    /// The text of a file, named relative to the root.
    pub(crate) fn read(&self, path: &str) -> Result<String, Failure> {
        let path = self.root.join(path);
        fs::read_to_string(&path).map_err(on_path(&path))
    }

    /// `path` relative to the root, for messages.
    pub(crate) fn relative<'path>(&self, path: &'path Path) -> &'path Path {
        path.strip_prefix(&self.root).unwrap_or(path)
    }

    /// Our own Rust sources, sorted: crates, stand-ins, commands and fuzz targets.
    pub(crate) fn rust_sources(&self) -> Result<Vec<PathBuf>, Failure> {
        let mut sources = Vec::new();
        for folder in ["crates", "patches", "xtask", "fuzz"] {
            collect(&self.root.join(folder), "rs", &mut sources)?;
        }
        sources.sort();
        Ok(sources)
    }
}

/// Adds every file below `folder` that ends in `.extension`, but nothing out of a target folder.
fn collect(folder: &Path, extension: &str, found: &mut Vec<PathBuf>) -> Result<(), Failure> {
    for entry in fs::read_dir(folder).map_err(on_path(folder))? {
        let path = entry.map_err(on_path(folder))?.path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "target") {
                collect(&path, extension, found)?;
            }
        } else if path.extension().is_some_and(|found| found == extension) {
            found.push(path);
        }
    }
    Ok(())
}
