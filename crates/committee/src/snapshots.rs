//! Snapshots of the state on the disk: the two newest. Blocks below the older one need not be kept.
//!
//! A file has a head ([`Head`]) and the 256 parts of the state, each behind its length. All of it proves itself: the parts
//! lead to the root in the header, the header to the certificate, and that to the committee.

use crate::durable::{self, FileError};
use consensus::Block;
use protocol::{
    codec::{self, PREFIX_BYTES},
    header::Anchor,
    limits,
};
use registry::{
    State,
    snapshot::{Assembly, Manifest, PARTS},
};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File},
    io::{self, BufReader, ErrorKind, Read},
    path::{Path, PathBuf},
};

/// In the member's folder.
const FOLDER: &str = "snapshots";
const EXTENSION: &str = "snapshot";
/// Files that are kept: where the newest is damaged, the older one and the blocks above it lead to the same state.
const KEPT: usize = 2;
const HEAD_BYTES_MAX: usize = limits::BLOCK_BODY_BYTES_MAX + (64 << 10);

/// A state, with the block after which it is the state, and why that is to be believed.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    pub(crate) block: Block,
    pub(crate) anchor: Anchor,
    pub(crate) state: State,
}

/// What stands in front of the parts, on the disk and on the wire.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Head {
    pub(crate) anchor: Anchor,
    pub(crate) body: Vec<u8>,
    pub(crate) manifest: Manifest,
}

impl Snapshot {
    pub(crate) fn height(&self) -> u64 {
        self.anchor.header.height
    }

    pub(crate) fn head(&self) -> Head {
        Head { anchor: self.anchor.clone(), body: self.block.body().to_vec(), manifest: self.state.manifest() }
    }
}

impl Head {
    /// The block, if this is its body.
    pub(crate) fn block(&self) -> Option<Block> {
        Block::new(self.anchor.header.clone(), self.body.clone())
    }
}

/// The folder of a member's snapshots.
#[derive(Debug, Clone)]
pub(crate) struct Snapshots(PathBuf);

impl Snapshots {
    pub(crate) fn open(folder: &Path) -> Result<Self, FileError> {
        let folder = folder.join(FOLDER);
        durable::at(&folder, fs::create_dir_all(&folder))?;
        Ok(Self(folder))
    }

    fn path(&self, height: u64) -> PathBuf {
        self.0.join(format!("{height:016x}.{EXTENSION}"))
    }

    /// Heights of what is kept, the newest first. What a write left behind that did not end is removed.
    pub(crate) fn heights(&self) -> Result<Vec<u64>, FileError> {
        let mut heights = Vec::new();
        for entry in durable::at(&self.0, fs::read_dir(&self.0))? {
            let path = durable::at(&self.0, entry)?.path();
            let name = path.file_stem().and_then(|name| name.to_str());
            let height = name.and_then(|name| u64::from_str_radix(name, 16).ok());
            match (height, path.extension()) {
                (Some(height), Some(extension)) if extension == EXTENSION => heights.push(height),
                _ => durable::at(&path, fs::remove_file(&path))?,
            }
        }
        heights.sort_unstable_by(|one, other| other.cmp(one));
        Ok(heights)
    }

    /// Writes a snapshot and forgets all but the newest. Gives the height of the oldest that is kept, once there are
    /// enough of them: blocks below need not be kept.
    pub(crate) fn save(&self, snapshot: &Snapshot) -> Result<Option<u64>, FileError> {
        let Snapshot { state, .. } = snapshot;
        durable::replace(&self.path(snapshot.height()), |file| {
            let head = codec::encode_prefixed(&snapshot.head(), HEAD_BYTES_MAX).map_err(io::Error::other)?;
            file.write_all(&head)?;
            for number in 0..PARTS {
                let part = state.part(number).map_err(io::Error::other)?;
                let length = u32::try_from(part.len()).map_err(io::Error::other)?;
                file.write_all(&length.to_le_bytes())?;
                file.write_all(&part)?;
            }
            Ok(())
        })?;
        let heights = self.heights()?;
        for height in heights.iter().skip(KEPT) {
            let path = self.path(*height);
            durable::at(&path, fs::remove_file(&path))?;
        }
        Ok(heights.get(KEPT - 1).copied())
    }

    /// Reads a snapshot. Whether its certificate holds is for the caller to see.
    pub(crate) fn load(&self, height: u64) -> Result<Snapshot, FileError> {
        let path = self.path(height);
        durable::at(&path, load(&path))
    }

    /// Takes a damaged file away, so that it does not count as one that is kept.
    pub(crate) fn discard(&self, height: u64) -> Result<(), FileError> {
        let path = self.path(height);
        durable::at(&path, fs::remove_file(&path))
    }
}

fn load(path: &Path) -> io::Result<Snapshot> {
    let damaged = |why: &dyn std::fmt::Display| io::Error::new(ErrorKind::InvalidData, why.to_string());
    let mut file = BufReader::new(File::open(path)?);
    let head = read_prefixed(&mut file, HEAD_BYTES_MAX)?;
    let head: Head = codec::decode(&head, HEAD_BYTES_MAX).map_err(|error| damaged(&error))?;
    let block = head.block().ok_or_else(|| damaged(&"the body is another block's"))?;
    let mut assembly = Assembly::new(head.anchor.header.state, head.manifest).map_err(|error| damaged(&error))?;
    for number in 0..PARTS {
        let part = read_prefixed(&mut file, limits::SNAPSHOT_PART_BYTES_MAX)?;
        assembly.add(number, &part).map_err(|error| damaged(&error))?;
    }
    let state = assembly.finish().expect("every part was added");
    Ok(Snapshot { block, anchor: head.anchor, state })
}

fn read_prefixed(file: &mut impl Read, limit: usize) -> io::Result<Vec<u8>> {
    let mut prefix = [0; PREFIX_BYTES];
    file.read_exact(&mut prefix)?;
    let length = codec::decode_prefix(prefix, limit).map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
    // Grows with what is there: a damaged length reserves nothing.
    let mut bytes = Vec::new();
    file.take(length as u64).read_to_end(&mut bytes)?;
    if bytes.len() == length { Ok(bytes) } else { Err(ErrorKind::UnexpectedEof.into()) }
}
