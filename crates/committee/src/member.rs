mod inbox;
pub(crate) mod opened;
mod supervisor;

use crate::{
    chain::Chain,
    config::{MemberConfig, StartError},
    duty::Duty,
    execution::bundle_id,
    latest::{Happened, Latest},
    locks::locked,
    peers::Peers,
    pending::Outcome,
    repeating::Speaker,
    say::{Author, Say, SayError},
    serving::Serving,
    standing::{Standing, View},
};
use consensus::{Boxed, Consensus, Fault, Network, Pace};
use protocol::{
    header::{Committee, Handover},
    signed::Signed,
    time::unix_ms,
};
use registry::{Bundle, BundleError, Event, Fact, Registry, Rejection};
use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::SystemTime,
};
use tokio::sync::{broadcast, watch};
use tokio_util::sync::{CancellationToken, DropGuard};
use trust::MachineKey;

/// A running member of a pool's committee. Dropped, it stops without being waited for.
#[derive(Debug)]
pub struct Member {
    shared: Arc<Shared>,
    say: Say,
    author: Arc<Author>,
    ended: watch::Receiver<bool>,
    _stops: DropGuard,
}

/// What the parts of a member have in common.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) chain: Arc<Chain>,
    pub(crate) peers: Arc<Peers>,
    pub(crate) serving: Serving,
    pub(crate) folder: PathBuf,
    pub(crate) key: MachineKey,
    pub(crate) pace: Option<Pace>,
    pub(crate) epoch_blocks: u32,
    /// `None`: it is being found out.
    pub(crate) duty: Mutex<Option<Duty>>,
    pub(crate) engine: Mutex<Option<Arc<Consensus>>>,
    /// Answers of others are wanted.
    pub(crate) catches_up: AtomicBool,
    /// Held while a snapshot is written.
    pub(crate) writing: Arc<tokio::sync::Mutex<()>>,
    /// When the newest block came, in milliseconds since 1970.
    pub(crate) moved_unix_ms: AtomicU64,
    pub(crate) stop: CancellationToken,
}

/// Says of members that they have contradicted themselves, so that the pool knows it for good.
async fn accuse(chain: Arc<Chain>, say: Say, stop: CancellationToken) {
    let mut faults = chain.faults();
    let mut said = 0;
    loop {
        let fault = faults.borrow_and_update().get(said).cloned();
        let next = async {
            match fault.as_ref().map(crate::faults::to_fact) {
                None => faults.changed().await.is_ok(),
                Some(fact) => {
                    said += 1;
                    // Others have seen it too, and say it if this machine cannot.
                    if let Err(why) = say.say(vec![fact]).await {
                        tracing::warn!(%why, "a fault is not agreed on");
                    }
                    true
                }
            }
        };
        tokio::select! {
            goes_on = next => if !goes_on {
                return;
            },
            () = stop.cancelled() => return,
        }
    }
}

fn now() -> u64 {
    unix_ms(SystemTime::now())
}

impl Shared {
    fn signs_from_epoch(&self) -> Option<u64> {
        locked(&self.duty).map(|duty| duty.signs_from_epoch)
    }

    fn standing(&self) -> Standing {
        let members = self.chain.committee_now().as_ref().map_or(1, |committee: &Committee| committee.members().len());
        let view = View {
            chain: &self.chain,
            peers: &self.peers,
            signs_from_epoch: self.signs_from_epoch(),
            idle: self.pace.unwrap_or_else(|| Pace::of(members)).idle,
            moved_unix_ms: self.moved_unix_ms.load(Ordering::Relaxed),
            now_unix_ms: now(),
            down: self.chain.failure(),
        };
        view.standing()
    }
}

impl Member {
    /// Starts a member: it has taken in what is on its disk when this returns. A member without a past, of a committee of
    /// several, goes on after that to find out whether it has one that it has forgotten.
    pub fn start(config: MemberConfig, network: Network) -> Boxed<'static, Result<Self, StartError>> {
        Box::pin(async move {
            let (opened, receive) = opened::open(config, network).await?;
            let shared = Arc::new(opened);
            let speaker = Arc::new(Speaker { chain: Arc::clone(&shared.chain), peers: Arc::clone(&shared.peers) });
            let why = Arc::downgrade(&shared);
            let author = Arc::new(Author::new(
                Arc::clone(&shared.chain),
                shared.key.clone(),
                Arc::clone(&speaker),
                shared.stop.clone(),
                Arc::new(move || why.upgrade()?.standing().stalled),
            ));
            let stops = shared.stop.clone().drop_guard();
            let ended = supervisor::start(Arc::clone(&shared), speaker, receive).await?;
            let say = Say::start(Arc::clone(&author));
            tokio::spawn(accuse(Arc::clone(&shared.chain), say.clone(), shared.stop.clone()));
            Ok(Self { shared, say, author, ended, _stops: stops })
        })
    }

    /// The finalised state with what readers look for at hand. Written by the member alone.
    pub fn registry(&self) -> Arc<RwLock<Registry>> {
        self.shared.chain.registry()
    }

    /// The newest final block with the state after it, and the newest one that can be shown to others.
    pub fn latest(&self) -> watch::Receiver<Arc<Latest>> {
        self.shared.chain.latest()
    }

    /// What blocks change, from now on. A state that is taken from others comes without events.
    pub fn events(&self) -> broadcast::Receiver<Arc<Happened>> {
        self.shared.chain.events()
    }

    /// Says facts as this machine, all together, and waits until they are final: what they have changed, nothing where all
    /// was so already. Others may say things at the same time through the same member: they do not affect each other.
    ///
    /// Facts that were rejected are in no block; only where the committee has disagreed on them already while they were
    /// under way, another member may put them into a block yet before their two minutes are over.
    pub fn say(&self, facts: Vec<Fact>) -> Boxed<'_, Result<Vec<Event>, SayError>> {
        Box::pin(self.say.say(facts))
    }

    /// Says what somebody else has signed, and waits until it is final.
    pub fn submit(&self, bundle: Signed<Bundle>) -> Boxed<'_, Result<Vec<Event>, SayError>> {
        Box::pin(self.submitted(bundle))
    }

    async fn submitted(&self, signed: Signed<Bundle>) -> Result<Vec<Event>, SayError> {
        let chain = &self.shared.chain;
        if let Some(why) = chain.failure() {
            return Err(SayError::Down(why));
        }
        let id = bundle_id(&signed);
        let entry = chain.opened(signed, None).map_err(Rejection::from)?;
        // On what waits of the same author, and then on what is final: in this order nothing is missed.
        let waiting = chain.waiting_of(entry.author());
        let mut state = chain.imminent(now())?;
        for other in waiting.iter().filter(|other| other.id != id && other.sequence() < entry.sequence()) {
            if let Ok(step) = chain.rules.apply(&state, &other.bundle) {
                state = step.state;
            }
        }
        chain.rules.apply(&state, &entry.bundle)?;
        let outcome = chain.submit(Arc::clone(&entry)).map_err(|_| SayError::Busy)?;
        self.author.speaker.spread(std::slice::from_ref(&entry));
        match self.author.outcome(outcome, entry.not_after_unix_ms()).await? {
            Outcome::Final { events, .. } => Ok(events),
            Outcome::Refused(Rejection::Bundle(BundleError::Expired)) | Outcome::Expired => Err(SayError::Expired),
            Outcome::Refused(rejection) => Err(rejection.into()),
        }
    }

    /// How the committee came to be who it is: one for each time it changed, beginning with the end of this epoch.
    pub fn handovers(&self, from_epoch: u64) -> Boxed<'_, Vec<Handover>> {
        Box::pin(std::future::ready(self.shared.chain.handovers(from_epoch)))
    }

    /// Members that have contradicted themselves, with the evidence, since this member was started.
    pub fn faults(&self) -> Vec<Fault> {
        self.shared.chain.faults().borrow().clone()
    }

    /// How this member stands, and why nothing happens where nothing does.
    pub fn standing(&self) -> Standing {
        self.shared.standing()
    }

    /// Stops, and waits until the folder is free.
    pub fn shutdown(&self) -> Boxed<'_, ()> {
        Box::pin(async move {
            self.shared.stop.cancel();
            // An error means that whoever would say so is gone, and so has ended.
            let _ = self.ended.clone().wait_for(|ended| *ended).await;
        })
    }
}
