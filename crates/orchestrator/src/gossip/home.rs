//! One peer as a home: whether it is heard, and whether anything of what it said was missed.

use protocol::{
    ipc::ModelFacts,
    limits,
    link::{ModelEntry, NodeState, WorkerState},
    peer::live::{Gossip, Profile},
};
use scheduler::Budget;

/// Messages of one peer that are taken in: what is beyond that is not read, which leaves a gap, and is said again.
const MESSAGES_PER_SECOND: u32 = 200;
const MESSAGES_BURST: u32 = 1_000;
/// Nodes that one peer may have looked after.
const DOUBTS_PER_SECOND: u32 = 64;
const DOUBTS_BURST: u32 = 256;
/// Everything is asked for again so often at most.
const WANT_EVERY_MS: u64 = 500;

/// How a message stands to those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// It is the next, or one of those before it was lost.
    Next,
    /// It was overtaken.
    Late,
    /// Of a round whose beginning was not heard.
    OtherRound,
    /// There are too many.
    TooMany,
}

#[derive(Debug)]
pub(super) struct Home {
    round: Option<u64>,
    number: u64,
    // Rounds that it has begun, as counted here.
    turn: u64,
    // Nothing of this round was missed.
    complete: bool,
    heard_steady_ms: u64,
    silent: bool,
    wanted: bool,
    wanted_steady_ms: Option<u64>,
    messages: Budget,
    doubts: Budget,
}

impl Home {
    pub(super) fn new(now_steady_ms: u64) -> Self {
        Self {
            round: None,
            number: 0,
            turn: 0,
            complete: false,
            heard_steady_ms: now_steady_ms,
            silent: false,
            wanted: false,
            wanted_steady_ms: None,
            messages: Budget::per_second(MESSAGES_PER_SECOND, MESSAGES_BURST),
            doubts: Budget::per_second(DOUBTS_PER_SECOND, DOUBTS_BURST),
        }
    }

    /// Puts a message in its place.
    pub(super) fn order(&mut self, gossip: &Gossip, now_steady_ms: u64) -> Order {
        if !self.messages.withdraw(now_steady_ms) {
            return Order::TooMany;
        }
        self.heard_steady_ms = now_steady_ms;
        if self.round != Some(gossip.round) {
            if gossip.number > 0 {
                self.wanted = true;
                return Order::OtherRound;
            }
            (self.round, self.number) = (Some(gossip.round), 0);
            self.turn += 1;
            (self.complete, self.wanted) = (true, false);
            return Order::Next;
        }
        if gossip.number <= self.number {
            return Order::Late;
        }
        if gossip.number > self.number + 1 {
            (self.complete, self.wanted) = (false, true);
        }
        self.number = gossip.number;
        Order::Next
    }

    /// Whether it was silent until now.
    pub(super) fn is_back(&mut self, now_steady_ms: u64) -> bool {
        self.heard_steady_ms = now_steady_ms;
        std::mem::replace(&mut self.silent, false)
    }

    /// Whether everything is to be asked for again now.
    pub(super) fn wants_all(&mut self, now_steady_ms: u64) -> bool {
        let is_due = self.wanted_steady_ms.is_none_or(|at| now_steady_ms.saturating_sub(at) >= WANT_EVERY_MS);
        let wants = self.wanted && is_due;
        if wants {
            self.wanted_steady_ms = Some(now_steady_ms);
        }
        wants
    }

    pub(super) fn may_doubt(&mut self, now_steady_ms: u64) -> bool {
        self.doubts.withdraw(now_steady_ms)
    }

    pub(super) fn turn(&self) -> u64 {
        self.turn
    }

    /// Whether nothing of the round was missed so far.
    pub(super) fn is_complete(&self) -> bool {
        self.complete
    }

    pub(super) fn is_silent(&self) -> bool {
        self.silent
    }

    pub(super) fn silent_for_ms(&self, now_steady_ms: u64) -> u64 {
        now_steady_ms.saturating_sub(self.heard_steady_ms)
    }

    /// Whether it has been silent for too long, since just now.
    pub(super) fn falls_silent(&mut self, silence_max_ms: u64, now_steady_ms: u64) -> bool {
        !self.silent && {
            self.silent = self.silent_for_ms(now_steady_ms) >= silence_max_ms;
            self.silent
        }
    }
}

/// The profile in the form in which nodes say it, so that it is vetted by the same rules.
pub(super) fn state(profile: Profile) -> NodeState {
    let workers = profile.workers.into_iter().take(limits::MODELS_PER_NODE_MAX).map(|worker| WorkerState {
        model: ModelEntry {
            name: String::new(),
            aliases: Vec::new(),
            digest: worker.model,
            bytes: worker.bytes,
            licence: String::new(),
            created_unix_s: 0,
        },
        facts: ModelFacts {
            architecture: String::new(),
            context_tokens: worker.context_tokens,
            slots: worker.slots,
            embedding_length: u32::from(!worker.writes),
            chat: worker.chat,
        },
        evidence: worker.evidence,
        active_tasks: 0,
        capacity: worker.capacity,
    });
    NodeState {
        label: profile.label,
        addresses: profile.addresses,
        workers: workers.collect(),
        active_tasks: 0,
        hold: None,
    }
}
