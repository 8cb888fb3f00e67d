//! What goes wrong with the disk, which all members share: their partitions differ by their prefix.

use super::{Local, World};
use commonware_runtime::{
    Blob as _, ReadOptions, Storage as _, WriteOptions,
    deterministic::{FaultConfig, PartialWriteMode, ResizeConfig, WriteConfig},
};
use commonware_utils::{Probability, probability};
use protocol::ids::NodeId;
use rand::Rng as _;
use std::path::Path;

/// Which of the bytes that were not synced are there after a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Torn {
    /// Of each write those up to some place.
    Prefix,
    /// Of each write any.
    Subset,
}

/// How the disk fails, for all members alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disk {
    /// So many of a thousand writes fail, after some of their bytes are written.
    pub failed_writes: u64,
    /// So many of a thousand syncs fail.
    pub failed_syncs: u64,
    /// So many of a thousand bytes that were not synced survive a crash of everything, or a write that fails.
    pub kept: u64,
    /// Which.
    pub torn: Torn,
}

impl Default for Disk {
    /// It works, and forgets what was not synced.
    fn default() -> Self {
        Self { failed_writes: 0, failed_syncs: 0, kept: 0, torn: Torn::Prefix }
    }
}

/// In front of the names of a member's partitions.
pub(super) fn prefix(id: NodeId, folder: &Path) -> String {
    format!("{id}-{}", folder.display())
}

fn per_mille(count: u64) -> Probability {
    Probability::new(count.min(1000), 1000).unwrap_or(probability!(0.0))
}

impl World {
    /// How the disk fails from now on.
    pub fn set_disk(&self, disk: Disk) {
        let config = self.context.storage_fault_config();
        let mode = match disk.torn {
            Torn::Prefix => PartialWriteMode::Prefix,
            Torn::Subset => PartialWriteMode::Subset,
        };
        let (failure_rate, retention_rate) = (per_mille(disk.failed_writes), per_mille(disk.kept));
        *config.write() = FaultConfig {
            write_rate: Some(WriteConfig { failure_rate, retention_rate, mode }),
            sync_rate: Some(per_mille(disk.failed_syncs)),
            // The engine's is a probability of failing, and of surviving where a crash comes before the sync.
            resize_rate: Some(ResizeConfig { failure_rate, partial_rate: probability!(0.5) }),
            ..FaultConfig::default()
        };
    }

    /// Changes one bit of what a machine has on a disk, while its member is down. `None`: there is nothing yet. Else where.
    pub fn corrupt(&mut self, id: NodeId, folder: &Path) -> Local<'_, Option<String>> {
        Box::pin(self.corrupted(prefix(id, folder)))
    }

    async fn corrupted(&mut self, prefix: String) -> Option<String> {
        let mut blobs = Vec::new();
        for partition in partitions(&prefix) {
            for name in self.context.scan(&partition).await.unwrap_or_default() {
                let Ok((blob, size)) = self.context.open(&partition, &name).await else { continue };
                if size > 0 {
                    blobs.push((partition.clone(), blob, size));
                }
            }
        }
        if blobs.is_empty() {
            return None;
        }
        let chosen = usize::try_from(self.context.next_u64() % blobs.len() as u64).ok()?;
        let (partition, blob, size) = blobs.swap_remove(chosen);
        drop(blobs);
        let (offset, bit) = (self.context.next_u64() % size, self.context.next_u64() % 8);
        let byte = blob.read_at(offset, 1, ReadOptions::default()).await.ok()?.coalesce();
        let changed = byte.as_ref().first()? ^ (1 << bit);
        blob.write_at(offset, vec![changed], WriteOptions::default()).await.ok()?;
        blob.sync().await.ok()?;
        Some(format!("{}:{offset}.{bit}", partition.trim_start_matches(&prefix)))
    }
}

/// Epochs of which a world of tests has partitions.
const EPOCHS: u64 = 32;

fn partitions(prefix: &str) -> Vec<String> {
    let mut names = vec![format!("{prefix}marshal-application-metadata")];
    for archive in ["blocks", "finalizations"] {
        names.extend(["metadata", "keys", "values"].map(|kind| format!("{prefix}{archive}-{kind}")));
    }
    for epoch in 0..EPOCHS {
        names.push(format!("{prefix}consensus-{epoch}"));
        for archive in ["verified", "notarized", "certified", "notarizations", "finalizations"] {
            let cached = |kind| format!("{prefix}marshal-cache-{epoch}-{archive}-{kind}");
            names.extend(["metadata", "key", "value"].map(cached));
        }
    }
    names
}
