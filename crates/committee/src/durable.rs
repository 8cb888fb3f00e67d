//! Files that are there whole or not at all, whenever the machine stops.

use protocol::codec;
use serde::{Serialize, de::DeserializeOwned};
use std::{
    fs::{self, File},
    io::{self, BufWriter, ErrorKind, Write},
    path::{Path, PathBuf},
};

/// Longest small file.
const RECORD_BYTES_MAX: usize = 16 << 20;
const CHECK_BYTES: usize = 32;

/// A file of this crate that cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{}: {error}", path.display())]
pub struct FileError {
    /// Which.
    pub path: PathBuf,
    /// Why.
    pub error: io::Error,
}

pub(crate) fn at<T>(path: &Path, result: io::Result<T>) -> Result<T, FileError> {
    result.map_err(|error| FileError { path: path.to_owned(), error })
}

/// Writes a file under another name, and gives it its own when it is on the disk.
pub(crate) fn replace(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), FileError> {
    at(path, try_replace(path, write))
}

fn try_replace(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let partial = path.with_extension("partial");
    let mut file = BufWriter::new(File::create(&partial)?);
    write(&mut file)?;
    file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
    fs::rename(&partial, path)?;
    sync_folder(path)
}

/// The entry of a file in its folder is on the disk too.
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().ok_or(ErrorKind::InvalidInput)?;
    File::open(folder)?.sync_all()
}

/// Writes a small record, behind its hash.
pub(crate) fn write<T: Serialize>(path: &Path, record: &T) -> Result<(), FileError> {
    let bytes = at(path, codec::encode(record, RECORD_BYTES_MAX).map_err(io::Error::other))?;
    replace(path, |file| {
        file.write_all(blake3::hash(&bytes).as_bytes())?;
        file.write_all(&bytes)
    })
}

/// Reads it. `None`: there is none.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, FileError> {
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        bytes => at(path, bytes)?,
    };
    let record = bytes
        .split_at_checked(CHECK_BYTES)
        .filter(|(check, record)| blake3::hash(record) == *<&[u8; CHECK_BYTES]>::try_from(*check).expect("as cut"))
        .and_then(|(_, record)| codec::decode(record, RECORD_BYTES_MAX).ok());
    let damaged = || io::Error::new(ErrorKind::InvalidData, "the file is damaged");
    at(path, record.map(Some).ok_or_else(damaged))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_whole_or_damaged_and_never_another() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("record");
        assert_eq!(read::<(u64, String)>(&path).unwrap(), None);
        for number in 0..2u64 {
            write(&path, &(number, "text")).unwrap();
            assert_eq!(read(&path).unwrap(), Some((number, "text".to_owned())));
        }
        let bytes = fs::read(&path).unwrap();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 4;
            fs::write(&path, &changed).unwrap();
            assert!(read::<(u64, String)>(&path).is_err());
            fs::write(&path, &bytes[..at]).unwrap();
            assert!(read::<(u64, String)>(&path).is_err());
        }
    }
}
