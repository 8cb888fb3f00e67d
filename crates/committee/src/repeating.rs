//! Says to the other members what somebody here waits for, until it is final.

use crate::{body, chain::Chain, execution::BundleId, mempool::Entry, message::FACTS, peers::Peers};
use protocol::{limits, time::unix_ms};
use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, SystemTime},
};

/// How often what waits is said again: whoever leads next may not have heard it.
const REPEAT: Duration = Duration::from_secs(2);

/// How often it is looked whether what waits applies still.
const REVIEW: Duration = Duration::from_millis(250);

#[derive(Debug)]
pub(crate) struct Speaker {
    pub(crate) chain: Arc<Chain>,
    pub(crate) peers: Arc<Peers>,
}

impl Speaker {
    /// Sends bundles to all members of this epoch and the next.
    pub(crate) fn spread(&self, entries: &[Arc<Entry>]) {
        let members = self.chain.members();
        if members.iter().all(|member| *member == self.peers.me) {
            return;
        }
        let mut waiting = entries;
        while !waiting.is_empty() {
            let mut bytes = 16;
            let fits = |entry: &&Arc<Entry>| {
                bytes += entry.bytes();
                bytes <= limits::BLOCK_BODY_BYTES_MAX
            };
            let count = waiting.iter().take(limits::BLOCK_BUNDLES_MAX).take_while(fits).count().max(1);
            let (now, later) = waiting.split_at(count);
            waiting = later;
            let bundles: Vec<_> = now.iter().map(|entry| &entry.signed).collect();
            if let Ok(body) = body::encode(&bundles) {
                self.peers.tell_all(&members, FACTS, body);
            }
        }
    }

    /// Never ends.
    pub(crate) async fn repeat(&self) {
        let mut before: HashSet<BundleId> = HashSet::new();
        loop {
            tokio::time::sleep(REPEAT).await;
            let awaited = self.chain.awaited();
            let again: Vec<_> = awaited.iter().filter(|entry| before.contains(&entry.id)).cloned().collect();
            self.spread(&again);
            before = awaited.iter().map(|entry| entry.id).collect();
        }
    }

    /// Looks now and then whether what somebody has waited for since the last time applies still. Never ends.
    pub(crate) async fn review(&self) {
        let mut latest = self.chain.latest();
        let mut before: HashSet<BundleId> = HashSet::new();
        while latest.changed().await.is_ok() {
            tokio::time::sleep(REVIEW).await;
            let mut awaited = self.chain.awaited();
            let all = awaited.iter().map(|entry| entry.id).collect();
            // Most of what is new is about to become final: it costs nothing to wait for that.
            awaited.retain(|entry| before.contains(&entry.id));
            self.chain.review(awaited, unix_ms(SystemTime::now()));
            before = all;
        }
    }
}
