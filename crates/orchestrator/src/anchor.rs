//! What this orchestrator shows of the pool's agreed state, so that clients need not believe it.
//!
//! The newest block whose finality it can show stands for all grants until the next one comes. What is not in that block
//! cannot be shown, and so is not granted: a node that was admitted since, evidence that was agreed on since. And what the
//! block says against a node holds, whatever else is known: an honest orchestrator grants nothing that clients refuse.

use crate::{live::Named, rules};
use protocol::{
    grant::{Refusal, RefusalKind},
    header::{Anchor, Handover},
    hold::Hold,
    ids::{ModelDigest, NodeId},
    limits,
    link::Role,
    market::Price,
    pool::PoolPolicy,
    proof::Proof,
    witness::{Agreement, Lineage, Proofs, Shown, Witness},
};
use registry::{Genesis, Member, State, keys};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{sync::watch, time::timeout};
use trust::evidence;

/// A pool that has just been founded has its first final block within this time, or something is wrong.
const FIRST_TIME_MAX: Duration = Duration::from_secs(2);
/// What a client is told that came before it.
const FIRST_RETRY_AFTER_MS: u32 = 1_000;
/// Members whose proofs are kept for the next grant.
const KEPT_MAX: usize = 1024;

/// The newest block that can be shown.
pub(crate) struct Anchors(watch::Sender<Option<Arc<Anchored>>>);

/// A final block with its state.
pub(crate) struct Anchored {
    anchor: Arc<Anchor>,
    state: State,
    policy: PoolPolicy,
    policy_proof: Proof,
    members: Mutex<HashMap<NodeId, Arc<(Member, Proof)>>>,
}

impl Default for Anchors {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl Anchors {
    /// From now on this block is shown. Of another state than its header names it proves nothing, so that is refused.
    pub(crate) fn set(&self, anchor: Arc<Anchor>, state: State) {
        let Some(anchored) = Anchored::new(anchor, state) else {
            tracing::error!("a final block is not of the state beside it: it is not shown");
            return;
        };
        self.0.send_replace(Some(Arc::new(anchored)));
    }

    /// The block that is shown, if there is one yet.
    pub(crate) fn current(&self) -> Option<Arc<Anchored>> {
        self.0.borrow().clone()
    }

    /// Waits until the block that is shown says this, as it does soon after it became final.
    pub(crate) async fn show(&self, says: impl Fn(&State) -> bool) {
        let mut came = self.0.subscribe();
        let shown = came.wait_for(|anchored| anchored.as_ref().is_some_and(|anchored| says(&anchored.state)));
        // Where it takes longer, grants wait for it.
        let _ = timeout(FIRST_TIME_MAX, shown).await;
    }

    /// Waits a moment for the first.
    pub(crate) async fn first(&self) -> Result<(), Refusal> {
        let mut came = self.0.subscribe();
        let first = came.wait_for(Option::is_some);
        // The sender lives as long as this.
        timeout(FIRST_TIME_MAX, first).await.map(drop).map_err(|_| not_ready())
    }
}

/// What a client is told where nothing can be shown yet.
pub(crate) fn not_ready() -> Refusal {
    let retry_after_ms = Some(FIRST_RETRY_AFTER_MS);
    Refusal { kind: RefusalKind::NotReady, reasons: Vec::new(), retry_after_ms }
}

/// How the committee came to be, as far as one answer holds it.
pub(crate) fn lineage(genesis: Genesis, mut handovers: Vec<Handover>) -> Lineage {
    handovers.truncate(limits::HANDOVERS_MAX);
    Lineage { genesis, handovers }
}

/// What a node is shown of the committee on its admission.
pub(crate) fn agreement(lineage: Lineage, newest: Option<&Anchored>) -> Agreement {
    Agreement { lineage, anchor: newest.map(|anchored| Anchor::clone(&anchored.anchor)) }
}

impl Anchored {
    fn new(anchor: Arc<Anchor>, state: State) -> Option<Self> {
        if anchor.header.state != state.root() {
            return None;
        }
        let policy = state.read(&keys::policy())?;
        let policy_proof = state.prove(&keys::policy());
        Some(Self { anchor, state, policy, policy_proof, members: Mutex::default() })
    }

    /// What is shown of the pool, for workers of these measurements.
    pub(crate) fn witness<'a>(&self, measurements: impl IntoIterator<Item = &'a [u8; 32]>) -> Witness {
        let mut shown: Vec<([u8; 32], Proof)> = Vec::new();
        for measurement in measurements {
            if self.policy.measured_only && shown.iter().all(|(other, _)| other != measurement) {
                shown.push((*measurement, self.state.prove(&keys::measurement(measurement))));
            }
        }
        shown.truncate(limits::MEASUREMENTS_SHOWN_MAX);
        Witness { anchor: (*self.anchor).clone(), policy: self.policy_proof.clone(), measurements: shown }
    }

    /// What is, or is not, under some keys.
    pub(crate) fn proofs(&self, asked: &[Vec<u8>]) -> Proofs {
        let proofs = asked.iter().map(|key| self.state.prove_bytes(key)).collect();
        Proofs { anchor: (*self.anchor).clone(), proofs }
    }

    /// What is shown of a node that is to serve, or why a client would refuse it.
    pub(crate) fn shown(&self, named: &Named, model: ModelDigest, now_unix_ms: u64) -> Result<Shown, Hold> {
        let refused = |why: &str| Err(Hold::Refused { why: why.to_owned() });
        let (node, checked) = (named.reachable.node, &named.reachable.evidence);
        let Some(kept) = self.member(node) else { return refused("its membership is not final yet") };
        let (member, proof) = &*kept;
        if !member.has_role(Role::Node) {
            return refused("it is no member of the pool that lends its machine");
        }
        let agreed = member.evidence.filter(|agreed| agreed.until_unix_ms > now_unix_ms);
        if agreed.is_some_and(|agreed| agreed.digest != evidence::digest(&checked.signed)) {
            return refused("its evidence is not what the pool has agreed on");
        }
        let is_program_allowed = || self.state.read(&keys::measurement(&checked.measurement)).is_some();
        if let Some(hold) = rules::hold(&self.policy, member, model, checked, is_program_allowed, now_unix_ms) {
            return Err(hold);
        }
        let ask = (member.priced_models > 0).then(|| self.state.prove(&keys::ask(node, model)));
        Ok(Shown { member: proof.clone(), ask })
    }

    /// What a client pays a node, as this block says: nothing between machines of one account.
    pub(crate) fn price(&self, client: NodeId, node: NodeId, model: ModelDigest) -> Option<Price> {
        let member = |of: NodeId| self.member(of).map(|kept| kept.0.account_of(of));
        if self.member(node).is_none_or(|kept| kept.0.priced_models == 0) || member(client) == member(node) {
            return None;
        }
        self.state.read(&keys::ask(node, model)).filter(|price| *price != Price::default())
    }

    fn member(&self, node: NodeId) -> Option<Arc<(Member, Proof)>> {
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = members.get(&node) {
            return Some(Arc::clone(kept));
        }
        let key = keys::member(node);
        let kept = Arc::new((self.state.read(&key)?, self.state.prove(&key)));
        if members.len() >= KEPT_MAX {
            members.clear();
        }
        members.insert(node, Arc::clone(&kept));
        Some(kept)
    }
}

#[cfg(test)]
mod tests;
