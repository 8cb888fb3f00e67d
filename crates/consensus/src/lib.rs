//! Agreement on blocks, by a committee of which fewer than a third may lie.
//!
//! The engine is commonware's Simplex with its block store ("marshal"), and this is the only crate that names it. It knows
//! blocks and not what is in them: that is an [`Application`]'s business. It knows other members by their keys and not by
//! their addresses: messages go through a [`Network`] of the caller's. So what is above needs none of the engine's generics,
//! which take longer to compile than all the rest.
//!
//! [`start`] runs one member in a thread of its own, with a runtime of its own: whatever the engine does, it takes nobody
//! else's time, and if it panics (it does when its disk fails) the member is *down* ([`Standing::down`]) and the process
//! is not.
//!
//! One member alone, and nothing to agree on but empty blocks:
//!
//! ```no_run
//! use consensus::{Application, Block, Config, Fault, Network, Start, Verdict, Work, body_digest};
//! use protocol::{header::{Anchor, Committee, Header}, ids::PoolId};
//! use std::sync::Arc;
//!
//! struct Nothing { committee: Committee }
//!
//! impl Nothing {
//!     fn header(&self, below: Option<&Block>, unix_ms: u64) -> Header {
//!         let height = below.map_or(0, |below| below.header().height + 1);
//!         let parent = below.map_or([0; 32], Block::digest);
//!         let (committee, next_committee) = (self.committee.digest(), self.committee.digest());
//!         let (pool, epoch, state, body) = (PoolId([1; 32]), height / 1024, [0; 32], body_digest(&[]));
//!         Header { pool, epoch, height, parent, unix_ms, state, body, committee, next_committee }
//!     }
//! }
//!
//! impl Application for Nothing {
//!     fn genesis(&self) -> Block { Block::new(self.header(None, 0), Vec::new()).expect("no body") }
//!     fn committee(&self, _epoch: u64) -> Option<Committee> { Some(self.committee.clone()) }
//!     fn work(&self, _: &[Block]) -> Work { Work::Nothing }
//!     fn arrivals(&self) -> Arc<tokio::sync::Notify> { Arc::default() }
//!     fn propose(&self, ancestors: &[Block], _epoch: u64, unix_ms: u64) -> Option<Block> {
//!         Block::new(self.header(ancestors.first(), unix_ms), Vec::new())
//!     }
//!     fn verify(&self, block: &Block, ancestors: &[Block], _unix_ms: u64) -> Verdict {
//!         let expected = self.header(ancestors.first(), block.header().unix_ms);
//!         if *block.header() == expected { Verdict::Valid } else { Verdict::Invalid("not empty".to_owned()) }
//!     }
//!     fn finalised(&self, block: Block) { println!("{block:?}") }
//!     fn certified(&self, _: Anchor) {}
//!     fn fault(&self, _: Fault) {}
//! }
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let key = trust::MachineKey::generate();
//! let application = Arc::new(Nothing { committee: Committee::new(vec![key.id()])? });
//! let (_nobody, receive) = tokio::sync::mpsc::channel(1);
//! let network = Network { send: Arc::new(|_, _, _| false), receive };
//! let config = Config {
//!     folder: "home/consensus".into(), key, pool: PoolId([1; 32]), epoch_blocks: 1024, pace: None,
//!     signs_from_epoch: 0, start: Start::Genesis,
//! };
//! let member = consensus::start(config, application, network).await?;
//! println!("block {} is final", member.processed());
//! member.stop().await;
//! # Ok(())
//! # }
//! ```
//!
//! Rules that hold here:
//!
//! * A block is final when a quorum has signed so, and [`Application::finalised`] is told in order of height, after the
//!   block is on the disk. It may be told again after a restart.
//! * An epoch has a fixed number of blocks; its committee signs all of them and no others. The next one is what
//!   [`Application::committee`] says when the last block is final.
//! * A member that has lost its disk has lost its memory of what it voted. It must not vote before
//!   [`Config::signs_from_epoch`]; until then it follows in silence.
//! * Nothing that a peer sends blocks, panics or is waited for.

mod application;
mod block;
mod channels;
mod fault;
mod host;
mod judge;
mod member;
mod network;
mod scheme;
pub mod simulated;

pub use application::{Application, Verdict, Work};
pub use block::{Block, body_digest};
pub use fault::{Fault, verify_fault};
pub use host::{Consensus, start};
pub use network::{CHANNELS, Network};

use protocol::{
    header::Anchor,
    ids::{NodeId, PoolId},
};
use std::{future::Future, path::PathBuf, pin::Pin, time::Duration};

/// What an asynchronous call returns: boxed, so that the engine is compiled here and not again by whoever awaits it.
pub type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// When blocks are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// After so long without work an empty block is made, so that there is a recent root.
    pub idle: Duration,
    /// A block that is not full waits so long for more.
    pub gather: Duration,
}

impl Pace {
    /// For a committee of so many. Nobody waits for the empty blocks of a member alone, and each costs it a dozen writes to
    /// the disk; several members notice by them who is there.
    pub fn of(members: usize) -> Self {
        let idle = Duration::from_secs(if members == 1 { 60 } else { 4 });
        Self { idle, gather: Duration::from_millis(5) }
    }
}

/// From which state on a member goes: the state that the application has when it is started.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "there is one of it in a process")]
pub enum Start {
    /// From the pool's beginning.
    Genesis,
    /// The application has the state after this block, from a snapshot. The anchor is the block's; both are checked.
    After {
        /// The block.
        block: Block,
        /// That it is final.
        anchor: Anchor,
    },
}

/// What a member is started with.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the engine keeps blocks, certificates and its votes. Nothing else may write there. One process at a time.
    pub folder: PathBuf,
    /// The machine's key: it signs votes.
    pub key: trust::MachineKey,
    /// The pool.
    pub pool: PoolId,
    /// Blocks of an epoch.
    pub epoch_blocks: u32,
    /// When blocks are made; `None`: by the size of each epoch's committee. Has to be the same at all members.
    pub pace: Option<Pace>,
    /// The first epoch in which this member votes: 0 unless it has lost its disk, and then two after the newest that
    /// any other member was in.
    pub signs_from_epoch: u64,
    /// What state the application has.
    pub start: Start,
}

/// Why a member cannot be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The application does not know the committee of an epoch that it must know.
    #[error("the committee of epoch {0} is not known: start from a newer snapshot")]
    Committee(u64),
    /// The anchor of [`Start::After`] is not that of the block, or its signatures do not hold.
    #[error("the block to start after is not final: take the snapshot from another member")]
    Anchor,
    /// The first block is none of this pool's, or an epoch has no blocks.
    #[error("the genesis does not fit the pool")]
    Genesis,
    /// The engine could not be started; usually its folder cannot be written, or is damaged.
    #[error("the consensus engine does not start: {0}")]
    Engine(String),
}

/// How a member stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Standing {
    /// The epoch that it is in.
    pub epoch: u64,
    /// The newest round of that epoch that it has seen end; 0 before the first.
    pub view: u64,
    /// Who leads the round after it; `None` where this member is not of the epoch's committee.
    pub leader: Option<NodeId>,
    /// The newest block that is final here.
    pub height: u64,
    /// Whether it votes in this epoch.
    pub votes: bool,
    /// Why it has stopped; `None` while it runs.
    pub down: Option<String>,
}
