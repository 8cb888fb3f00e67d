//! One machine: its disk, and the member on it while it is up.

use super::{Plant, adversary, invariants::Invariants, plan::Lie, seat::Seat};
use crate::{
    chain::{Beginning, Chain, SnapshotPace},
    committees::Committees,
    duty::Duty,
    execution::Rules,
    founding::found,
    locks::locked,
    member::opened::newest,
    signatures::Remembering,
    snapshots::{Head, Snapshot, Snapshots},
};
use consensus::{Application as _, Config, Pace, Start, simulated::World};
use protocol::ids::{NodeId, PoolId};
use registry::{
    Genesis, State,
    snapshot::{Assembly, PARTS},
};
use std::{
    fs::File,
    path::PathBuf,
    sync::{Arc, Mutex},
};
use trust::MachineKey;

/// What all machines of a world know.
pub(super) struct Common {
    pub(super) genesis: Genesis,
    pub(super) pool: PoolId,
    pub(super) pace: Pace,
    pub(super) snapshot_blocks: u64,
    pub(super) plant: Plant,
    pub(super) watch: Arc<Mutex<Invariants>>,
}

pub(super) struct Machine {
    pub(super) name: usize,
    pub(super) key: MachineKey,
    pub(super) id: NodeId,
    pub(super) lie: Option<Lie>,
    skew_ms: i64,
    folder: tempfile::TempDir,
    twin_folder: tempfile::TempDir,
    disk: u32,
    /// While it is up.
    pub(super) chain: Option<Arc<Chain>>,
    twin: Option<Arc<Chain>>,
    pub(super) serving: Option<Arc<Snapshot>>,
    /// Bits of its disk are changed.
    pub(super) is_damaged: bool,
    pub(super) signs_from_epoch: u64,
}

impl Machine {
    pub(super) fn new(name: usize, key: MachineKey, skew_ms: i64, lie: Option<Lie>) -> Self {
        Self {
            name,
            id: key.id(),
            key,
            lie,
            skew_ms,
            folder: tempfile::tempdir().unwrap(),
            twin_folder: tempfile::tempdir().unwrap(),
            disk: 0,
            chain: None,
            twin: None,
            serving: None,
            is_damaged: false,
            signs_from_epoch: 0,
        }
    }

    /// All chains of this machine.
    pub(super) fn chains(&self) -> impl Iterator<Item = &Arc<Chain>> {
        self.chain.iter().chain(&self.twin)
    }

    pub(super) fn disk(&self) -> PathBuf {
        PathBuf::from(format!("{}-", self.disk))
    }

    /// Whether it remembers whether it may vote.
    pub(super) fn has_past(&self) -> bool {
        Duty::load(self.folder.path()).is_ok_and(|duty| duty.is_some())
    }

    /// Its disk is empty.
    pub(super) fn lose(&mut self) {
        self.folder = tempfile::tempdir().unwrap();
        self.disk += 1;
        (self.serving, self.is_damaged) = (None, false);
    }

    /// It is down, and what was not synced is gone.
    pub(super) fn crash(&mut self, common: &Common) {
        if common.plant == Plant::SyncsNothing {
            self.disk += 1;
        }
        self.forget();
    }

    /// It is down.
    pub(super) fn forget(&mut self) {
        (self.chain, self.twin) = (None, None);
    }

    /// A machine without a past learns from what others say where they are, whether it may vote.
    pub(super) fn remember(&mut self, common: &Common, epochs: &[Option<u64>]) {
        let signs_from_epoch = Duty::of_newcomer(epochs.iter().copied());
        Duty { pool: common.pool, signs_from_epoch }.save(self.folder.path()).unwrap();
    }

    fn opened(&self, common: &Common, folder: &std::path::Path) -> Result<(Arc<Chain>, Option<Arc<Snapshot>>), String> {
        let (genesis, pool) = (&common.genesis, common.pool);
        let epoch_blocks = genesis.epoch_blocks.into();
        let first = genesis.committee().unwrap();
        let damaged = |what: &str| format!("{what} cannot be read");
        let mut committees =
            Committees::load(folder, pool, epoch_blocks, first).map_err(|_| damaged("its committees"))?;
        let snapshots = Snapshots::open(folder).map_err(|_| damaged("its snapshots"))?;
        let snapshot = newest(&snapshots, pool, &mut committees).map_err(|_| damaged("its snapshots"))?.map(Arc::new);
        let chain = Chain::new(Beginning {
            rules: Rules { pool, epoch_blocks, signatures: Remembering::default() },
            genesis: found(genesis).unwrap(),
            committees,
            snapshot: snapshot.clone(),
            pace: SnapshotPace { blocks: common.snapshot_blocks, ..SnapshotPace::default() },
            lock: File::create(folder.join("lock")).unwrap(),
        });
        Ok((chain, snapshot))
    }

    fn config(&self, common: &Common, disk: PathBuf, snapshot: Option<&Snapshot>) -> Config {
        Config {
            folder: disk,
            key: self.key.clone(),
            pool: common.pool,
            epoch_blocks: common.genesis.epoch_blocks,
            pace: Some(common.pace),
            signs_from_epoch: self.signs_from_epoch,
            start: match snapshot {
                Some(Snapshot { block, anchor, .. }) => Start::After { block: block.clone(), anchor: anchor.clone() },
                None => Start::Genesis,
            },
        }
    }

    fn seat(&self, common: &Common, chain: &Arc<Chain>) -> Arc<Seat> {
        let (chain, watch) = (Arc::clone(chain), Arc::clone(&common.watch));
        let plant = common.plant;
        Arc::new(Seat { chain, me: self.id, skew_ms: self.skew_ms, lie: self.lie, plant, watch })
    }

    /// As a supervisor does.
    pub(super) async fn start(&mut self, world: &mut World, common: &Common) -> Result<(), String> {
        let duty = Duty::load(self.folder.path()).map_err(|_| "its duty cannot be read")?;
        self.signs_from_epoch = duty.map_or(0, |duty| duty.signs_from_epoch);
        let (chain, snapshot) = self.opened(common, self.folder.path())?;
        let config = self.config(common, self.disk(), snapshot.as_deref());
        let started = world.start(config, self.seat(common, &chain)).await;
        started.map_err(|error| error.to_string())?;
        while let Some(block) = world.block(self.id, chain.height() + 1).await
            && chain.failure().is_none()
        {
            chain.finalised(block);
        }
        if locked(&common.watch).is_honest(self.id) {
            locked(&common.watch).started(self.id, &chain.latest().borrow().header);
        }
        (self.chain, self.serving) = (Some(chain), snapshot);
        if self.lie == Some(Lie::Twin) {
            let (chain, snapshot) = self.opened(common, self.twin_folder.path())?;
            let config = self.config(common, PathBuf::from("twin-"), snapshot.as_deref());
            let started = world.start_twin(config, self.seat(common, &chain)).await;
            started.map_err(|error| error.to_string())?;
            self.twin = Some(chain);
        }
        Ok(())
    }

    /// What a supervisor does now and then.
    pub(super) async fn care(&mut self, world: &World, hurries: bool) -> Option<u64> {
        let chain = self.chain.clone()?;
        chain.hurry(hurries);
        for wanted in chain.wanted_anchors() {
            if let Some(anchor) = world.anchor(self.id, wanted).await {
                chain.attest(&anchor);
            }
        }
        let due = chain.snapshots().borrow().clone();
        let due = due.filter(|due| self.serving.as_ref().is_none_or(|held| held.height() < due.height()))?;
        let oldest = Snapshots::open(self.folder.path()).unwrap().save(&due).unwrap();
        let height = due.height();
        self.serving = Some(due);
        if let (Some(oldest), []) = (oldest, &chain.wanted_anchors()[..]) {
            world.prune(self.id, oldest);
        }
        Some(height)
    }

    /// The newest snapshot that it shows to others.
    pub(super) fn offer(&self) -> Option<(Head, State, Arc<Chain>)> {
        let (snapshot, chain) = (self.serving.clone()?, self.chain.clone()?);
        let head = snapshot.head();
        if self.lie.is_some() {
            let (head, state) = adversary::lying_head(&self.key, &head, &snapshot.state)?;
            return Some((head, state, chain));
        }
        Some((head, snapshot.state.clone(), chain))
    }

    /// Takes over a snapshot of another machine while it is down: checks what `catch_up` checks.
    pub(super) fn take(&mut self, common: &Common, offer: (Head, State, Arc<Chain>)) -> Result<u64, String> {
        let (head, state, server) = offer;
        let folder = self.folder.path();
        let epoch_blocks = common.genesis.epoch_blocks.into();
        let first = common.genesis.committee().unwrap();
        let mut committees = Committees::load(folder, common.pool, epoch_blocks, first).map_err(|_| "damaged")?;
        let mut handovers = server.handovers(committees.known_epoch());
        handovers.retain(|handover| handover.last.header.epoch < head.anchor.header.epoch);
        let block = head.block().ok_or("the body is another block's")?;
        let mut assembly = Assembly::new(block.header().state, head.manifest.clone()).map_err(|why| why.to_string())?;
        committees.follow(&handovers, &head.anchor).map_err(|why| why.to_string())?;
        for number in 0..PARTS {
            let part = state.part(number).map_err(|why| why.to_string())?;
            assembly.add(number, &part).map_err(|why| why.to_string())?;
        }
        let state = assembly.finish().ok_or("parts are missing")?;
        let snapshot = Snapshot { block, anchor: head.anchor, state };
        Snapshots::open(folder).unwrap().save(&snapshot).unwrap();
        self.serving = Some(Arc::new(snapshot));
        Ok(self.serving.as_ref().map_or(0, |taken| taken.height()))
    }
}
