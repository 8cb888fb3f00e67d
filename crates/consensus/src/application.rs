use crate::{Block, Fault};
use protocol::header::{Anchor, Committee};
use std::sync::Arc;
use tokio::sync::Notify;

/// What there is to put into a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Nothing: an empty block can wait.
    Nothing,
    /// Something: a block after a moment, in which more may come.
    Some,
    /// As much as fits: a block now.
    Full,
}

/// What an application says of a block that another member proposes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It may become final.
    Valid,
    /// It never may, whoever looks at it, whenever.
    Invalid(String),
    /// Nothing is wrong but the time: ask again then.
    Early {
        /// When to ask again, in milliseconds since 1970.
        until_unix_ms: u64,
    },
}

/// What is agreed on: makes blocks, judges them, and takes in those that are final.
///
/// The engine asks from its own threads. Calls may take milliseconds; a call that takes longer holds up the member's votes.
/// `work`, `propose`, `verify` and `finalised` are never called at the same time. None may panic or wait for the engine.
///
/// `ancestors` are the blocks below, newest first (so `ancestors[0]` is the parent), down to the newest that
/// [`Application::finalised`] has been told of, which is the last of them. All of them have been valid for this member, or
/// for a quorum; they may have other siblings, and need never become final.
///
/// Height, parent, epoch and pool of every block fit its parent, and its time is later: the engine's side sees to that.
pub trait Application: Send + Sync + 'static {
    /// Block 0.
    fn genesis(&self) -> Block;

    /// Who signs the blocks of an epoch. Epoch 0 is always known; any other from the moment that the last block of the
    /// epoch before has been told to `finalised`, for as long as blocks of it are kept. May be asked from within any call.
    fn committee(&self, epoch: u64) -> Option<Committee>;

    /// What `propose` would put into a block on `ancestors[0]`.
    fn work(&self, ancestors: &[Block]) -> Work;

    /// Notified (by `notify_waiters`) when `work` may have become more.
    fn arrivals(&self) -> Arc<Notify>;

    /// A block on `ancestors[0]`, of this epoch and time; `None` if there can be none, which costs the committee a turn.
    fn propose(&self, ancestors: &[Block], epoch: u64, unix_ms: u64) -> Option<Block>;

    /// Whether `block` may follow `ancestors[0]`. `unix_ms` is this machine's time.
    fn verify(&self, block: &Block, ancestors: &[Block], unix_ms: u64) -> Verdict;

    /// A block is final, and is on the disk. In order of height without gaps, beginning behind [`crate::Start`]; a block may
    /// come again.
    fn finalised(&self, block: Block);

    /// A certificate for the block that `finalised` was told last. Not every block gets one of its own.
    fn certified(&self, anchor: Anchor);

    /// A member has contradicted itself; the evidence is verified. Called from another thread than the rest.
    fn fault(&self, fault: Fault);
}
