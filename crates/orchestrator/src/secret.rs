//! The admission secret: whoever knows it can join. A file of its own, so that copies of the store hold no secret.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};
use zeroize::Zeroizing;

/// Readable and writable by the owner only.
const OWNER_ONLY: u32 = 0o600;

/// Why the admission secret cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// The file cannot be read or written.
    #[error("cannot keep the admission secret in {}: {cause}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// The pool exists, and its secret does not.
    #[error(
        "{} is missing or not the secret of this pool: restore it, or start a new pool with another store",
        path.display()
    )]
    NotThisPool {
        /// The file.
        path: PathBuf,
    },
}

/// The secret's file beside a store.
pub(crate) fn path_beside(store: &Path) -> PathBuf {
    let mut path = store.as_os_str().to_owned();
    path.push(".secret");
    path.into()
}

/// The secret in the file, if there is one of the right length.
pub(crate) fn read(path: &Path) -> Result<Option<Zeroizing<[u8; 32]>>, SecretError> {
    let fail = |cause| SecretError::File { path: path.to_owned(), cause };
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fail(error)),
    };
    let metadata = file.metadata().map_err(fail)?;
    if metadata.permissions().mode() & 0o077 != 0 {
        tracing::warn!(path = %path.display(), "others could read the admission secret; closing it to them now");
        file.set_permissions(fs::Permissions::from_mode(OWNER_ONLY)).map_err(fail)?;
    }
    let mut secret = Zeroizing::new([0; 32]);
    if metadata.len() != 32 {
        return Ok(None);
    }
    file.read_exact(&mut *secret).map_err(fail)?;
    Ok(Some(secret))
}

/// A fresh secret, in the file for good when this returns.
pub(crate) fn create(path: &Path) -> Result<Zeroizing<[u8; 32]>, SecretError> {
    let mut secret = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *secret).expect("the operating system has a random source");
    write(path, &secret).map_err(|cause| SecretError::File { path: path.to_owned(), cause })?;
    Ok(secret)
}

/// Complete or not at all, whenever the power fails.
fn write(path: &Path, secret: &[u8; 32]) -> io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(OWNER_ONLY).open(&new)?;
    file.write_all(secret)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_the_owners_and_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = path_beside(&folder.path().join("pool.sqlite"));
        assert_eq!(path.file_name().unwrap(), "pool.sqlite.secret");
        assert!(read(&path).unwrap().is_none());
        // What a crash left behind is no obstacle.
        fs::write(folder.path().join("pool.sqlite.secret.new"), "half").unwrap();
        let secret = create(&path).unwrap();
        let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(read(&path).unwrap().as_deref(), Some(&*secret));
        assert_eq!(mode(&path), 0o600, "closed again");
        fs::write(&path, "short").unwrap();
        assert!(read(&path).unwrap().is_none());
    }
}
