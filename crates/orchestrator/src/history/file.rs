//! A log of a bounded length: each entry behind its length, the newest at the end, in one file and the one before it.

use protocol::codec;
use serde::{Serialize, de::DeserializeOwned};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufReader, Read, Seek, SeekFrom, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// Readable and writable by the owner only.
const OWNER_ONLY: u32 = 0o600;
/// Longest file; then another is begun, and the one before the last is forgotten.
const FILE_BYTES_MAX: u64 = 128 << 20;
/// Longest entry.
const ENTRY_BYTES_MAX: usize = 256 << 10;
/// What one reading looks at, in bytes.
const LOOKED_AT_MAX: u64 = 16 << 20;
const LENGTH_BYTES: u64 = 4;

/// A log. A crash may cost its last entries, never the others.
pub(super) struct Log {
    path: PathBuf,
    file: File,
    length: u64,
    length_max: u64,
}

impl Log {
    /// The log at this path; what a crash has torn at its end is cut off.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Self::open_bounded(path, FILE_BYTES_MAX)
    }

    fn open_bounded(path: &Path, length_max: u64) -> io::Result<Self> {
        let folder = path.parent().unwrap_or(Path::new("."));
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let file = options().open(path)?;
        let length = sound_length(&file)?;
        file.set_len(length)?;
        Ok(Self { path: path.to_owned(), file, length, length_max })
    }

    fn before(&self) -> PathBuf {
        self.path.with_extension("before")
    }

    /// Adds an entry. Not synced: it is derived, and no more than a moment of it is lost.
    pub(super) fn append<T: Serialize>(&mut self, entry: &T) -> io::Result<()> {
        let bytes = codec::encode(entry, ENTRY_BYTES_MAX).map_err(io::Error::other)?;
        let added = LENGTH_BYTES + bytes.len() as u64;
        if self.length > 0 && self.length + added > self.length_max {
            fs::rename(&self.path, self.before())?;
            self.file = options().open(&self.path)?;
            self.length = 0;
        }
        let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        let whole = [&length.to_le_bytes()[..], &bytes].concat();
        // One that was written in part before is overwritten.
        self.file.seek(SeekFrom::Start(self.length))?;
        self.file.write_all(&whole)?;
        self.length += added;
        Ok(())
    }

    /// Entries from a position on, as long as there is room for what was found and its bytes; and where the rest begins, if
    /// there may be more.
    pub(super) fn read<T: DeserializeOwned>(
        &self,
        position: u64,
        is_wanted: impl Fn(&T) -> bool,
        has_room: impl Fn(usize, usize) -> bool,
    ) -> io::Result<(Vec<T>, Option<u64>)> {
        let before = match File::open(self.before()) {
            Ok(file) => Some((file.metadata()?.len(), file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let before_length = before.as_ref().map_or(0, |(length, _)| *length);
        let (end, mut at) = (before_length + self.length, position);
        let (mut found, mut bytes) = (Vec::new(), 0);
        let mut source = match before {
            Some((_, file)) if position < before_length => BufReader::new(file),
            _ => BufReader::new(File::open(&self.path)?),
        };
        source.seek(SeekFrom::Start(if position < before_length { position } else { position - before_length }))?;
        while at < end && has_room(found.len(), bytes) && at - position < LOOKED_AT_MAX {
            if at == before_length && at != position {
                source = BufReader::new(File::open(&self.path)?);
            }
            let Some(entry) = next(&mut source)? else { break };
            at += LENGTH_BYTES + entry.len() as u64;
            // What an earlier version wrote and this one does not know is passed over.
            if let Some(entry_found) = codec::decode::<T>(&entry, ENTRY_BYTES_MAX).ok().filter(&is_wanted) {
                bytes += entry.len();
                found.push(entry_found);
            }
        }
        Ok((found, (at < end && at > position).then_some(at)))
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(OWNER_ONLY);
    options
}

/// The next entry; `None` at the end, or where the rest is none.
fn next(source: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; LENGTH_BYTES as usize];
    match source.read_exact(&mut length) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let length = u32::from_le_bytes(length) as usize;
    if length > ENTRY_BYTES_MAX {
        return Ok(None);
    }
    let mut entry = vec![0; length];
    match source.read_exact(&mut entry) {
        Ok(()) => Ok(Some(entry)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// Up to where entries are whole.
fn sound_length(file: &File) -> io::Result<u64> {
    let (mut source, mut length) = (BufReader::new(file), 0);
    while let Some(entry) = next(&mut source)? {
        length += LENGTH_BYTES + entry.len() as u64;
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(log: &Log) -> Vec<u64> {
        let (mut all, mut position) = (Vec::new(), Some(0));
        while let Some(at) = position {
            let (found, next) = log.read::<u64>(at, |_| true, |found, _| found < 3).unwrap();
            all.extend(found);
            position = next;
        }
        all
    }

    #[test]
    fn what_was_written_is_read_in_order_and_survives_a_torn_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history/movements");
        let mut log = Log::open(&path).unwrap();
        assert!(all(&log).is_empty());
        (0..10u64).for_each(|number| log.append(&number).unwrap());
        assert_eq!(all(&log), (0..10).collect::<Vec<_>>());
        drop(log);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        let mut log = Log::open(&path).unwrap();
        log.append(&77u64).unwrap();
        assert_eq!(all(&log), (0..9).chain([77]).collect::<Vec<_>>());
        assert_eq!(log.read::<u64>(0, |number| *number > 7, |_, _| true).unwrap(), (vec![8, 77], None));
        assert_eq!(log.read::<u64>(1 << 40, |_| true, |_, _| true).unwrap(), (vec![], None), "beyond the end");
    }

    #[test]
    fn the_oldest_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("movements");
        let mut log = Log::open_bounded(&path, 50).unwrap();
        (0..25u64).for_each(|number| log.append(&number).unwrap());
        let kept = all(&log);
        assert_eq!(kept, (25 - kept.len() as u64..25).collect::<Vec<_>>());
        assert!((10..=20).contains(&kept.len()), "{kept:?}");
    }
}
