//! Blocks that may become final, executed: each once, however often the engine asks.

use crate::execution::{Executed, Rules};
use consensus::Block;
use protocol::proof::Digest;
use std::{collections::BTreeMap, sync::Arc};

/// More are executed again. A member sees a few at once.
const FORKS_MAX: usize = 256;

#[derive(Debug)]
pub(crate) struct Forks {
    /// The newest final block.
    pub(crate) tip: Arc<Executed>,
    pub(crate) tip_block: Block,
    executed: BTreeMap<Digest, Arc<Executed>>,
    /// Since the last snapshot.
    pub(crate) blocks: u64,
    pub(crate) bytes: u64,
}

/// Why there is no state to build on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unreached {
    /// It does not come from what is final.
    #[error("it is not built upon what is final")]
    Astray,
    /// A block in between is none.
    #[error("a block before it is invalid: {0}")]
    Invalid(String),
}

impl Forks {
    pub(crate) fn new(tip_block: Block, tip: Executed) -> Self {
        Self { tip: Arc::new(tip), tip_block, executed: BTreeMap::new(), blocks: 0, bytes: 0 }
    }

    fn get(&self, digest: &Digest) -> Option<Arc<Executed>> {
        if self.tip.digest == *digest { Some(Arc::clone(&self.tip)) } else { self.executed.get(digest).cloned() }
    }

    pub(crate) fn has(&self, block: &Block) -> bool {
        self.get(&block.digest()).is_some()
    }

    /// The first of these blocks, executed; whatever of them is missing is executed on the way.
    pub(crate) fn reach(&mut self, rules: &Rules, ancestors: &[Block]) -> Result<Arc<Executed>, Unreached> {
        let known = ancestors.iter().enumerate().find_map(|(place, block)| Some((place, self.get(&block.digest())?)));
        let (place, mut reached) = known.ok_or(Unreached::Astray)?;
        for block in ancestors[..place].iter().rev() {
            let executed = rules.execute(&reached, block).map_err(|why| Unreached::Invalid(why.to_string()))?;
            reached = self.keep(executed);
        }
        Ok(reached)
    }

    pub(crate) fn keep(&mut self, executed: Executed) -> Arc<Executed> {
        if self.executed.len() >= FORKS_MAX {
            self.executed.clear();
        }
        let executed = Arc::new(executed);
        self.executed.insert(executed.digest, Arc::clone(&executed));
        executed
    }

    /// A block behind the newest final one, executed.
    pub(crate) fn next(&mut self, rules: &Rules, block: &Block) -> Result<Arc<Executed>, crate::execution::Invalid> {
        match self.executed.get(&block.digest()) {
            Some(known) if known.header.parent == self.tip.digest => Ok(Arc::clone(known)),
            _ => rules.execute(&self.tip, block).map(Arc::new),
        }
    }

    /// Makes it the newest final one.
    pub(crate) fn advance(&mut self, block: Block, executed: Arc<Executed>) {
        self.blocks += 1;
        self.bytes += block.body().len() as u64;
        (self.tip_block, self.tip) = (block, executed);
        let height = self.tip.header.height;
        self.executed.retain(|_, executed| executed.header.height > height);
    }
}
