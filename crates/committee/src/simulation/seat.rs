//! A chain as the engine of a machine sees it: with the machine's clock, its lies, and whoever watches it.

use super::{Plant, adversary, invariants::Invariants, plan::Lie};
use crate::{body, chain::Chain, execution::bundle_id, locks::locked};
use consensus::{Application, Block, Fault, Verdict, Work};
use protocol::{
    header::{Anchor, Committee},
    ids::NodeId,
};
use std::sync::{Arc, Mutex};
use tokio::sync::Notify;

pub(super) struct Seat {
    pub(super) chain: Arc<Chain>,
    pub(super) me: NodeId,
    pub(super) skew_ms: i64,
    pub(super) lie: Option<Lie>,
    pub(super) plant: Plant,
    pub(super) watch: Arc<Mutex<Invariants>>,
}

impl Seat {
    /// This machine's clock, when the world's says `unix_ms`.
    fn clock(&self, unix_ms: u64) -> u64 {
        unix_ms.saturating_add_signed(self.skew_ms)
    }
}

impl Application for Seat {
    fn genesis(&self) -> Block {
        self.chain.genesis()
    }

    fn committee(&self, epoch: u64) -> Option<Committee> {
        self.chain.committee(epoch)
    }

    fn work(&self, ancestors: &[Block]) -> Work {
        self.chain.work(ancestors)
    }

    fn arrivals(&self) -> Arc<Notify> {
        self.chain.arrivals()
    }

    fn propose(&self, ancestors: &[Block], epoch: u64, unix_ms: u64) -> Option<Block> {
        let block = self.chain.propose(ancestors, epoch, self.clock(unix_ms))?;
        match self.lie {
            Some(Lie::Proposals) => Some(adversary::another(block, unix_ms)),
            _ => Some(block),
        }
    }

    fn verify(&self, block: &Block, ancestors: &[Block], unix_ms: u64) -> Verdict {
        if self.plant == Plant::VotesBlindly {
            return Verdict::Valid;
        }
        let verdict = match self.chain.verify(block, ancestors, self.clock(unix_ms)) {
            _ if self.lie == Some(Lie::Proposals) => Verdict::Valid,
            Verdict::Early { until_unix_ms } => {
                Verdict::Early { until_unix_ms: until_unix_ms.saturating_add_signed(-self.skew_ms) }
            }
            verdict => verdict,
        };
        if self.plant == Plant::TellsEarly && verdict == Verdict::Valid {
            let mut watch = locked(&self.watch);
            for signed in body::decode(block.body()).iter().flatten() {
                watch.told(bundle_id(signed), block.header().height);
            }
        }
        verdict
    }

    fn finalised(&self, block: Block) {
        self.chain.finalised(block.clone());
        let mut watch = locked(&self.watch);
        if watch.is_honest(self.me) {
            let latest = Arc::clone(&self.chain.latest().borrow());
            if latest.header.height == block.header().height || self.chain.failure().is_some() {
                watch.finalised(self.me, &block, &latest.state, self.chain.failure());
            }
        }
    }

    fn certified(&self, anchor: Anchor) {
        self.chain.certified(anchor);
    }

    fn fault(&self, fault: Fault) {
        let mut watch = locked(&self.watch);
        if watch.is_honest(self.me) {
            watch.accused(&fault);
        }
        drop(watch);
        self.chain.fault(fault);
    }
}
