//! What is on the disk when a member starts.

use super::{Shared, now};
use crate::{
    certified::certified,
    chain::{Beginning, Chain},
    committees::Committees,
    config::{MemberConfig, StartError},
    durable,
    duty::Duty,
    execution::Rules,
    founding::found,
    peers::Peers,
    serving::Serving,
    signatures::Remembering,
    snapshots::{Snapshot, Snapshots},
};
use bytes::Bytes;
use consensus::Network;
use protocol::ids::{NodeId, PoolId};
use std::{
    fs::{self, File, TryLockError},
    path::Path,
    sync::{Arc, Mutex, atomic::AtomicBool},
    time::Duration,
};
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

/// Held by whoever uses the folder.
const LOCK: &str = "lock";
/// How long a member that was just ended has to let go of it.
const LOCK_TIME_MAX: Duration = Duration::from_secs(10);
const LOCK_RETRY: Duration = Duration::from_millis(50);

type Receive = mpsc::Receiver<(NodeId, u8, Bytes)>;

/// Opens a folder, and makes it where there is none.
pub(super) async fn open(config: MemberConfig, network: Network) -> Result<(Shared, Receive), StartError> {
    let pool = config.genesis.pool()?;
    durable::at(&config.folder, fs::create_dir_all(&config.folder))?;
    let lock = locked(&config.folder).await?;
    let Network { send, receive } = network;
    let peers = Arc::new(Peers::new(config.key.id(), send));
    let MemberConfig { folder, key, genesis, pace, snapshots } = config;
    let epoch_blocks = genesis.epoch_blocks;
    let read = {
        let folder = folder.clone();
        // A large snapshot takes a while.
        tokio::task::spawn_blocking(move || -> Result<_, StartError> {
            let duty = Duty::load(&folder)?;
            if duty.is_some_and(|duty| duty.pool != pool) {
                return Err(StartError::OtherPool(folder));
            }
            let first = genesis.committee().map_err(registry::GenesisError::from)?;
            let mut committees = Committees::load(&folder, pool, epoch_blocks.into(), first)?;
            let snapshot = newest(&Snapshots::open(&folder)?, pool, &mut committees)?.map(Arc::new);
            let rules = Rules { pool, epoch_blocks: epoch_blocks.into(), signatures: Remembering::default() };
            let genesis = found(&genesis)?;
            let beginning = Beginning { rules, genesis, committees, snapshot: snapshot.clone(), pace: snapshots, lock };
            Ok((duty, snapshot, Chain::new(beginning)))
        })
    };
    let (duty, snapshot, chain) = read.await.map_err(|error| StartError::Blocks(error.to_string()))??;
    let serving = Serving::default();
    if let Some(snapshot) = snapshot {
        serving.hold(snapshot);
    }
    let shared = Shared {
        chain,
        peers,
        serving,
        folder,
        key,
        pace,
        epoch_blocks,
        duty: Mutex::new(duty),
        engine: Mutex::default(),
        catches_up: AtomicBool::new(false),
        writing: Arc::default(),
        moved_unix_ms: now().into(),
        stop: CancellationToken::new(),
    };
    Ok((shared, receive))
}

/// The newest snapshot that is whole. After the last block of an epoch it says who signs next: a member that was ended
/// right after it had taken it from others has not noted that yet.
pub(crate) fn newest(
    snapshots: &Snapshots,
    pool: PoolId,
    committees: &mut Committees,
) -> Result<Option<Snapshot>, StartError> {
    for height in snapshots.heights()? {
        let loaded = snapshots.load(height).map_err(|error| error.to_string()).and_then(|snapshot| {
            let committee = committees.of(snapshot.anchor.header.epoch).ok_or("its committee is not known")?;
            certified(pool, &committee, &snapshot.anchor).map_err(|error| error.to_string())?;
            Ok(snapshot)
        });
        match loaded {
            Ok(snapshot) => {
                committees.learn_from(&snapshot.anchor, &snapshot.state)?;
                return Ok(Some(snapshot));
            }
            Err(why) => {
                tracing::warn!(height, why, "a snapshot is damaged: going back to the one before");
                snapshots.discard(height)?;
            }
        }
    }
    Ok(None)
}

async fn locked(folder: &Path) -> Result<File, StartError> {
    let path = folder.join(LOCK);
    let file = durable::at(&path, File::create(&path))?;
    let until = Instant::now() + LOCK_TIME_MAX;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < until => tokio::time::sleep(LOCK_RETRY).await,
            Err(TryLockError::WouldBlock) => return Err(StartError::InUse(folder.to_owned())),
            Err(TryLockError::Error(error)) => durable::at(&path, Err(error))?,
        }
    }
}
