//! What the engine asks, put into the application's words.

use crate::{Application, Block, Verdict, Work, scheme::Scheme};
use commonware_consensus::marshal::{Identifier, ancestry::Ancestry, core::Mailbox, standard::Standard};
use commonware_consensus::simplex::types::Context;
use commonware_consensus::{self as engine, Epochable as _, types::Height};
use commonware_cryptography::{Digested, blake3::Digest, ed25519::PublicKey};
use commonware_macros::select;
use commonware_runtime::{Clock, Metrics, Spawner};
use futures_util::StreamExt as _;
use protocol::ids::PoolId;
use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::sync::Notify;

pub(crate) type Marshal = Mailbox<Scheme, Standard<Block>>;

pub(crate) fn unix_ms(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// The application, asked one question at a time, and how far it is.
#[derive(Clone)]
pub(crate) struct Judge(Arc<Inner>);

struct Inner {
    application: Arc<dyn Application>,
    pool: PoolId,
    epoch_blocks: u64,
    /// The newest block that the application knows to be final. Held while it is asked.
    tip: Mutex<Block>,
    height: Arc<AtomicU64>,
    moved: Notify,
    idle_ms: AtomicU64,
    gather: Mutex<Duration>,
}

/// A member that is further behind waits for final blocks before it looks at a new one, rather than executing all in between.
const ANCESTORS_MAX: u64 = 64;
/// But not for ever: with much bad luck so many blocks need not become final.
const BEHIND_TIME_MAX: Duration = Duration::from_secs(2);

/// The tip has gone past the block in question.
struct Passed;

impl Judge {
    /// `height` is told how far the application is.
    pub(crate) fn new(
        application: Arc<dyn Application>,
        pool: PoolId,
        epoch_blocks: u32,
        tip: Block,
        height: Arc<AtomicU64>,
    ) -> Self {
        height.store(tip.header().height, Ordering::Relaxed);
        let epoch_blocks = u64::from(epoch_blocks);
        let tip = Mutex::new(tip);
        let (moved, idle_ms, gather) = (Notify::new(), AtomicU64::new(0), Mutex::default());
        Self(Arc::new(Inner { application, pool, epoch_blocks, tip, height, moved, idle_ms, gather }))
    }

    pub(crate) fn set_pace(&self, idle: Duration, gather: Duration) {
        self.0.idle_ms.store(u64::try_from(idle.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        *self.0.gather.lock().unwrap_or_else(PoisonError::into_inner) = gather;
    }

    pub(crate) fn application(&self) -> &Arc<dyn Application> {
        &self.0.application
    }

    pub(crate) fn tip(&self) -> Block {
        self.turn().clone()
    }

    fn turn(&self) -> MutexGuard<'_, Block> {
        self.0.tip.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A final block, in order; one that the application has been told of before is passed over.
    pub(crate) fn finalised(&self, block: Block) {
        let mut tip = self.turn();
        if block.header().height > tip.header().height {
            *tip = block.clone();
            self.0.application.finalised(block);
            self.0.height.store(tip.header().height, Ordering::Relaxed);
            self.0.moved.notify_waiters();
        }
    }

    /// Asks the application something about a block on `ancestors[0]`, which it gets down to the newest final one.
    fn ask<T>(&self, ancestors: &[Block], question: impl FnOnce(&dyn Application, &[Block]) -> T) -> Result<T, Passed> {
        let tip = self.turn();
        // Blocks may have become final since the ancestors were gathered.
        let height = tip.header().height;
        let end = ancestors.iter().position(|ancestor| ancestor.header().height == height).ok_or(Passed)?;
        if ancestors[end].digest() != tip.digest() {
            return Err(Passed);
        }
        Ok(question(&*self.0.application, &ancestors[..=end]))
    }

    /// The blocks of a chain, newest first, down to the newest final one.
    async fn gathered(&self, ancestry: &mut impl Ancestry<Block>) -> Vec<Block> {
        let mut ancestors = Vec::new();
        while let Some(ancestor) = ancestry.next().await {
            let height = ancestor.inner().header().height;
            ancestors.push(ancestor.inner().clone());
            if height <= self.0.height.load(Ordering::Relaxed) {
                break;
            }
        }
        ancestors
    }

    /// Waits, for a while, until the newest final block is not far below this height.
    async fn near<E: Clock>(&self, runtime: &E, height: u64) {
        let mut patience = std::pin::pin!(runtime.sleep(BEHIND_TIME_MAX));
        loop {
            let mut moved = std::pin::pin!(self.0.moved.notified());
            moved.as_mut().enable();
            if height <= self.0.height.load(Ordering::Relaxed) + ANCESTORS_MAX {
                return;
            }
            select! {
                _ = &mut patience => { return; },
                _ = moved => {},
            }
        }
    }

    /// What every block has to fulfil, whatever it is about.
    fn fits(&self, block: &Block, parent: &Block) -> bool {
        let (header, below) = (block.header(), parent.header());
        header.pool == self.0.pool
            && Some(header.height) == below.height.checked_add(1)
            && header.parent == parent.digest()
            && header.epoch == header.height / self.0.epoch_blocks
            && header.unix_ms > below.unix_ms
    }

    async fn work_or_idle<E: Clock>(&self, runtime: &E, ancestors: &[Block]) -> Result<(), Passed> {
        let idle = Duration::from_millis(self.0.idle_ms.load(Ordering::Relaxed));
        let mut idle = std::pin::pin!(runtime.sleep(idle));
        loop {
            // Listening before looking: what arrives in between is not missed.
            let arrivals = self.0.application.arrivals();
            let mut arrived = std::pin::pin!(arrivals.notified());
            arrived.as_mut().enable();
            match self.ask(ancestors, |application, ancestors| application.work(ancestors))? {
                Work::Nothing => {}
                Work::Some => {
                    let gather = *self.0.gather.lock().unwrap_or_else(PoisonError::into_inner);
                    runtime.sleep(gather).await;
                    return Ok(());
                }
                Work::Full => return Ok(()),
            }
            select! {
                _ = &mut idle => { return Ok(()); },
                _ = arrived => {},
            }
        }
    }
}

/// What the engine calls.
pub(crate) struct Judging {
    pub(crate) judge: Judge,
    pub(crate) marshal: Marshal,
}

impl Clone for Judging {
    fn clone(&self) -> Self {
        Self { judge: self.judge.clone(), marshal: self.marshal.clone() }
    }
}

impl<E: Clock + Spawner + Metrics> engine::Application<E> for Judging {
    type SigningScheme = Scheme;
    type Context = Context<Digest, PublicKey>;
    type Block = Block;
    type Input = ();

    async fn propose(
        &mut self,
        (runtime, context): (E, Self::Context),
        mut ancestry: impl Ancestry<Block>,
        (): (),
    ) -> Option<Digested<Block>> {
        let height = ancestry.peek()?.inner().header().height;
        self.judge.near(&runtime, height).await;
        let ancestors = self.judge.gathered(&mut ancestry).await;
        let parent = ancestors.first()?;
        self.judge.work_or_idle(&runtime, &ancestors).await.ok()?;
        let time = unix_ms(runtime.current()).max(parent.header().unix_ms.checked_add(1)?);
        let epoch = context.epoch().get();
        let asked = self.judge.ask(&ancestors, |application, ancestors| application.propose(ancestors, epoch, time));
        let block = asked.ok()??;
        if !self.judge.fits(&block, parent) {
            tracing::error!(
                height = block.header().height,
                "the application proposes a block that does not fit its parent"
            );
            return None;
        }
        Some(block.digested())
    }

    async fn verify(&mut self, (runtime, _): (E, Self::Context), mut ancestry: impl Ancestry<Block>) -> bool {
        let Some(block) = ancestry.next().await.map(|block| block.inner().clone()) else { return false };
        let height = block.header().height;
        self.judge.near(&runtime, height).await;
        let ancestors = self.judge.gathered(&mut ancestry).await;
        let refused = |why: &str| tracing::warn!(height, why, "refused a block of another member");
        match ancestors.first() {
            Some(parent) if self.judge.fits(&block, parent) => {}
            _ => {
                refused("it does not fit its parent");
                return false;
            }
        }
        loop {
            let now = unix_ms(runtime.current());
            match self.judge.ask(&ancestors, |application, ancestors| application.verify(&block, ancestors, now)) {
                Ok(Verdict::Valid) => return true,
                Ok(Verdict::Invalid(why)) => {
                    refused(&why);
                    return false;
                }
                Ok(Verdict::Early { until_unix_ms }) => {
                    let wait = until_unix_ms.saturating_sub(now).max(1);
                    runtime.sleep(Duration::from_millis(wait)).await;
                }
                // Final here, this block or another of its height.
                Err(Passed) => {
                    let found = self.marshal.get_block(Identifier::Height(Height::new(height))).await;
                    return found.is_some_and(|found| found.inner().digest() == block.digest());
                }
            }
        }
    }
}
