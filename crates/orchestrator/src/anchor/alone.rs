//! A committee of one signs for itself.

use super::Anchors;
use crate::shared::Shared;
use protocol::header::{Committee, Header};
use std::sync::Arc;
use trust::light::certify;

/// A block without news is signed anew so often.
const RENEW_MS: u64 = 2_000;

/// Shows the registry as it is now, if this orchestrator is the whole committee.
pub(crate) fn renew(shared: &Shared) {
    let now = shared.now().unix_ms;
    let state = shared.registry().state().clone();
    let (root, anchors): (_, &Anchors) = (state.root(), &shared.anchors);
    let is_new = |shown: &Header| shown.state == root && now.saturating_sub(shown.unix_ms) < RENEW_MS;
    if anchors.current().is_some_and(|shown| is_new(&shown.anchor().header)) {
        return;
    }
    let Ok(committee) = Committee::new(vec![shared.key.id()]) else { return };
    let Some(params) = state.read(&registry::keys::params()) else { return };
    // Heights only have to grow.
    let height = now;
    let header = Header {
        pool: shared.pool,
        epoch: height / u64::from(params.genesis.epoch_blocks),
        height,
        parent: [0; 32],
        unix_ms: now,
        state: root,
        body: [0; 32],
        committee: committee.digest(),
        next_committee: committee.digest(),
    };
    anchors.set(Arc::new(certify(&header, &committee, [&shared.key])), state);
}
