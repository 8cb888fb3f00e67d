//! The smallest thing to agree on: a chain of numbers, each once, whose state is the hash of all before.

use consensus::{Application, Block, Fault, Verdict, Work, body_digest};
use protocol::{
    header::{Anchor, Committee, Header},
    ids::{NodeId, PoolId},
    signed::Verifier as _,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};
use tokio::sync::{Notify, watch};
use trust::MachineKey;

pub(crate) const POOL: PoolId = PoolId([7; 32]);
/// More than any test needs: only so that a test that hangs fails.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(120);

pub(crate) fn key(index: u8) -> MachineKey {
    MachineKey::from_seed(&[index + 1; 32])
}

pub(crate) fn committee(indices: impl IntoIterator<Item = u8>) -> Committee {
    Committee::new(indices.into_iter().map(|index| key(index).id()).collect()).unwrap()
}

/// Which committee rules from which epoch on.
pub(crate) type Plan = BTreeMap<u64, Committee>;

pub(crate) struct Toy {
    epoch_blocks: u64,
    plan: Plan,
    start: Block,
    waiting: Mutex<BTreeSet<u64>>,
    arrivals: Arc<Notify>,
    chain: Mutex<Vec<Block>>,
    height: watch::Sender<u64>,
    anchors: Mutex<Vec<Anchor>>,
    pub(crate) faults: watch::Sender<Vec<Fault>>,
}

/// A number over which the application falls when it is final.
pub(crate) const POISON: u64 = u64::MAX - 1;

fn numbers(block: &Block) -> impl Iterator<Item = u64> {
    block.body().chunks(8).map(|bytes| bytes.try_into().map_or(u64::MAX, u64::from_le_bytes))
}

fn state(parent: &Header, body: &[u8]) -> [u8; 32] {
    *blake3::Hasher::new().update(&parent.state).update(body).finalize().as_bytes()
}

impl Toy {
    pub(crate) fn new(epoch_blocks: u32, plan: Plan) -> Arc<Self> {
        let committee = plan[&0].digest();
        let header = Header {
            pool: POOL,
            epoch: 0,
            height: 0,
            parent: POOL.0,
            unix_ms: 0,
            state: [0; 32],
            body: body_digest(&[]),
            committee,
            next_committee: committee,
        };
        Self::after(epoch_blocks, plan, Block::new(header, Vec::new()).unwrap())
    }

    /// With the state after a block, as from a snapshot.
    pub(crate) fn after(epoch_blocks: u32, plan: Plan, start: Block) -> Arc<Self> {
        let (height, _) = watch::channel(start.header().height);
        Arc::new(Self {
            epoch_blocks: epoch_blocks.into(),
            plan,
            chain: Mutex::new(vec![start.clone()]),
            start,
            waiting: Mutex::default(),
            arrivals: Arc::default(),
            height,
            anchors: Mutex::default(),
            faults: watch::channel(Vec::new()).0,
        })
    }

    pub(crate) fn submit(&self, number: u64) {
        self.waiting.lock().unwrap().insert(number);
        self.arrivals.notify_waiters();
    }

    /// Waits until a block of this height is final.
    pub(crate) async fn reaches(&self, height: u64) {
        let mut heights = self.height.subscribe();
        let reached = heights.wait_for(|reached| *reached >= height);
        tokio::time::timeout(PATIENCE, reached).await.expect("the committee stands still").unwrap();
    }

    /// Waits until a number is final.
    pub(crate) async fn has(&self, number: u64) {
        let mut heights = self.height.subscribe();
        let has = heights.wait_for(|_| self.chain().iter().flat_map(numbers).any(|found| found == number));
        tokio::time::timeout(PATIENCE, has).await.expect("the committee stands still").unwrap();
    }

    /// What is final, from the start on.
    pub(crate) fn chain(&self) -> Vec<Block> {
        self.chain.lock().unwrap().clone()
    }

    pub(crate) fn height(&self) -> u64 {
        *self.height.borrow()
    }

    /// Certificates told so far, each checked as a light client would.
    pub(crate) fn anchors(&self) -> Vec<Anchor> {
        let anchors = self.anchors.lock().unwrap().clone();
        anchors.iter().for_each(|anchor| self.check(anchor));
        anchors
    }

    pub(crate) fn check(&self, anchor: &Anchor) {
        let Anchor { header, certificate } = anchor;
        let committee = self.planned(header.epoch);
        let signers = (0..16).filter(|bit| certificate.signers >> bit & 1 == 1).map(|bit| committee.members()[bit]);
        let signers: Vec<NodeId> = signers.collect();
        assert_eq!(signers.len(), certificate.signatures.len());
        assert!(signers.len() >= committee.quorum());
        let message = certificate.message(header);
        for (signer, signature) in signers.iter().zip(&certificate.signatures) {
            assert!(trust::Strict.holds(signer, &message, &signature.bytes()), "{header:?}");
        }
    }

    fn planned(&self, epoch: u64) -> Committee {
        self.plan.range(..=epoch).next_back().unwrap().1.clone()
    }

    fn made(&self, parent: &Block, body: Vec<u8>, unix_ms: u64) -> Block {
        let below = parent.header();
        let height = below.height + 1;
        let epoch = height / self.epoch_blocks;
        let header = Header {
            pool: POOL,
            epoch,
            height,
            parent: parent.digest(),
            unix_ms,
            state: state(below, &body),
            body: body_digest(&body),
            committee: self.planned(epoch).digest(),
            next_committee: self.planned((height + 1) / self.epoch_blocks).digest(),
        };
        Block::new(header, body).unwrap()
    }

    fn news(&self, ancestors: &[Block]) -> Vec<u64> {
        let newest = self.chain.lock().unwrap().last().unwrap().clone();
        assert_eq!(ancestors.last().map(Block::digest), Some(newest.digest()), "down to the newest final block");
        let known: BTreeSet<u64> = ancestors.iter().flat_map(numbers).collect();
        self.waiting.lock().unwrap().iter().copied().filter(|number| !known.contains(number)).collect()
    }
}

impl Application for Toy {
    fn genesis(&self) -> Block {
        if self.start.header().height == 0 {
            return self.start.clone();
        }
        Self::new(u32::try_from(self.epoch_blocks).unwrap(), self.plan.clone()).start.clone()
    }

    fn committee(&self, epoch: u64) -> Option<Committee> {
        let is_known = epoch == 0 || epoch * self.epoch_blocks <= self.height() + 1;
        is_known.then(|| self.planned(epoch))
    }

    fn work(&self, ancestors: &[Block]) -> Work {
        if self.news(ancestors).is_empty() { Work::Nothing } else { Work::Some }
    }

    fn arrivals(&self) -> Arc<Notify> {
        self.arrivals.clone()
    }

    fn propose(&self, ancestors: &[Block], epoch: u64, unix_ms: u64) -> Option<Block> {
        let body = self.news(ancestors).into_iter().flat_map(u64::to_le_bytes).collect();
        let block = self.made(&ancestors[0], body, unix_ms);
        assert_eq!(block.header().epoch, epoch);
        Some(block)
    }

    fn verify(&self, block: &Block, ancestors: &[Block], unix_ms: u64) -> Verdict {
        self.news(ancestors);
        if *block != self.made(&ancestors[0], block.body().to_vec(), block.header().unix_ms) {
            return Verdict::Invalid("another state".to_owned());
        }
        let until_unix_ms = block.header().unix_ms.saturating_sub(2_000);
        if until_unix_ms > unix_ms { Verdict::Early { until_unix_ms } } else { Verdict::Valid }
    }

    fn finalised(&self, block: Block) {
        assert!(numbers(&block).all(|number| number != POISON), "poisoned");
        let mut chain = self.chain.lock().unwrap();
        let newest = chain.last().unwrap();
        if block.header().height <= newest.header().height {
            return;
        }
        assert_eq!((block.header().height, block.header().parent), (newest.header().height + 1, newest.digest()));
        self.waiting.lock().unwrap().retain(|waiting| numbers(&block).all(|number| number != *waiting));
        let height = block.header().height;
        chain.push(block);
        drop(chain);
        self.height.send_replace(height);
    }

    fn certified(&self, anchor: Anchor) {
        let mut anchors = self.anchors.lock().unwrap();
        assert!(anchors.last().is_none_or(|last| last.header.height < anchor.header.height));
        anchors.push(anchor);
    }

    fn fault(&self, fault: Fault) {
        self.faults.send_modify(|faults| faults.push(fault));
    }
}
