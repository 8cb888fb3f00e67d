//! Members as the orchestrator's bookkeeping has them.

use crate::{
    catalogue::Rates as Speed,
    policy::{Member, NodeIndex},
    random::mixed,
    slab::Key,
    time::{MS, Micros, unix_ms},
    workload::Wish,
};
use protocol::{
    grant::MatchRequest,
    ids::{ModelDigest, NodeId},
};
use scheduler::Now;
use trust::{
    observations::{BATCHES, Observations, Rates},
    score::Attestation,
};

/// Memory that every machine lends, in mebibytes.
const MEMORY_MIB: u32 = 8_192;

/// A member, and what is observed of it.
pub(super) struct Known {
    pub(super) id: NodeId,
    pub(super) attestation: Attestation,
    pub(super) measured: Rates,
    pub(super) slots: u32,
    pub(super) capacity: u32,
    pub(super) rtt_us: u32,
    /// What is observed; agreed on at the end of each epoch.
    pub(super) observations: Observations,
    /// Tasks that it completed since it last said how many are in it.
    pub(super) completed: u32,
    /// Since when its session lasts, and up to when it has been noted.
    pub(super) session: Option<(Micros, Micros)>,
}

impl Known {
    /// A member as it joins: with what was observed of it before.
    pub(super) fn new(member: &Member, model: ModelDigest) -> Self {
        let mut observations = Observations { memory_mib: MEMORY_MIB, ..Observations::default() };
        for (from, until, departed) in &member.history {
            observations.sessions.note(0, (until - from) / MS, unix_ms(*until), *departed);
        }
        for sample in 0..64u32 {
            // A round trip on either side of the mean, and the losses of ten thousand packets.
            let rtt = if sample % 2 == 0 { member.rtt_us + member.jitter_us } else { member.rtt_us };
            observations.network.sample(rtt, 10_000, u64::from(member.loss_ppm) / 100);
        }
        observations.results.valid_milli = member.earned * 1000;
        observations.results.canaries_passed_milli = member.earned / 20 * 1000;
        let measured = rates(&member.measured);
        observations.set_rates(model, measured);
        Self {
            id: id(member.node),
            attestation: if member.vouched { Attestation::Vouched } else { Attestation::SelfSigned },
            measured,
            slots: member.slots,
            capacity: member.capacity,
            rtt_us: member.rtt_us,
            observations,
            completed: 0,
            session: None,
        }
    }

    /// Notes how long its session has gone on.
    pub(super) fn note(&mut self, now: Micros, departed: bool) {
        let Some((since, noted)) = self.session else { return };
        let age = |at: Micros| at.saturating_sub(since) / MS;
        self.observations.sessions.note(age(noted), age(now), unix_ms(now), departed);
        self.session = (!departed).then_some((since, now));
    }
}

/// A request that waits.
pub(super) struct Waiting {
    pub(super) task: Key,
    pub(super) account: NodeId,
    pub(super) request: MatchRequest,
}

/// The time on the scheduler's clocks.
pub(super) fn clock(now: Micros) -> Now {
    Now { unix_ms: unix_ms(now), steady_ms: now / MS }
}

/// Measured rates in the form in which they are agreed on.
fn rates(speed: &Speed) -> Rates {
    let milli = |per_s: f64| (per_s * 1000.0) as u32;
    Rates {
        prefill_milli: milli(speed.prefill),
        decode_milli: BATCHES.map(|answers| milli(speed.decode(answers as usize))),
    }
}

pub(super) fn id(node: NodeIndex) -> NodeId {
    let mut bytes = [0; 32];
    for (part, chunk) in bytes.chunks_exact_mut(8).enumerate() {
        chunk.copy_from_slice(&mixed(node as u64 * 4 + part as u64 + 1).to_be_bytes());
    }
    NodeId(bytes)
}

/// The account as an asker.
pub(super) fn account(wish: &Wish) -> NodeId {
    let mut bytes = [9; 32];
    bytes[..8].copy_from_slice(&(wish.account as u64).to_be_bytes());
    NodeId(bytes)
}
