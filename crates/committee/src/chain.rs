//! The state of a member: what is final, what may become so, and what waits to be said.
//!
//! The engine's thread calls it as an [`consensus::Application`]; everybody else through [`Chain`]'s own functions.

mod application;
mod forks;
mod proposal;
#[cfg(test)]
pub(crate) mod tests;

use crate::{
    committees::Committees,
    durable::FileError,
    execution::{Executed, Rules},
    latest::{Happened, Latest},
    locks::{locked, written},
    mempool::{Entry, Full},
    pending::{Outcome, Pending},
    snapshots::Snapshot,
};
use consensus::{Block, Fault};
use forks::Forks;
use protocol::{
    header::{Anchor, Committee, Handover},
    ids::{AccountId, NodeId},
    signed::Signed,
};
use registry::{Bundle, BundleError, Registry, Rejection, State};
use std::{
    fs::File,
    sync::{
        Arc, Mutex, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::sync::{Notify, broadcast, oneshot, watch};

/// Blocks with events that a slow reader may be behind.
const EVENTS_MAX: usize = 4096;
/// Faults that are kept, and said, until the next start.
const FAULTS_MAX: usize = 64;

/// When a snapshot is made, and when one is taken from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotPace {
    /// After so many blocks.
    pub blocks: u64,
    /// Or after so many bytes of bodies.
    pub bytes: u64,
    /// So many blocks behind, a member takes the state from others, and not every block.
    pub behind: u64,
}

impl Default for SnapshotPace {
    fn default() -> Self {
        Self { blocks: 1024, bytes: 64 << 20, behind: 16_384 }
    }
}

#[derive(Debug)]
pub(crate) struct Chain {
    pub(crate) rules: Rules,
    genesis: Block,
    pace: SnapshotPace,
    pending: Mutex<Pending>,
    forks: Mutex<Forks>,
    /// Held while a block, or a snapshot, is taken in.
    finalising: Mutex<()>,
    committees: Mutex<Committees>,
    registry: Arc<RwLock<Registry>>,
    /// What `latest` shows. Beside it, because whoever looks at that holds a lock while looking, and asks us meanwhile.
    newest: Mutex<Arc<Latest>>,
    latest: watch::Sender<Arc<Latest>>,
    events: broadcast::Sender<Arc<Happened>>,
    arrivals: Arc<Notify>,
    /// The newest snapshot that is to be written.
    due: watch::Sender<Option<Arc<Snapshot>>>,
    failure: watch::Sender<Option<String>>,
    faults: watch::Sender<Vec<Fault>>,
    /// Somebody waits for an epoch to end: no block is to be waited for.
    hurries: AtomicBool,
    /// Of the folder, held for as long as the engine's thread has this chain.
    lock: Mutex<Option<File>>,
}

/// What a chain begins with.
pub(crate) struct Beginning {
    pub(crate) rules: Rules,
    pub(crate) genesis: (Block, State),
    pub(crate) committees: Committees,
    pub(crate) snapshot: Option<Arc<Snapshot>>,
    pub(crate) pace: SnapshotPace,
    pub(crate) lock: File,
}

impl Chain {
    pub(crate) fn new(beginning: Beginning) -> Arc<Self> {
        let Beginning { rules, genesis: (genesis, state), committees, snapshot, pace, lock } = beginning;
        let (block, state, anchor) = match &snapshot {
            Some(snapshot) => (&snapshot.block, snapshot.state.clone(), Some(&snapshot.anchor)),
            None => (&genesis, state, None),
        };
        let anchor = anchor.map(|anchor| Arc::new((anchor.clone(), state.clone())));
        let latest = Arc::new(Latest { header: block.header().clone(), state: state.clone(), anchor });
        Arc::new(Self {
            forks: Mutex::new(Forks::new(block.clone(), Executed::known(block, state.clone()))),
            pending: Mutex::default(),
            finalising: Mutex::default(),
            committees: Mutex::new(committees),
            registry: Arc::new(RwLock::new(Registry::from(state))),
            newest: Mutex::new(Arc::clone(&latest)),
            latest: watch::Sender::new(latest),
            events: broadcast::Sender::new(EVENTS_MAX),
            arrivals: Arc::default(),
            due: watch::Sender::new(None),
            failure: watch::Sender::new(None),
            faults: watch::Sender::new(Vec::new()),
            hurries: AtomicBool::new(false),
            lock: Mutex::new(Some(lock)),
            rules,
            genesis,
            pace,
        })
    }

    pub(crate) fn registry(&self) -> Arc<RwLock<Registry>> {
        Arc::clone(&self.registry)
    }

    pub(crate) fn latest(&self) -> watch::Receiver<Arc<Latest>> {
        self.latest.subscribe()
    }

    pub(crate) fn newest(&self) -> Arc<Latest> {
        Arc::clone(&locked(&self.newest))
    }

    fn show(&self, latest: Latest) {
        let latest = Arc::new(latest);
        *locked(&self.newest) = Arc::clone(&latest);
        self.latest.send_replace(latest);
    }

    pub(crate) fn events(&self) -> broadcast::Receiver<Arc<Happened>> {
        self.events.subscribe()
    }

    pub(crate) fn snapshots(&self) -> watch::Receiver<Option<Arc<Snapshot>>> {
        self.due.subscribe()
    }

    /// Why nothing can become final here any more.
    pub(crate) fn failure(&self) -> Option<String> {
        self.failure.borrow().clone()
    }

    /// Waits until nothing can become final here any more, and says why.
    pub(crate) async fn failed(&self) -> String {
        let mut failure = self.failure.subscribe();
        loop {
            let why = failure.borrow_and_update().clone();
            match why {
                Some(why) => return why,
                // The other end is here.
                None => drop(failure.changed().await),
            }
        }
    }

    pub(crate) fn height(&self) -> u64 {
        self.newest().header.height
    }

    /// Of the next block.
    pub(crate) fn epoch(&self) -> u64 {
        self.rules.epoch(self.height() + 1)
    }

    pub(crate) fn faults(&self) -> watch::Receiver<Vec<Fault>> {
        self.faults.subscribe()
    }

    /// Says that nothing can become final here any more, and why.
    pub(crate) fn fail(&self, why: String) {
        tracing::error!(%why, "this member of the committee has stopped");
        self.failure.send_if_modified(|failure| {
            let is_first = failure.is_none();
            failure.get_or_insert(why);
            is_first
        });
    }

    /// Lets go of the folder: nothing writes there any more.
    pub(crate) fn release(&self) {
        drop(locked(&self.lock).take());
    }

    /// So many blocks behind, a snapshot is taken.
    pub(crate) fn behind_max(&self) -> u64 {
        self.pace.behind
    }

    /// Makes blocks at once while somebody waits for an epoch to end.
    pub(crate) fn hurry(&self, hurries: bool) {
        if self.hurries.swap(hurries, Ordering::Relaxed) != hurries {
            self.arrivals.notify_waiters();
        }
    }

    /// Machines with which this member agrees, as far as it knows: of this epoch and of the next one.
    pub(crate) fn members(&self) -> Vec<NodeId> {
        let state = self.newest().state.clone();
        let committees = [state.committee(), state.next_committee()];
        let mut members: Vec<NodeId> =
            committees.iter().flatten().flat_map(|committee| committee.members().iter().copied()).collect();
        members.sort_unstable();
        members.dedup();
        members
    }

    /// Machines that may know what has happened while this member was away.
    pub(crate) fn known_members(&self) -> Vec<NodeId> {
        let mut members = self.members();
        members.extend(locked(&self.committees).members());
        members.sort_unstable();
        members.dedup();
        members
    }

    /// Who signs the next block.
    pub(crate) fn committee_now(&self) -> Option<Committee> {
        let latest = self.newest();
        let is_last = self.rules.is_last(latest.header.height);
        if is_last { latest.state.next_committee() } else { latest.state.committee() }
    }

    pub(crate) fn handovers(&self, from_epoch: u64) -> Vec<Handover> {
        locked(&self.committees).handovers(from_epoch)
    }

    /// Heights of blocks whose certificates are missing to show how committees followed each other.
    pub(crate) fn wanted_anchors(&self) -> Vec<u64> {
        locked(&self.committees).wanted()
    }

    pub(crate) fn attest(&self, anchor: &Anchor) {
        if let Err(error) = locked(&self.committees).attest(anchor) {
            self.fail(format!("the committees cannot be written: {error}"));
        }
    }

    /// Changes what is known of committees.
    pub(crate) fn with_committees<T>(&self, change: impl FnOnce(&mut Committees) -> T) -> T {
        change(&mut locked(&self.committees))
    }

    /// The finalised state as the next block finds it if it comes now.
    pub(crate) fn imminent(&self, unix_ms: u64) -> Result<State, Rejection> {
        let latest = self.newest();
        Ok(latest.state.begin(&self.rules.context(&latest.header, unix_ms))?.state)
    }

    /// A bundle whose signature holds.
    pub(crate) fn opened(&self, signed: Signed<Bundle>, source: Option<NodeId>) -> Result<Arc<Entry>, BundleError> {
        let bundle = self.rules.open(&signed)?;
        if bundle.bundle().pool != self.rules.pool {
            return Err(BundleError::OtherPool);
        }
        Ok(Arc::new(Entry::new(signed, bundle, source)))
    }

    /// Takes in a bundle that another member has sent.
    pub(crate) fn hear(&self, entry: Arc<Entry>) -> Result<bool, Full> {
        let said = self.newest().state.read(&registry::keys::sequence(entry.author()));
        if said.is_some_and(|said| entry.sequence() <= said) {
            return Ok(false);
        }
        let is_new = locked(&self.pending).mempool.insert(entry)?;
        if is_new {
            self.arrivals.notify_waiters();
        }
        Ok(is_new)
    }

    /// Takes in a bundle for somebody on this machine.
    pub(crate) fn submit(&self, entry: Arc<Entry>) -> Result<oneshot::Receiver<Outcome>, Full> {
        let outcome = locked(&self.pending).submit(entry)?;
        self.arrivals.notify_waiters();
        Ok(outcome)
    }

    /// Everything that somebody on this machine waits for.
    pub(crate) fn awaited(&self) -> Vec<Arc<Entry>> {
        locked(&self.pending).awaited()
    }

    /// What waits of one author, in order.
    pub(crate) fn waiting_of(&self, author: AccountId) -> Vec<Arc<Entry>> {
        locked(&self.pending).of(author)
    }

    /// Looks whether bundles that are waited for apply to the finalised state still, so that nobody waits for what others
    /// have made impossible.
    pub(crate) fn review(&self, awaited: Vec<Arc<Entry>>, unix_ms: u64) {
        let latest = self.newest();
        let Ok(mut fork) = latest.state.begin(&self.rules.context(&latest.header, unix_ms)) else { return };
        for entry in awaited {
            match self.rules.apply(&fork.state, &entry.bundle) {
                Ok(step) => fork = step,
                // A newer block may hold it, and says so itself.
                Err(_) if self.height() != latest.header.height => return,
                Err(Rejection::Bundle(BundleError::Replayed { .. } | BundleError::Expired)) => {}
                Err(rejection) => locked(&self.pending).refuse(&entry, rejection),
            }
        }
    }

    /// Goes on from a snapshot of others, whose certificate holds.
    pub(crate) fn install(&self, snapshot: &Snapshot) -> Result<(), FileError> {
        let _alone = locked(&self.finalising);
        let Snapshot { block, anchor, state } = snapshot;
        let header = block.header();
        locked(&self.committees).learn_from(anchor, state)?;
        *locked(&self.forks) = Forks::new(block.clone(), Executed::known(block, state.clone()));
        *written(&self.registry) = Registry::from(state.clone());
        locked(&self.pending).overtaken(state, header.unix_ms);
        let anchor = Some(Arc::new((anchor.clone(), state.clone())));
        self.show(Latest { header: header.clone(), state: state.clone(), anchor });
        Ok(())
    }
}
