//! What is known of nodes at this moment: lossy, never agreed on.

use protocol::{
    grant::Tier,
    hold::Hold,
    ids::{ModelDigest, NodeId},
    limits::CLOCK_SKEW_MS_MAX,
};

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
    /// Its workers, at most one for each model.
    pub workers: Vec<LiveWorker>,
}

/// What matching needs to know of one worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveWorker {
    /// The model it has loaded.
    pub model: ModelDigest,
    /// What backs its evidence.
    pub tier: Tier,
    /// Since when its evidence holds.
    pub issued_unix_ms: u64,
    /// Until when its evidence holds.
    pub expires_unix_ms: u64,
    /// Tasks that it runs at once.
    pub slots: u32,
    /// Tasks that it takes before it is full: its slots and a short queue.
    pub capacity: u32,
    /// Tasks in it, by its own word.
    pub active_tasks: u32,
    /// Tasks on their way to it.
    pub reserved: u32,
    /// Until when they count as on their way.
    pub reserved_until_steady_ms: u64,
    /// What the orchestrator has against it.
    pub hold: Option<Hold>,
}

impl LiveNode {
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
}

impl LiveWorker {
    /// Tasks in it and on their way to it.
    pub fn tasks(&self, now: Now) -> u64 {
        let reserved = if now.steady_ms < self.reserved_until_steady_ms { self.reserved } else { 0 };
        u64::from(self.active_tasks) + u64::from(reserved)
    }

    /// Whether its evidence holds at this time, give or take the skew of clocks.
    pub fn is_current(&self, now: Now) -> bool {
        let issued = self.issued_unix_ms.saturating_sub(CLOCK_SKEW_MS_MAX);
        let expires = self.expires_unix_ms.saturating_add(CLOCK_SKEW_MS_MAX);
        (issued..expires).contains(&now.unix_ms)
    }
}
