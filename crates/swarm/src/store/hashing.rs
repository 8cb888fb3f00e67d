//! BLAKE3 of a whole file.

use protocol::ids::ModelDigest;
use std::{fs::File, io, os::unix::fs::FileExt};

/// Large enough that the hash runs at its widest vectors, small enough to stay in a second-level cache.
const READ_BYTES: usize = 512 << 10;

/// Hashes a file from its first to its last byte, on this thread; `progress` gets the bytes done so far.
///
/// It reads rather than maps: a file that another process truncates then ends early, instead of killing this process.
/// The descriptor's offset is left alone.
pub fn hash_file(file: &File, progress: &mut dyn FnMut(u64)) -> io::Result<ModelDigest> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; READ_BYTES];
    let mut offset = 0;
    loop {
        match file.read_at(&mut buffer, offset) {
            Ok(0) => return Ok(ModelDigest(*hasher.finalize().as_bytes())),
            Ok(count) => {
                hasher.update(&buffer[..count]);
                offset += count as u64;
                progress(offset);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_blake3_of_every_byte() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        for length in [0, 1, READ_BYTES - 1, READ_BYTES, 3 * READ_BYTES + 7] {
            let bytes: Vec<u8> = (0..length).map(|i| (i % 251) as u8).collect();
            std::fs::write(&path, &bytes).unwrap();
            let mut seen = 0;
            let digest = hash_file(&File::open(&path).unwrap(), &mut |done| seen = done).unwrap();
            assert_eq!(digest.0, *blake3::hash(&bytes).as_bytes());
            assert_eq!(seen, length as u64);
        }
    }
}
