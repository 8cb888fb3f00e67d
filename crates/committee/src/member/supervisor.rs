//! Keeps a member's engine running, from what its disk says or, where that is too little, from what others have.

use super::{
    Shared,
    inbox::{self, ANSWERS, ENGINE_QUEUE, Received, ToEngine},
    now,
};
use crate::{
    catch_up::{self, Answers},
    config::StartError,
    durable::FileError,
    duty::Duty,
    locks::locked,
    message::Message,
    repeating::Speaker,
    snapshots::{Snapshot, Snapshots},
};
use consensus::{Application, Config, Consensus, Network, Start};
use std::{
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, timeout},
};

/// How often a member says where it is, unasked.
const ANNOUNCE: Duration = Duration::from_secs(5);
/// How often a member looks after itself.
const TICK: Duration = Duration::from_millis(500);
/// How often a member without a past asks for the others'.
const ASK: Duration = Duration::from_secs(1);
/// For how long a member that is behind waits for the next block before it takes a snapshot instead.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long a member that found no snapshot waits before it looks again.
const AGAIN: Duration = Duration::from_secs(30);
/// How long others have to help a member whose own blocks do not suffice to start.
const RESCUE: Duration = Duration::from_secs(30);

struct Supervisor {
    shared: Arc<Shared>,
    to_engine: ToEngine,
    answers: Answers,
    /// What the engine starts after.
    start: Start,
}

/// Starts the member's tasks. What is on the disk has been taken in when this returns, unless there is none, and others
/// have to be asked first.
pub(super) async fn start(
    shared: Arc<Shared>,
    speaker: Arc<Speaker>,
    receive: mpsc::Receiver<Received>,
) -> Result<watch::Receiver<bool>, StartError> {
    let to_engine: ToEngine = Arc::new(Mutex::default());
    let (answered, answers) = mpsc::channel(ANSWERS);
    let (end, ended) = watch::channel(false);
    let start = match shared.serving.newest() {
        Some(snapshot) => after(&snapshot),
        None => Start::Genesis,
    };
    let supervisor = Supervisor { shared: Arc::clone(&shared), to_engine: Arc::clone(&to_engine), answers, start };
    until_stop(&shared, inbox::sort(Arc::clone(&shared), receive, to_engine, answered));
    until_stop(&shared, async move { tokio::join!(speaker.repeat(), speaker.review()) });
    until_stop(&shared, keep_snapshots(Arc::clone(&shared)));
    until_stop(&shared, keep_time(Arc::clone(&shared)));
    let has_past = locked(&shared.duty).is_some();
    let (ready, is_ready) = oneshot::channel();
    let is_alone = shared.chain.known_members() == [shared.peers.me];
    tokio::spawn(async move {
        supervisor.run(ready).await;
        drop(shared.writing.lock().await);
        shared.chain.release();
        let _ = end.send(true);
    });
    if has_past || is_alone {
        is_ready.await.unwrap_or_else(|_| Err(StartError::Blocks("the member was stopped".to_owned())))?;
    }
    Ok(ended)
}

fn until_stop<T: Send>(shared: &Shared, task: impl Future<Output = T> + Send + 'static) {
    let stop = shared.stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = task => {}
            () = stop.cancelled() => {}
        }
    });
}

fn after(snapshot: &Snapshot) -> Start {
    Start::After { block: snapshot.block.clone(), anchor: snapshot.anchor.clone() }
}

impl Supervisor {
    async fn run(mut self, ready: oneshot::Sender<Result<(), StartError>>) {
        let stop = self.shared.stop.clone();
        let mut ready = Some(ready);
        tokio::select! {
            outcome = self.live(&mut ready) => if let Err(error) = outcome {
                self.shared.chain.fail(error.to_string());
                if let Some(ready) = ready.take() {
                    let _ = ready.send(Err(error));
                }
            },
            () = stop.cancelled() => {}
        }
        self.end_engine().await;
    }

    /// Runs engines, one after the other. Ends when the member is down.
    async fn live(&mut self, ready: &mut Option<oneshot::Sender<Result<(), StartError>>>) -> Result<(), StartError> {
        self.remember().await?;
        loop {
            let engine = match self.begin_engine().await {
                Err(StartError::Consensus(error)) if self.may_be_rescued() => self.rescued(error).await?,
                engine => engine?,
            };
            if let Some(why) = self.shared.chain.failure() {
                return Err(StartError::Blocks(why));
            }
            if let Some(ready) = ready.take() {
                // Whoever started the member may be gone.
                let _ = ready.send(Ok(()));
            }
            let snapshot = self.watch(&engine).await?;
            drop(engine);
            self.end_engine().await;
            self.go_on_from(snapshot).await?;
        }
    }

    /// Finds out whether this member may vote. On the disk before it does.
    async fn remember(&mut self) -> Result<(), StartError> {
        let shared = &self.shared;
        let first = shared.chain.committee(0).ok_or_else(|| StartError::Blocks("epoch 0".to_owned()))?;
        if locked(&shared.duty).is_some() {
            return Ok(());
        }
        // Any quorum shares an honest member with those who were asked.
        let needed = first.quorum() - usize::from(first.contains(shared.peers.me));
        let is_alone = first.members() == [shared.peers.me];
        let mut places = shared.peers.places();
        while !is_alone && places.len() < needed {
            shared.peers.ask_all(&shared.chain.known_members(), &Message::WhereAreYou);
            tokio::time::sleep(ASK).await;
            places = shared.peers.places();
        }
        let begun = places.iter().map(|(_, here)| (here.height > 0).then_some(here.epoch));
        let duty = Duty { pool: shared.chain.rules.pool, signs_from_epoch: Duty::of_newcomer(begun) };
        let epoch = duty.signs_from_epoch;
        if epoch > 0 {
            tracing::warn!(epoch, "this member has no memory of its votes, and votes again from this epoch on");
        }
        duty.save(&shared.folder)?;
        *locked(&shared.duty) = Some(duty);
        Ok(())
    }

    async fn begin_engine(&self) -> Result<Arc<Consensus>, StartError> {
        let shared = &self.shared;
        let (to_engine, receive) = mpsc::channel(ENGINE_QUEUE);
        *locked(&self.to_engine) = Some(to_engine);
        let config = Config {
            folder: shared.folder.join("consensus"),
            key: shared.key.clone(),
            pool: shared.chain.rules.pool,
            epoch_blocks: shared.epoch_blocks,
            pace: shared.pace,
            signs_from_epoch: shared.signs_from_epoch().unwrap_or(u64::MAX),
            start: self.start.clone(),
        };
        let network = Network { send: Arc::clone(&shared.peers.send), receive };
        let engine = consensus::start(config, Arc::clone(&shared.chain) as Arc<dyn Application>, network).await?;
        let engine = Arc::new(engine);
        *locked(&shared.engine) = Some(Arc::clone(&engine));
        // What it had told of and not noted yet it tells again in a moment. Nobody shall see the state of before until then.
        while let Some(block) = engine.block(shared.chain.height() + 1).await
            && shared.chain.failure().is_none()
        {
            shared.chain.finalised(block);
        }
        Ok(engine)
    }

    async fn end_engine(&self) {
        *locked(&self.to_engine) = None;
        let engine = locked(&self.shared.engine).take();
        if let Some(engine) = engine {
            engine.stop().await;
        }
    }

    /// Whether others can help a member whose disk does not lead to a state.
    fn may_be_rescued(&self) -> bool {
        self.shared.chain.failure().is_none() && self.shared.chain.known_members().len() > 1
    }

    async fn rescued(&mut self, error: consensus::StartError) -> Result<Arc<Consensus>, StartError> {
        tracing::warn!(%error, "the blocks on the disk do not suffice: asking other members");
        self.end_engine().await;
        let shared = Arc::clone(&self.shared);
        let fetching = async {
            loop {
                if let Some(snapshot) = self.fetch(&shared).await {
                    return snapshot;
                }
                tokio::time::sleep(ASK).await;
            }
        };
        let Ok(snapshot) = timeout(RESCUE, fetching).await else { return Err(error.into()) };
        self.go_on_from(snapshot).await?;
        self.begin_engine().await
    }

    /// A snapshot above what this member has. Waits at least as long as others have to answer.
    async fn fetch(&mut self, shared: &Shared) -> Option<Snapshot> {
        shared.catches_up.store(true, Ordering::Relaxed);
        let fetched = catch_up::fetch(&shared.chain, &shared.peers, &mut self.answers, shared.chain.height()).await;
        shared.catches_up.store(false, Ordering::Relaxed);
        fetched
    }

    /// Looks after a running engine. Returns with a snapshot if this member had fallen too far behind for it. An error means
    /// that it is down.
    async fn watch(&mut self, engine: &Consensus) -> Result<Snapshot, StartError> {
        let shared = Arc::clone(&self.shared);
        let mut standing = engine.standing();
        let mut tick = tokio::time::interval(TICK);
        let (mut height, mut moved) = (shared.chain.height(), Instant::now());
        let (mut tried, mut asked): (Option<Instant>, _) = (None, Instant::now());
        shared.peers.ask_all(&shared.chain.known_members(), &Message::WhereAreYou);
        loop {
            tokio::select! {
                why = down(&mut standing) => return Err(StartError::Blocks(why)),
                why = shared.chain.failed() => return Err(StartError::Blocks(why)),
                _ = tick.tick() => {}
            }
            for wanted in shared.chain.wanted_anchors() {
                if let Some(anchor) = engine.anchor(wanted).await {
                    shared.chain.attest(&anchor);
                }
            }
            shared.chain.hurry(shared.peers.somebody_waits(now(), shared.chain.epoch()));
            if shared.chain.height() != height {
                (height, moved) = (shared.chain.height(), Instant::now());
            }
            // Nobody speaks to a member that was removed, which may be why it does not know.
            if moved.elapsed() > PATIENCE && asked.elapsed() > ANNOUNCE {
                asked = Instant::now();
                shared.peers.ask_all(&shared.chain.known_members(), &Message::WhereAreYou);
            }
            let offered = shared.peers.places().iter().filter_map(|(_, here)| here.snapshot).max().unwrap_or(0);
            let is_stuck = moved.elapsed() > PATIENCE && offered > height;
            let is_behind = is_stuck || offered > height.saturating_add(shared.chain.behind_max());
            if !is_behind || tried.is_some_and(|tried| tried.elapsed() < AGAIN) {
                continue;
            }
            tracing::info!(height, offered, "this member is far behind: taking a snapshot from others");
            // The engine goes on meanwhile: what others say that they have need not be so.
            let fetched = tokio::select! {
                why = down(&mut standing) => return Err(StartError::Blocks(why)),
                why = shared.chain.failed() => return Err(StartError::Blocks(why)),
                fetched = self.fetch(&shared) => fetched,
            };
            match fetched.filter(|snapshot| snapshot.height() > shared.chain.height()) {
                Some(snapshot) => return Ok(snapshot),
                None => tried = Some(Instant::now()),
            }
        }
    }

    /// Goes on from a snapshot of others.
    async fn go_on_from(&mut self, snapshot: Snapshot) -> Result<(), StartError> {
        let (shared, snapshot) = (&self.shared, Arc::new(snapshot));
        if snapshot.height() <= shared.chain.height() {
            // Blocks came in the meantime.
            return Ok(());
        }
        // On the disk first: the engine forgets what is below.
        save(shared, &snapshot).await?;
        shared.chain.install(&snapshot)?;
        shared.serving.hold(Arc::clone(&snapshot));
        self.start = after(&snapshot);
        Ok(())
    }
}

/// Waits for the engine to stop by itself, which it should not.
async fn down(standing: &mut watch::Receiver<consensus::Standing>) -> String {
    let stood = standing.wait_for(|standing| standing.down.is_some()).await;
    let why = stood.ok().and_then(|standing| standing.down.clone());
    why.unwrap_or_else(|| "the engine is gone".to_owned())
}

async fn save(shared: &Arc<Shared>, snapshot: &Arc<Snapshot>) -> Result<Option<u64>, FileError> {
    // Written to the end even if nobody waits for it any more: the folder is not free until then.
    let writing = Arc::clone(&shared.writing).lock_owned().await;
    let (keeper, snapshot) = (Arc::clone(shared), Arc::clone(snapshot));
    let saving = tokio::task::spawn_blocking(move || {
        let saved = Snapshots::open(&keeper.folder)?.save(&snapshot);
        drop(writing);
        saved
    });
    saving.await.unwrap_or_else(|error| {
        let path = shared.folder.clone();
        Err(FileError { path, error: std::io::Error::other(error) })
    })
}

/// Writes snapshots as they come due, and lets go of the blocks below.
async fn keep_snapshots(shared: Arc<Shared>) {
    let mut due = shared.chain.snapshots();
    while due.changed().await.is_ok() {
        let Some(snapshot) = due.borrow_and_update().clone() else { continue };
        match save(&shared, &snapshot).await {
            Ok(oldest) => {
                shared.serving.hold(snapshot);
                let engine = locked(&shared.engine).clone();
                // Not before it can be shown how the committees came to be.
                if let (Some(oldest), Some(engine), []) = (oldest, engine, &shared.chain.wanted_anchors()[..]) {
                    engine.prune(oldest);
                }
            }
            // Whatever is above the last one stays, so that nothing is lost but time.
            Err(error) => tracing::error!(%error, "a snapshot cannot be written"),
        }
    }
}

/// Keeps when blocks came, and says where this member is.
async fn keep_time(shared: Arc<Shared>) {
    let mut latest = shared.chain.latest();
    let mut announce = tokio::time::interval(ANNOUNCE);
    loop {
        tokio::select! {
            changed = latest.changed() => match changed {
                Ok(()) => shared.moved_unix_ms.store(now(), Ordering::Relaxed),
                Err(_) => return,
            },
            _ = announce.tick() => {
                let here = shared.serving.here(&shared.chain, shared.signs_from_epoch().unwrap_or(u64::MAX));
                shared.peers.ask_all(&shared.chain.members(), &Message::Here(here));
            }
        }
    }
}
