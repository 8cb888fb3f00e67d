//! Members, their folders, and the network between them.

use committee::{Member, MemberConfig, SnapshotPace, loopback::Loopback};
use consensus::Pace;
use protocol::{genesis::Genesis, ids::NodeId, limits, link::Role};
use registry::Fact;
use std::{path::PathBuf, time::Duration};
use trust::MachineKey;

pub(crate) struct World {
    pub(crate) keys: Vec<MachineKey>,
    pub(crate) genesis: Genesis,
    pub(crate) network: Loopback,
    pub(crate) snapshots: SnapshotPace,
    pub(crate) pace: Option<Pace>,
    folder: tempfile::TempDir,
}

impl World {
    pub(crate) fn of(members: usize) -> Self {
        Self::founded(members, members)
    }

    /// Of these machines, the first ones found the pool.
    pub(crate) fn founded(founders: usize, machines: usize) -> Self {
        let keys: Vec<MachineKey> = (0..machines).map(|_| MachineKey::generate()).collect();
        let committee = keys[..founders].iter().map(MachineKey::id).collect();
        let mut genesis = Genesis::new(committee, &[7; 32], 1_700_000_000_000);
        genesis.epoch_blocks = 2 * limits::EPOCH_BLOCKS_MIN;
        Self {
            keys,
            genesis,
            network: Loopback::default(),
            snapshots: SnapshotPace::default(),
            // Blocks come when there is something to say, and soon after when not.
            pace: Some(Pace { idle: Duration::from_millis(500), gather: Duration::from_millis(2) }),
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn folder(&self, member: usize) -> PathBuf {
        self.folder.path().join(member.to_string())
    }

    pub(crate) fn id(&self, member: usize) -> NodeId {
        self.keys[member].id()
    }

    pub(crate) fn config(&self, member: usize) -> MemberConfig {
        let mut config = MemberConfig::new(self.folder(member), self.keys[member].clone(), self.genesis.clone());
        (config.pace, config.snapshots) = (self.pace, self.snapshots);
        config
    }

    pub(crate) async fn start(&self, member: usize) -> Member {
        let network = self.network.join(self.id(member));
        Member::start(self.config(member), network).await.unwrap()
    }
}

pub(crate) fn node(number: u64) -> NodeId {
    NodeId(*blake3::hash(&number.to_le_bytes()).as_bytes())
}

/// Something that has not been said before, and that every orchestrator may say.
pub(crate) fn admitted(number: u64) -> Fact {
    Fact::MemberAdmitted { node: node(number), role: Role::Node, at_unix_ms: 1 }
}

/// Something that is refused by whoever is asked.
pub(crate) fn nonsense() -> Fact {
    Fact::Approved { node: NodeId([99; 32]) }
}

/// Waits until a member has taken in a block of this height.
pub(crate) async fn reached(member: &Member, height: u64) {
    member.latest().wait_for(|latest| latest.header.height >= height).await.unwrap();
}
