//! What is known of nodes at this moment: lossy, never agreed on.

use crate::{Record, Records};
use protocol::{
    grant::Tier,
    hold::Hold,
    ids::{ModelDigest, NodeId},
    limits::CLOCK_SKEW_MS_MAX,
    market::Price,
};
use trust::{observations::Rates, score::Attestation, survival::Hazard};

/// How long a granted task counts as load of a node that says nothing new, in milliseconds.
pub const RESERVED_MS: u64 = 2_000;
/// Round trip that is believed of a node whose network was never sampled, in microseconds.
const RTT_UNKNOWN_US: u32 = 200_000;

/// The time, on two clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds since 1970: what is signed is compared with it.
    pub unix_ms: u64,
    /// Milliseconds on a clock that nobody sets: silence is measured with it.
    pub steady_ms: u64,
}

/// Whether a node has a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// It has.
    Linked,
    /// It said goodbye.
    Left,
    /// Its link broke.
    Lost,
}

/// What matching needs to know of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveNode {
    /// Which.
    pub node: NodeId,
    /// Whether it has a link.
    pub presence: Presence,
    /// From then on it counts as unresponsive, unless something is heard of it before.
    pub silent_from_steady_ms: u64,
    /// Somebody reported it, and it has not answered the probe yet.
    pub probing: bool,
    /// It failed a probe lately: until then it comes after those that did not.
    pub doubted_until_steady_ms: u64,
    /// Its own word on why it takes no work.
    pub hold: Option<Hold>,
    /// What backs its word about itself.
    pub attestation: Attestation,
    /// Its Trusted Compute Score, in millionths: decides between equals.
    pub score_ppm: u32,
    /// Smoothed round trip to it, in microseconds.
    pub rtt_us: u32,
    /// Since when its session lasts.
    pub session_since_steady_ms: u64,
    /// How likely it leaves, in this hour of the week.
    pub hazard: Hazard,
    /// Its workers, at most one for each model: of several the first counts.
    pub workers: Vec<LiveWorker>,
    /// What became of its tasks, by model. Outlives workers.
    pub records: Records,
}

/// What matching needs to know of one worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveWorker {
    /// The model it has loaded, or could load in [`Self::load_ms`].
    pub model: ModelDigest,
    /// What backs its evidence.
    pub tier: Tier,
    /// Since when its evidence holds.
    pub issued_unix_ms: u64,
    /// Until when its evidence holds.
    pub expires_unix_ms: u64,
    /// Tasks that it runs at once.
    pub slots: u32,
    /// Tasks that it takes before it is full, by its own word: its slots and a short queue. See [`Self::places`].
    pub capacity: u32,
    /// Tasks in it, by its own word.
    pub active_tasks: u32,
    /// Tasks on their way to it.
    pub reserved: u32,
    /// Until when they count as on their way.
    pub reserved_until_steady_ms: u64,
    /// What was measured of it, or [`Rates::sceptical`].
    pub rates: Rates,
    /// Until it could begin, where the model is not loaded, in milliseconds; 0: it is.
    pub load_ms: u32,
    /// What it asks.
    pub price: Price,
    /// What the orchestrator has against it.
    pub hold: Option<Hold>,
}

impl LiveNode {
    /// A node that has just come, of which nothing is known. It is silent until something is heard of it.
    pub fn new(node: NodeId, now: Now) -> Self {
        Self {
            node,
            presence: Presence::Linked,
            silent_from_steady_ms: now.steady_ms,
            probing: false,
            doubted_until_steady_ms: 0,
            hold: None,
            attestation: Attestation::SelfSigned,
            score_ppm: 0,
            rtt_us: RTT_UNKNOWN_US,
            session_since_steady_ms: now.steady_ms,
            hazard: Hazard::default(),
            workers: Vec::new(),
            records: Records::default(),
        }
    }

    /// Whether it is linked and has not been silent for too long.
    pub fn is_responsive(&self, now: Now) -> bool {
        self.presence == Presence::Linked && now.steady_ms < self.silent_from_steady_ms
    }

    /// Whether something was heard of it that speaks against giving it work while others have places.
    pub fn is_doubted(&self, now: Now) -> bool {
        self.probing || now.steady_ms < self.doubted_until_steady_ms
    }

    /// Its worker with this model.
    pub fn worker(&self, model: ModelDigest) -> Option<&LiveWorker> {
        self.workers.iter().find(|worker| worker.model == model)
    }

    /// Its worker with this model.
    pub fn worker_mut(&mut self, model: ModelDigest) -> Option<&mut LiveWorker> {
        self.workers.iter_mut().find(|worker| worker.model == model)
    }

    /// What became of its tasks with this model.
    pub fn record(&self, model: ModelDigest) -> &Record {
        self.records.get(model)
    }

    /// Age of its session.
    pub fn session_age_ms(&self, now: Now) -> u64 {
        now.steady_ms.saturating_sub(self.session_since_steady_ms)
    }
}

impl LiveWorker {
    /// An idle worker of the lowest tier with so many slots and no queue, whose evidence never runs out, of which nothing
    /// was measured. `model_bytes` bounds what is believed of its speed.
    pub fn new(model: ModelDigest, slots: u32, model_bytes: u64) -> Self {
        Self {
            model,
            tier: Tier::SelfSigned,
            issued_unix_ms: 0,
            expires_unix_ms: u64::MAX,
            slots,
            capacity: slots,
            active_tasks: 0,
            reserved: 0,
            reserved_until_steady_ms: 0,
            rates: Rates::sceptical(model_bytes),
            load_ms: 0,
            price: Price::default(),
            hold: None,
        }
    }

    /// Tasks that are matched to it: as many waiting as running, and no more than it takes. Some wait, because a place in
    /// the line of a fast machine can be worth more than a slot of a slow one, and no slot should be empty while the next
    /// task is on its way. Not more, because whoever waits centrally ([`crate::Queue`]) has a fair turn, is told early what
    /// it would wait, and is served by the first node that can. Simulated at 95 % of a mixed fleet's bound, one waiting
    /// task a node had a third more p99 than as many as slots, and three times as many hardly less.
    pub fn places(&self) -> u32 {
        self.capacity.min(self.slots.saturating_mul(2))
    }

    /// Tasks in it and on their way to it.
    pub fn tasks(&self, now: Now) -> u64 {
        let reserved = if now.steady_ms < self.reserved_until_steady_ms { self.reserved } else { 0 };
        u64::from(self.active_tasks) + u64::from(reserved)
    }

    /// Whether its evidence holds at this time, give or take the skew of clocks.
    pub fn is_current(&self, now: Now) -> bool {
        let (issued, expires) = self.current_unix_ms();
        (issued..expires).contains(&now.unix_ms)
    }

    /// From when until when its evidence holds, with the skew of clocks.
    pub(crate) fn current_unix_ms(&self) -> (u64, u64) {
        (self.issued_unix_ms.saturating_sub(CLOCK_SKEW_MS_MAX), self.expires_unix_ms.saturating_add(CLOCK_SKEW_MS_MAX))
    }

    /// Counts one more task as on its way.
    pub(crate) fn reserve(&mut self, now: Now) {
        if now.steady_ms >= self.reserved_until_steady_ms {
            self.reserved = 0;
        }
        self.reserved = self.reserved.saturating_add(1);
        self.reserved_until_steady_ms = now.steady_ms.saturating_add(RESERVED_MS);
    }
}
