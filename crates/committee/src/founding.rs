//! Block 0: what everybody knows who knows the genesis.

use crate::body;
use consensus::{Block, body_digest};
use protocol::header::Header;
use registry::{Fact, Genesis, GenesisError, Registry, State};

/// The first block of a pool, and the state in it.
pub(crate) fn found(genesis: &Genesis) -> Result<(Block, State), GenesisError> {
    let (pool, digest) = (genesis.pool()?, genesis.digest()?);
    let committee = genesis.committee()?.digest();
    let mut registry = Registry::default();
    registry.apply(Fact::Genesis(genesis.clone())).expect("what names a pool founds it");
    let state = registry.state().clone();
    let body = body::encode(&[]).expect("no bundles fit a body");
    let header = Header {
        pool,
        epoch: 0,
        height: 0,
        parent: digest,
        unix_ms: genesis.created_unix_ms,
        state: state.root(),
        body: body_digest(&body),
        committee,
        next_committee: committee,
    };
    Ok((Block::new(header, body).expect("the header names this body"), state))
}
