use crate::{
    chain::{Beginning, Chain, SnapshotPace},
    committees::Committees,
    execution::Rules,
    founding::found,
    signatures::Remembering,
};
use consensus::{Application, Block, Verdict};
use protocol::{
    header::{Anchor, Committee, Header},
    ids::{NodeId, PoolId},
    limits,
    link::Role,
    signed::Signed,
};
use registry::{Bundle, Fact, Genesis};
use std::sync::Arc;
use trust::MachineKey;

pub(crate) const NOW: u64 = 1_790_000_000_000;

/// Members without an engine.
pub(crate) struct Driver {
    pub(crate) keys: Vec<MachineKey>,
    pub(crate) genesis: Genesis,
    pub(crate) chains: Vec<Arc<Chain>>,
    pub(crate) now: u64,
    tip: Block,
    _folders: Vec<tempfile::TempDir>,
}

impl Driver {
    pub(crate) fn of(members: usize) -> Self {
        let keys: Vec<MachineKey> = (0..members).map(|_| MachineKey::generate()).collect();
        let mut genesis = Genesis::new(keys.iter().map(MachineKey::id).collect(), &[7; 32], NOW - 1_000_000);
        genesis.epoch_blocks = limits::EPOCH_BLOCKS_MIN;
        let folders: Vec<_> = keys.iter().map(|_| tempfile::tempdir().unwrap()).collect();
        let chains: Vec<_> = folders
            .iter()
            .map(|folder| {
                let (pool, epoch_blocks) = (genesis.pool().unwrap(), genesis.epoch_blocks.into());
                let first = genesis.committee().unwrap();
                Chain::new(Beginning {
                    rules: Rules { pool, epoch_blocks, signatures: Remembering::default() },
                    genesis: found(&genesis).unwrap(),
                    committees: Committees::load(folder.path(), pool, epoch_blocks, first).unwrap(),
                    snapshot: None,
                    pace: SnapshotPace::default(),
                    lock: tempfile::tempfile().unwrap(),
                })
            })
            .collect();
        let tip = chains[0].genesis();
        Self { keys, genesis, chains, now: NOW, tip, _folders: folders }
    }

    pub(crate) fn pool(&self) -> PoolId {
        self.genesis.pool().unwrap()
    }

    pub(crate) fn tip(&self) -> Block {
        self.tip.clone()
    }

    pub(crate) fn signed(&self, author: &MachineKey, sequence: u64, facts: Vec<Fact>) -> Signed<Bundle> {
        let not_after_unix_ms = self.now + 60_000;
        author.sign(&Bundle { pool: self.pool(), author: author.id().into(), sequence, not_after_unix_ms, facts })
    }

    /// All members hear of a bundle.
    pub(crate) fn hear(&self, signed: &Signed<Bundle>) {
        for chain in &self.chains {
            chain.hear(chain.opened(signed.clone(), None).unwrap()).unwrap();
        }
    }

    /// One member proposes, all of them find it valid, and it becomes final.
    pub(crate) fn agree(&mut self, leader: usize) -> Block {
        let epoch = (self.tip.header().height + 1) / u64::from(self.genesis.epoch_blocks);
        let parent = [self.tip()];
        let block = self.chains[leader].propose(&parent, epoch, self.now).unwrap();
        for chain in &self.chains {
            assert_eq!(chain.verify(&block, &parent, self.now), Verdict::Valid);
        }
        self.finalise(&block);
        block
    }

    pub(crate) fn finalise(&mut self, block: &Block) {
        let anchor = certify(&self.keys, block.header().clone());
        for chain in &self.chains {
            chain.finalised(block.clone());
            chain.certified(anchor.clone());
            assert_eq!(chain.failure(), None);
        }
        self.tip = block.clone();
    }
}

/// The certificate of a committee of these, signed by all of them.
pub(crate) fn certify(keys: &[MachineKey], header: Header) -> Anchor {
    let committee = Committee::new(keys.iter().map(MachineKey::id).collect()).unwrap();
    trust::light::certify(&header, &committee, keys)
}

/// Of a member.
pub(crate) fn bundle(driver: &Driver, member: usize, sequence: u64, facts: Vec<Fact>) -> Signed<Bundle> {
    driver.signed(&driver.keys[member], sequence, facts)
}

pub(crate) fn node(number: u64) -> NodeId {
    NodeId(*blake3::hash(&number.to_le_bytes()).as_bytes())
}

/// Something that has not been said before, and that every orchestrator may say.
pub(crate) fn admitted(number: u64) -> Fact {
    Fact::MemberAdmitted { node: node(number), role: Role::Node, at_unix_ms: 1 }
}
