//! What this machine says: facts of many callers in few bundles.
//!
//! A bundle counts whole or not at all, but a caller's facts must not fail for another caller's. So facts are tried first, on
//! the finalised state and what this machine has said since; only what applies there goes into a bundle together. Where a
//! bundle is refused all the same, because of what other members have said meanwhile, each caller's facts are said again
//! alone.

mod batch;

use crate::{chain::Chain, locks::locked, pending::Outcome, repeating::Speaker};
use batch::Batch;
use protocol::{codec, limits, time::unix_ms};
use registry::{BundleError, Event, Fact, Rejection};
use std::{
    fmt,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use trust::MachineKey;

/// Bundles of this machine that may wait to be final.
const UNDERWAY_MAX: usize = 4;
/// Callers that may wait to be put into a bundle; more wait to be heard.
const CALLERS_MAX: usize = 1024;
/// How often facts are said again because their bundle came to nothing.
const TRIES_MAX: u8 = 16;
/// How long one of our bundles counts. Long enough for a leader that is gone to be passed over; short, because facts in a
/// bundle that came to nothing are safely said again only when it is over.
const LIFETIME_MS: u64 = 120_000;
/// How long after its end a bundle may still be found in a block of before.
const GRACE: Duration = Duration::from_secs(15);

/// Why facts did not become final.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SayError {
    /// They are none, as things stand.
    #[error("{0}")]
    Rejected(#[from] Rejection),
    /// More, or longer, than one bundle can have.
    #[error(
        "that is more than {} facts, or more than {} bytes of them",
        limits::BUNDLE_FACTS_MAX,
        limits::SIGNED_BYTES_MAX
    )]
    TooLong,
    /// Its time is over, and it is in no block.
    #[error("it was in no block before its time was over: try again")]
    Expired,
    /// Too much waits already.
    #[error("too much waits to be agreed on: try again in a moment")]
    Busy,
    /// No block has become final for so long that it cannot be said what became of it: it may be in one yet.
    #[error("it is not known whether it counts: {0}")]
    Stalled(String),
    /// This member has stopped.
    #[error("this orchestrator agrees on nothing any more: {0}")]
    Down(String),
    /// This member is shutting down.
    #[error("the orchestrator is shutting down")]
    ShuttingDown,
}

type Reply = oneshot::Sender<Result<Vec<Event>, SayError>>;

/// Somebody on this machine who says something.
struct Caller {
    facts: Vec<Fact>,
    /// Of the facts, encoded.
    bytes: usize,
    /// In a bundle of its own.
    alone: bool,
    tries: u8,
    reply: Reply,
}

/// The way in, for callers.
#[derive(Debug, Clone)]
pub(crate) struct Say(mpsc::Sender<Caller>);

/// What bundles are made with.
pub(crate) struct Author {
    pub(crate) chain: Arc<Chain>,
    pub(crate) key: MachineKey,
    pub(crate) speaker: Arc<Speaker>,
    pub(crate) stop: CancellationToken,
    /// Why finality stands still, if it does.
    pub(crate) why: Arc<dyn Fn() -> Option<String> + Send + Sync>,
    last_sequence: Mutex<u64>,
}

impl fmt::Debug for Author {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Author").field("key", &self.key).finish_non_exhaustive()
    }
}

impl Author {
    pub(crate) fn new(
        chain: Arc<Chain>,
        key: MachineKey,
        speaker: Arc<Speaker>,
        stop: CancellationToken,
        why: Arc<dyn Fn() -> Option<String> + Send + Sync>,
    ) -> Self {
        Self { chain, key, speaker, stop, why, last_sequence: Mutex::new(0) }
    }

    /// A number above all that were used. The time is below none that was used before a restart, unless the clock was set
    /// back: then the bundle is refused, and said again with a number above the final one.
    fn next_sequence(&self, said: u64, now_unix_ms: u64) -> u64 {
        let mut last = locked(&self.last_sequence);
        *last = now_unix_ms.max(said + 1).max(*last + 1);
        *last
    }

    /// Waits for what becomes of a bundle.
    pub(crate) async fn outcome(
        &self,
        outcome: oneshot::Receiver<Outcome>,
        not_after_unix_ms: u64,
    ) -> Result<Outcome, SayError> {
        let left = Duration::from_millis(not_after_unix_ms.saturating_sub(unix_ms(SystemTime::now())));
        tokio::select! {
            biased;
            outcome = outcome => outcome.map_err(|_| SayError::ShuttingDown),
            why = self.chain.failed() => Err(SayError::Down(why)),
            () = self.stop.cancelled() => Err(SayError::ShuttingDown),
            () = tokio::time::sleep(left.saturating_add(GRACE)) => {
                let why = (self.why)().unwrap_or_else(|| "no block has become final since".to_owned());
                Err(SayError::Stalled(why))
            }
        }
    }
}

impl Say {
    /// Starts to put into bundles what callers say.
    pub(crate) fn start(author: Arc<Author>) -> Self {
        let (callers, heard) = mpsc::channel(CALLERS_MAX);
        let say = Self(callers);
        tokio::spawn(run(author, heard, say.0.downgrade()));
        say
    }

    pub(crate) async fn say(&self, facts: Vec<Fact>) -> Result<Vec<Event>, SayError> {
        if facts.is_empty() {
            return Ok(Vec::new());
        }
        let is_long = facts.iter().any(|fact| fact.encode().is_err()) || facts.len() > limits::BUNDLE_FACTS_MAX;
        let encoded = codec::encode(&facts, batch::FACTS_BYTES_MAX).ok().filter(|_| !is_long);
        let bytes = encoded.ok_or(SayError::TooLong)?.len();
        let (reply, answer) = oneshot::channel();
        let caller = Caller { facts, bytes, alone: false, tries: 0, reply };
        self.0.send(caller).await.map_err(|_| SayError::ShuttingDown)?;
        answer.await.unwrap_or(Err(SayError::ShuttingDown))
    }
}

async fn run(author: Arc<Author>, mut callers: mpsc::Receiver<Caller>, again: mpsc::WeakSender<Caller>) {
    let underway = Arc::new(Semaphore::new(UNDERWAY_MAX));
    let mut next = None;
    loop {
        let gathered = async {
            let permit = Arc::clone(&underway).acquire_owned().await.ok()?;
            let first = match next.take() {
                Some(first) => first,
                None => callers.recv().await?,
            };
            Some((permit, first))
        };
        let (permit, first) = tokio::select! {
            gathered = gathered => match gathered {
                Some(gathered) => gathered,
                None => return,
            },
            () = author.stop.cancelled() => return,
        };
        if let Some(why) = author.chain.failure() {
            let _ = first.reply.send(Err(SayError::Down(why)));
            continue;
        }
        let Some(mut batch) = Batch::begin(&author, first) else { continue };
        while batch.has_room() {
            let Ok(caller) = callers.try_recv() else { break };
            if let Err(caller) = batch.add(&author, caller) {
                next = Some(caller);
                break;
            }
        }
        if let Some(underway) = batch.submit(&author) {
            let (author, again) = (Arc::clone(&author), again.clone());
            tokio::spawn(async move {
                let left = underway.finish(&author).await;
                // Those who wait for a place must not keep theirs.
                drop(permit);
                for caller in left {
                    say_again(&again, caller).await;
                }
            });
        }
    }
}

async fn say_again(again: &mpsc::WeakSender<Caller>, caller: Caller) {
    match again.upgrade() {
        Some(again) => drop(again.send(caller).await),
        None => drop(caller.reply.send(Err(SayError::ShuttingDown))),
    }
}

/// Whether a refusal is of the bundle and says nothing of its facts.
fn is_of_bundle(rejection: &Rejection) -> bool {
    matches!(rejection, Rejection::Bundle(BundleError::Replayed { .. }))
}
