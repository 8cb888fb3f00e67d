//! Type-checks the code for macOS, everywhere.
//!
//! On a Mac that is an ordinary check. Elsewhere no toolchain of rustup is needed: Debian's `rustc-web` brings the
//! sources of the standard library, which cargo then checks for the Mac as well, and `ziglang` from PyPI compiles the C
//! of ring and BLAKE3. llama.cpp with Metal needs Apple's SDK, so the feature `llama` is off. Nothing is linked
//! and nothing runs: this proves types, no more.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::{Outcome, python};
use crate::failure::{Failure, on_path};
use crate::process::{cargo, command, run, succeeds};
use crate::workspace::Workspace;

const TARGET: &str = "aarch64-apple-darwin";
const PACKAGES: &[&str] = &["rustc-web", "cargo-web", "rust-web-src"];

pub(super) fn check(workspace: &Workspace) -> Result<Outcome, Failure> {
    if cfg!(target_os = "macos") {
        run(&mut cargo(workspace, "check --release --workspace --all-targets --locked"))?;
        return Ok(Outcome::passed());
    }
    if !succeeds(command(workspace, "apt-get").arg("--version")) {
        return Ok(Outcome::NotChecked(
            "needs a Mac, or Debian with its packages rustc-web and rust-web-src".to_owned(),
        ));
    }
    install_toolchain(workspace)?;
    let folder = workspace.target.join("macos-check");
    let tools = Tools::write(&folder, &python::environment(workspace, "macos")?)?;

    let line = format!(
        "check --workspace --no-default-features --locked --target {TARGET} -Zbuild-std=std,panic_unwind,panic_abort"
    );
    run(command(workspace, "/usr/bin/cargo")
        .args(line.split(' '))
        // `cargo run` puts the libraries of its own toolchain there.
        .env_remove("LD_LIBRARY_PATH")
        .env_remove("RUSTFLAGS")
        .env_remove("RUSTUP_TOOLCHAIN")
        .env("RUSTC", "/usr/bin/rustc")
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_TARGET_DIR", &folder)
        .env("SDKROOT", &tools.sdk)
        .env("ZIG_GLOBAL_CACHE_DIR", folder.join("zig-cache"))
        .env("ZIG_LOCAL_CACHE_DIR", folder.join("zig-cache"))
        .env("CC_aarch64_apple_darwin", &tools.compiler)
        .env("CXX_aarch64_apple_darwin", &tools.compiler)
        .env("AR_aarch64_apple_darwin", &tools.archiver))?;
    Ok(Outcome::Passed("types only; without llama.cpp".to_owned()))
}

fn install_toolchain(workspace: &Workspace) -> Result<(), Failure> {
    let is_installed = |package: &&&str| {
        let mut query = command(workspace, "dpkg-query");
        let query = query.args(["--show", "--showformat=${db:Status-Status}", package]).output();
        query.is_ok_and(|output| output.stdout == b"installed")
    };
    if PACKAGES.iter().all(|package| is_installed(&package)) {
        return Ok(());
    }
    println!("installing {}: a Rust toolchain with the sources of its standard library", PACKAGES.join(", "));
    let is_root = command(workspace, "id").arg("-u").output().is_ok_and(|output| output.stdout.trim_ascii() == b"0");
    let apt_get = |arguments: &[&str]| {
        let mut apt_get = command(workspace, if is_root { "env" } else { "sudo" });
        if !is_root {
            apt_get.arg("env");
        }
        apt_get.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "-q"]).args(arguments);
        run(&mut apt_get).map_err(|failure| failure.hint(format!("apt-get install {}", PACKAGES.join(" "))))
    };
    apt_get(&["update"])?;
    apt_get(&[&["install", "-y", "--no-install-recommends"], PACKAGES].concat())
}

/// The C tools of the check.
struct Tools {
    compiler: PathBuf,
    archiver: PathBuf,
    /// An empty folder: what is checked includes no header of Apple.
    sdk: PathBuf,
}

impl Tools {
    fn write(folder: &Path, python: &Path) -> Result<Self, Failure> {
        let tools = Self { compiler: folder.join("cc"), archiver: folder.join("ar"), sdk: folder.join("sdk") };
        fs::create_dir_all(&tools.sdk).map_err(on_path(&tools.sdk))?;
        let python = python.display();
        // zig names the platform in its own way and does not know Apple's flags for it.
        let compiler = format!(
            r#"#!/bin/sh
skip=
for argument do
    shift
    if [ -n "$skip" ]; then skip=; continue; fi
    case $argument in
        -arch|-isysroot|--target|-target) skip=yes ;;
        --target=*|-mmacosx-version-min=*|-mmacos-version-min=*) ;;
        *) set -- "$@" "$argument" ;;
    esac
done
exec '{python}' -m ziglang cc -target aarch64-macos "$@"
"#
        );
        write_script(&tools.compiler, &compiler)?;
        write_script(&tools.archiver, &format!("#!/bin/sh\nexec '{python}' -m ziglang ar \"$@\"\n"))?;
        Ok(tools)
    }
}

fn write_script(path: &Path, text: &str) -> Result<(), Failure> {
    // The same text is not written again: build scripts watch these files.
    if !fs::read_to_string(path).is_ok_and(|old| old == text) {
        fs::write(path, text).map_err(on_path(path))?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).map_err(on_path(path))
}
