//! Members of one process, each with its own folder, and what carries their messages.

use crate::toy::{POOL, Plan, Toy, key};
use bytes::Bytes;
use consensus::{Config, Consensus, Network, Pace, Start, StartError, start};
use protocol::{header::Anchor, ids::NodeId};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::sync::mpsc;

type Queues = Arc<Mutex<BTreeMap<NodeId, mpsc::Sender<(NodeId, u8, Bytes)>>>>;

pub(crate) struct Hub {
    pub(crate) plan: Plan,
    pub(crate) epoch_blocks: u32,
    folder: tempfile::TempDir,
    queues: Queues,
}

pub(crate) struct Local {
    pub(crate) toy: Arc<Toy>,
    pub(crate) consensus: Consensus,
}

impl Hub {
    pub(crate) fn new(epoch_blocks: u32, plan: Plan) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { plan, epoch_blocks, folder, queues: Queues::default() }
    }

    pub(crate) async fn member(&self, index: u8) -> Local {
        self.member_with(index, "a", |_| {}).await.unwrap()
    }

    /// `disk` names which of its disks it has.
    pub(crate) async fn member_with(
        &self,
        index: u8,
        disk: &str,
        change: impl FnOnce(&mut Config),
    ) -> Result<Local, StartError> {
        let mut config = Config {
            folder: self.folder.path().join(format!("{index}-{disk}")),
            key: key(index),
            pool: POOL,
            epoch_blocks: self.epoch_blocks,
            pace: Some(Pace { idle: Duration::from_millis(100), gather: Duration::from_millis(1) }),
            signs_from_epoch: 0,
            start: Start::Genesis,
        };
        change(&mut config);
        let toy = match &config.start {
            Start::Genesis => Toy::new(self.epoch_blocks, self.plan.clone()),
            Start::After { block, .. } => Toy::after(self.epoch_blocks, self.plan.clone(), block.clone()),
        };
        let consensus = start(config, toy.clone(), self.network(key(index).id())).await?;
        Ok(Local { toy, consensus })
    }

    fn network(&self, me: NodeId) -> Network {
        let (queue, receive) = mpsc::channel(4096);
        self.queues.lock().unwrap().insert(me, queue);
        let queues = self.queues.clone();
        let send = move |to, channel, message| {
            let queue = queues.lock().unwrap().get(&to).cloned();
            queue.is_some_and(|queue| queue.try_send((me, channel, message)).is_ok())
        };
        Network { send: Arc::new(send), receive }
    }

    /// Says something in somebody's name.
    pub(crate) fn say(&self, from: u8, to: u8, channel: u8, message: Bytes) {
        let queue = self.queues.lock().unwrap()[&key(to).id()].clone();
        queue.try_send((key(from).id(), channel, message)).unwrap();
    }
}

impl Local {
    /// The block of some height and its certificate, the newest that has one of its own and satisfies this.
    pub(crate) async fn anchor(&self, wanted: impl Fn(u64) -> bool) -> Option<Start> {
        let anchors: Vec<Anchor> = self.toy.anchors();
        let anchor = anchors.into_iter().rev().find(|anchor| wanted(anchor.header.height))?;
        let block = self.consensus.block(anchor.header.height).await?;
        Some(Start::After { block, anchor })
    }
}

/// Nobody has another block at any height.
pub(crate) fn agree<'a>(locals: impl IntoIterator<Item = &'a Local>) {
    let mut digests = BTreeMap::new();
    for local in locals {
        for block in local.toy.chain() {
            let height = block.header().height;
            assert_eq!(*digests.entry(height).or_insert(block.digest()), block.digest(), "height {height}");
        }
        local.toy.anchors();
    }
}
