//! What a member keeps on the disk, and how.

use super::Engine;
use crate::{
    Block,
    scheme::{Finalization, Scheme, Schemes},
};
use commonware_consensus::marshal;
use commonware_consensus::types::{FixedEpocher, ViewDelta};
use commonware_cryptography::{Digested, blake3::Digest, certificate::Verifier as _};
use commonware_parallel::Sequential;
use commonware_runtime::buffer::paged::{self, CacheRef};
use commonware_storage::archive::{Archive as _, Identifier, prunable};
use commonware_storage::translator::EightCap;
use commonware_utils::{NZU64, NZUsize};
use std::{
    num::{NonZeroU64, NonZeroUsize},
    sync::Arc,
};

pub(super) const MAILBOX: NonZeroUsize = NZUsize!(1024);
pub(super) const REPLAY_BUFFER: NonZeroUsize = NZUsize!(1024 * 1024);
pub(super) const WRITE_BUFFER: NonZeroUsize = NZUsize!(64 * 1024);
pub(super) const VIEWS_KEPT: ViewDelta = ViewDelta::new(256);
/// What is no longer needed is removed by whole sections. A body may have a megabyte.
const ITEMS_PER_SECTION: NonZeroU64 = NZU64!(256);
/// Blocks that the application has not acknowledged.
const PENDING_MAX: NonZeroUsize = NZUsize!(16);
/// Missing blocks that are fetched at a time.
const REPAIR_MAX: NonZeroUsize = NZUsize!(64);

/// The size of a page is a part of the stored format: with another one what is there is silently cut off.
pub(super) fn page_cache() -> CacheRef {
    CacheRef::new(paged::page_size(4096), NZUsize!(64))
}

pub(super) struct Archives<E: Engine> {
    pub(super) blocks: prunable::Archive<EightCap, E, Digest, Arc<Block>>,
    pub(super) finalizations: prunable::Archive<EightCap, E, Digest, Finalization>,
}

/// Opens the archives; `floor` is put among the blocks, so that nobody need be asked for it.
pub(super) async fn open<E: Engine>(
    context: &E,
    prefix: &str,
    page_cache: &CacheRef,
    floor: Option<&Block>,
) -> Result<Archives<E>, String> {
    let blocks = archive(&format!("{prefix}blocks"), page_cache, ());
    let blocks = prunable::Archive::init(context.child("blocks"), blocks).await;
    let mut blocks: prunable::Archive<EightCap, E, Digest, Arc<Block>> =
        blocks.map_err(|error| format!("the blocks cannot be opened: {error}"))?;
    let config = Scheme::certificate_codec_config_unbounded();
    let finalizations = archive(&format!("{prefix}finalizations"), page_cache, config);
    let finalizations = prunable::Archive::init(context.child("finalizations"), finalizations).await;
    let finalizations = finalizations.map_err(|error| format!("the certificates cannot be opened: {error}"))?;
    if let Some(block) = floor {
        let height = block.header().height;
        let known = blocks.has(Identifier::Index(height)).await;
        if !known.map_err(|error| format!("the blocks cannot be read: {error}"))? {
            let failed = |error| format!("a block cannot be stored: {error}");
            blocks = blocks.put(height, Digest(block.digest()), &Arc::new(block.clone())).await.map_err(failed)?;
            blocks = blocks.sync().await.map_err(failed)?;
        }
    }
    Ok(Archives { blocks, finalizations })
}

pub(super) fn marshal(
    prefix: &str,
    page_cache: &CacheRef,
    provider: Schemes,
    epocher: FixedEpocher,
    start: marshal::Start<Scheme, Digest, Digested<Block>>,
) -> marshal::Config<Schemes, FixedEpocher, Sequential, Block, Digested<Block>, Digest> {
    marshal::Config {
        provider,
        epocher,
        start,
        partition_prefix: format!("{prefix}marshal"),
        mailbox_size: MAILBOX,
        view_retention: VIEWS_KEPT,
        prunable_items_per_section: ITEMS_PER_SECTION,
        page_cache: page_cache.clone(),
        replay_buffer: REPLAY_BUFFER,
        key_write_buffer: WRITE_BUFFER,
        value_write_buffer: WRITE_BUFFER,
        block_codec_config: (),
        max_repair: REPAIR_MAX,
        max_pending_acks: PENDING_MAX,
        strategy: Sequential,
    }
}

fn archive<C>(name: &str, page_cache: &CacheRef, codec_config: C) -> prunable::Config<EightCap, C> {
    prunable::Config {
        translator: EightCap,
        metadata_partition: format!("{name}-metadata"),
        key_partition: format!("{name}-keys"),
        key_page_cache: page_cache.clone(),
        value_partition: format!("{name}-values"),
        compression: None,
        codec_config,
        items_per_section: ITEMS_PER_SECTION,
        key_write_buffer: WRITE_BUFFER,
        value_write_buffer: WRITE_BUFFER,
        replay_buffer: REPLAY_BUFFER,
    }
}
