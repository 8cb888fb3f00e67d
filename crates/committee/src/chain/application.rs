//! What the engine asks and tells.

use super::{Chain, FAULTS_MAX, forks::Unreached};
use crate::{
    body,
    execution::Executed,
    latest::{Happened, Latest},
    locks::{locked, written},
    snapshots::Snapshot,
};
use consensus::{Application, Block, Fault, Verdict, Work};
use protocol::{
    header::{Anchor, Committee},
    limits,
    market::Countersigned,
};
use registry::{Event, Fact};
use std::sync::{Arc, atomic::Ordering};
use tokio::sync::Notify;

/// How far ahead of a member's clock a block's time may be; until then it is waited for.
const AHEAD_MS_MAX: u64 = 2_000;

impl Application for Chain {
    fn genesis(&self) -> Block {
        self.genesis.clone()
    }

    fn committee(&self, epoch: u64) -> Option<Committee> {
        locked(&self.committees).of(epoch)
    }

    fn work(&self, ancestors: &[Block]) -> Work {
        let Ok(parent) = locked(&self.forks).reach(&self.rules, ancestors) else { return Work::Nothing };
        let (bundles, bytes) = locked(&self.pending).mempool.waiting(&parent.state);
        if bundles >= limits::BLOCK_BUNDLES_MAX || bytes >= limits::BLOCK_BODY_BYTES_MAX / 2 {
            return Work::Full;
        }
        // A new committee takes over at the end of the epoch only.
        let changes = || parent.state.next_committee() != parent.state.committee();
        if bundles > 0 || self.hurries.load(Ordering::Relaxed) || changes() { Work::Some } else { Work::Nothing }
    }

    fn arrivals(&self) -> Arc<Notify> {
        Arc::clone(&self.arrivals)
    }

    fn propose(&self, ancestors: &[Block], epoch: u64, unix_ms: u64) -> Option<Block> {
        match self.proposal(ancestors, epoch, unix_ms) {
            Ok(block) => Some(block),
            Err(why) => {
                tracing::warn!(%why, "no block can be proposed");
                None
            }
        }
    }

    fn verify(&self, block: &Block, ancestors: &[Block], unix_ms: u64) -> Verdict {
        let due = block.header().unix_ms.saturating_sub(AHEAD_MS_MAX);
        if due > unix_ms {
            return Verdict::Early { until_unix_ms: due };
        }
        let mut forks = locked(&self.forks);
        if ancestors.first().is_none_or(|parent| parent.digest() != block.header().parent) {
            return Verdict::Invalid("its parent is another block".to_owned());
        }
        let verdict = forks.reach(&self.rules, ancestors).and_then(|parent| {
            if forks.has(block) {
                return Ok(());
            }
            let executed = self.rules.execute(&parent, block).map_err(|why| Unreached::Invalid(why.to_string()))?;
            forks.keep(executed);
            Ok(())
        });
        match verdict {
            Ok(()) => Verdict::Valid,
            Err(why) => Verdict::Invalid(why.to_string()),
        }
    }

    fn finalised(&self, block: Block) {
        let _alone = locked(&self.finalising);
        let header = block.header();
        let mut forks = locked(&self.forks);
        let tip = &forks.tip.header;
        if self.failure.borrow().is_some() {
            return;
        }
        if header.height > tip.height + 1 {
            let (height, tip) = (header.height, tip.height);
            return self.fail(format!("block {height} is final, but {tip} is the last one that is known before it"));
        }
        if header.height <= tip.height {
            if header.height == tip.height && block.digest() != forks.tip.digest {
                self.fail(format!("two blocks of height {} are final", header.height));
            }
            return;
        }
        let executed = match forks.next(&self.rules, &block) {
            Ok(executed) => executed,
            Err(why) => {
                let height = header.height;
                return self.fail(format!(
                    "the committee has agreed on block {height}, which this program cannot follow ({why}): install the \
                     version that the other members have"
                ));
            }
        };
        drop(forks);
        // On the disk before the block counts as taken in: a block of the next epoch asks for it after a restart.
        if self.rules.is_last(executed.header.height)
            && let Some(next) = executed.state.next_committee()
            && let Err(error) = locked(&self.committees).learn(executed.header.epoch + 1, &next)
        {
            return self.fail(format!("the committees cannot be written: {error}"));
        }
        let receipts = receipts(&block, &executed);
        locked(&self.forks).advance(block, Arc::clone(&executed));
        self.publish(&executed, receipts);
    }

    fn certified(&self, anchor: Anchor) {
        self.attest(&anchor);
        let mut forks = locked(&self.forks);
        if anchor.header.digest() != forks.tip.digest {
            return;
        }
        let state = forks.tip.state.clone();
        if forks.blocks >= self.pace.blocks || forks.bytes >= self.pace.bytes {
            (forks.blocks, forks.bytes) = (0, 0);
            let snapshot = Snapshot { block: forks.tip_block.clone(), anchor: anchor.clone(), state: state.clone() };
            self.due.send_replace(Some(Arc::new(snapshot)));
        }
        drop(forks);
        let anchor = Some(Arc::new((anchor, state)));
        self.show(Latest { anchor, ..Latest::clone(&self.newest()) });
    }

    fn fault(&self, fault: Fault) {
        tracing::error!(member = %fault.member, epoch = fault.epoch, kind = ?fault.kind, "a member contradicts itself");
        self.faults.send_if_modified(|faults| {
            let is_new = faults.len() < FAULTS_MAX && !faults.contains(&fault);
            if is_new {
                faults.push(fault);
            }
            is_new
        });
    }
}

/// The receipts in a block by which anything was paid.
fn receipts(block: &Block, executed: &Executed) -> Vec<Countersigned> {
    let mut events = executed.steps.iter().flat_map(|step| &step.events);
    if !events.any(|event| matches!(event, Event::Settled { .. })) {
        return Vec::new();
    }
    let bundles = body::decode(block.body()).unwrap_or_default();
    let facts = bundles.iter().filter_map(|signed| signed.decode_unverified().ok()).flat_map(|bundle| bundle.facts);
    facts.filter_map(|fact| if let Fact::Settled(receipt) = fact { Some(receipt) } else { None }).collect()
}

impl Chain {
    /// Shows everybody the state after a block that is final. Who waits for a bundle in it sees it there.
    fn publish(&self, executed: &Executed, receipts: Vec<Countersigned>) {
        let mut registry = written(&self.registry);
        let mut events = Vec::new();
        for step in &executed.steps {
            events.extend(registry.publish(step.clone()));
        }
        drop(registry);
        let header = &executed.header;
        let anchor = self.newest().anchor.clone();
        self.show(Latest { header: header.clone(), state: executed.state.clone(), anchor });
        if !events.is_empty() {
            let happened = Happened { height: header.height, unix_ms: header.unix_ms, events, receipts };
            // Nobody may listen.
            let _ = self.events.send(Arc::new(happened));
        }
        locked(&self.pending).finalised(executed);
    }
}
