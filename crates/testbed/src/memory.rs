//! A search through the memory of a process, and through files.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    os::unix::fs::FileExt,
    path::Path,
};

/// How often `needle` stands in `haystack`.
pub fn count(haystack: &[u8], needle: &[u8]) -> usize {
    assert!(!needle.is_empty());
    let Some(first) = needle.first() else { return 0 };
    let mut found = 0;
    let mut at = 0;
    while let Some(next) = haystack[at..].iter().position(|byte| byte == first) {
        at += next;
        if haystack[at..].starts_with(needle) {
            found += 1;
        }
        at += 1;
    }
    found
}

/// How often `needle` stands in the readable memory of a process. Bytes searched are returned too: a search that could
/// read nothing has shown nothing.
///
/// # Panics
/// If the process cannot be read: that takes the same user, and a process that may be traced.
pub fn search_process(process_id: i32, needle: &[u8]) -> (usize, u64) {
    const STEP: u64 = 4 << 20;
    let maps = File::open(format!("/proc/{process_id}/maps")).expect("a readable process");
    let memory = File::open(format!("/proc/{process_id}/mem")).expect("memory that may be read");
    let (mut found, mut searched) = (0, 0);
    for line in BufReader::new(maps).lines() {
        let line = line.expect("text");
        let mut words = line.split_whitespace();
        let (Some(range), Some(rights)) = (words.next(), words.next()) else { continue };
        if !rights.starts_with('r') || line.ends_with("[vvar]") || line.ends_with("[vsyscall]") {
            continue;
        }
        let (start, end) = range.split_once('-').expect("a range");
        let address = |text: &str| u64::from_str_radix(text, 16).expect("an address");
        let (mut at, end) = (address(start), address(end));
        let mut buffer = vec![0; STEP as usize + needle.len()];
        while at < end {
            let wanted = (end - at).min(buffer.len() as u64) as usize;
            // Pages that were never there are no secret.
            let Ok(read) = memory.read_at(&mut buffer[..wanted], at) else { break };
            if read == 0 {
                break;
            }
            found += count(&buffer[..read], needle);
            searched += read as u64;
            // Windows overlap, so that nothing hides on a border; the overlap is shorter than the needle.
            at += if (read as u64) > STEP { STEP + 1 } else { read as u64 };
        }
    }
    (found, searched)
}

/// How often `needle` stands in the files below a folder, with the number of files.
pub fn search_files(folder: &Path, needle: &[u8]) -> (usize, usize) {
    let (mut found, mut files) = (0, 0);
    for entry in std::fs::read_dir(folder).expect("a readable folder") {
        let entry = entry.expect("a folder's entry");
        let kind = entry.file_type().expect("a file's type");
        if kind.is_dir() {
            let (inner, count) = search_files(&entry.path(), needle);
            found += inner;
            files += count;
        } else if kind.is_file() {
            let mut bytes = Vec::new();
            File::open(entry.path()).and_then(|mut file| file.read_to_end(&mut bytes)).expect("a readable file");
            found += count(&bytes, needle);
            files += 1;
        }
    }
    (found, files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_is_there() {
        assert_eq!(count(b"abcabcab", b"abc"), 2);
        assert_eq!(count(b"aaa", b"aa"), 2);
        assert_eq!(count(b"", b"a"), 0);
    }

    #[test]
    fn finds_what_this_process_holds_and_nothing_else() {
        let held: Vec<u8> = (0..32u8).map(|number| number.wrapping_mul(37) ^ 0x5a).collect();
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(search_process(own, &held).0 >= 1);
    }
}
