use protocol::{
    header::{Anchor, Header},
    market::Countersigned,
};
use registry::{Event, State};
use std::sync::Arc;

/// The newest final block that this member has taken in.
#[derive(Debug, Clone)]
pub struct Latest {
    /// Its head.
    pub header: Header,
    /// The state after it.
    pub state: State,
    /// The newest block whose certificate is at hand, with the state after it: what proofs are made from. Usually the
    /// same block; after a restart `None` until the committee agrees on the next one.
    pub anchor: Option<Arc<(Anchor, State)>>,
}

/// What a block changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Happened {
    /// Its height.
    pub height: u64,
    /// Its time, in milliseconds since 1970.
    pub unix_ms: u64,
    /// What changed, in order. Never empty.
    pub events: Vec<Event>,
    /// The receipts in it, where anything was paid.
    pub receipts: Vec<Countersigned>,
}
