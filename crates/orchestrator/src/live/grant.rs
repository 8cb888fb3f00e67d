//! Granting a task, and drawing whose answer is to be checked.

use super::{Live, arriving::Arriving};
use crate::{grudges::Avoided, vetting::Checked};
use protocol::{
    grant::{Expected, Refusal, RefusalKind},
    hold::Hold,
    ids::{ModelDigest, NodeId, TaskId},
    limits,
    link::ModelEntry,
};
use registry::Registry;
use scheduler::{Ended, Now, Task};
use std::{net::SocketAddr, sync::Arc};

/// What a client with too many unused grants is told.
const SHARE_RETRY_AFTER_MS: u32 = 1_000;
/// Nothing is tried where more than this is taken of the places for a model, in percent.
const BUSY_PERCENT_MAX: u64 = 80;
/// An answer of a node is drawn at least this often, where it gets work at all and the budget allows.
const AUDIT_EVERY_MS: u64 = 60 * 60 * 1000;
/// A node that was drawn and of which no verdict came is due again so soon: its client may have had no use for the audit.
const AUDIT_AGAIN_MS: u64 = 60 * 1000;
/// After this time without anything to do, nobody will speak of a node's tasks any more; and of how many.
const UNSPOKEN_MS: u64 = 30_000;
const UNSPOKEN_MAX: u32 = 64;
/// Draws in which referees are looked for.
const DRAWS: u64 = 4;
/// Records that are this close, in millionths, are as good for a reader.
const READS_ALIKE_PPM: u32 = 100_000;

/// What a client needs to reach one candidate.
pub(crate) struct Reachable {
    pub(crate) node: NodeId,
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) evidence: Arc<Checked>,
}

/// One node of a grant.
pub(crate) struct Named {
    pub(crate) reachable: Reachable,
    pub(crate) expected: Expected,
    /// Tasks in its worker with this one.
    pub(crate) batch: u32,
}

/// Who may serve a task.
pub(crate) struct Granted {
    pub(crate) model: ModelDigest,
    pub(crate) model_name: String,
    pub(crate) candidates: Vec<Named>,
}

/// Whose answer is to be checked.
pub(crate) enum Drawn {
    /// That of the node which is named first, to the task itself.
    Answer,
    /// That of another node, to a canary.
    Canary(Tried),
}

/// A node to be tried, and who says whether it answered right.
pub(crate) struct Tried {
    pub(crate) subject: Named,
    pub(crate) referees: Vec<Named>,
}

impl Live {
    /// Ranks the nodes for a task, and counts it as load of the first.
    pub(crate) fn grant(
        &mut self,
        registry: &Registry,
        task: &Task<'_>,
        now: Now,
        entropy: u64,
    ) -> Result<Granted, Refusal> {
        self.check_share(registry, task, now)?;
        let ranking = self.fleet.rank(registry, task, now, entropy)?;
        let ModelEntry { digest: model, name, .. } = ranking.model;
        let (model, model_name) = (*model, name.clone());
        let ranked = ranking.candidates.iter().map(|ranked| {
            let estimate = &ranked.estimate;
            (ranked.node, Expected { first_token_ms: estimate.first_token_ms, token_us: estimate.token_us })
        });
        let candidates: Vec<Named> =
            ranked.filter_map(|(node, expected)| self.named(node, model, expected, now)).collect();
        let Some(first) = candidates.first() else {
            // A place without evidence is held back, so it is never ranked.
            return Err(Refusal { kind: RefusalKind::NoNode, reasons: Vec::new(), retry_after_ms: None });
        };
        let node = first.reachable.node;
        self.begin(node, model, task.client, task.request.task, now);
        self.fleet.reserve(node, model, now);
        self.note(node, now);
        Ok(Granted { model, model_name, candidates })
    }

    /// Who leaves places unused has fewer at a time.
    fn check_share(&mut self, registry: &Registry, task: &Task<'_>, now: Now) -> Result<(), Refusal> {
        let model = registry.model(&task.request.model).map(|entry| entry.digest);
        let places = model.and_then(|model| self.ready.of(model)).map_or(0, super::ready::Serving::slots);
        if self.shares.has_room(task.client, places, now.steady_ms) {
            return Ok(());
        }
        tracing::debug!(client = %task.client.short(), "it leaves places unused: no more for now");
        let retry_after_ms = Some(SHARE_RETRY_AFTER_MS);
        Err(Refusal { kind: RefusalKind::Overloaded, reasons: Vec::new(), retry_after_ms })
    }

    /// A task is on its way to a node: what the orchestrator does there for itself ends.
    fn begin(&mut self, node: NodeId, model: ModelDigest, client: NodeId, task: TaskId, now: Now) {
        let Some(entry) = self.nodes.get_mut(&node) else { return };
        entry.give_way();
        entry.idle_steady_ms = None;
        entry.settled = false;
        entry.arrivals.add(Arriving { client, task, model, given_steady_ms: now.steady_ms });
        self.shares.granted(client);
    }

    fn named(&self, node: NodeId, model: ModelDigest, expected: Expected, now: Now) -> Option<Named> {
        let entry = self.nodes.get(&node)?;
        let evidence = entry.offer(model)?.evidence.clone()?;
        let tasks = self.fleet.get(node)?.worker(model)?.tasks(now);
        let batch = u32::try_from(tasks).unwrap_or(u32::MAX).saturating_add(1);
        Some(Named { reachable: Reachable { node, addresses: entry.addresses.clone(), evidence }, expected, batch })
    }

    /// Whether a model has places to spare for trials.
    pub(crate) fn has_spare(&self, model: ModelDigest) -> bool {
        self.ready.of(model).is_none_or(|serving| serving.busy_percent() <= BUSY_PERCENT_MAX)
    }

    /// Places for a model, taken or not.
    pub(crate) fn places(&self, model: ModelDigest) -> u32 {
        self.ready.of(model).map_or(0, super::ready::Serving::slots)
    }

    /// Nodes that had a place for a model when they were last looked at.
    pub(crate) fn free_nodes(&self, model: ModelDigest) -> usize {
        self.fleet.ready(model)
    }

    /// Whose answer is to be checked beside a task, or by it.
    ///
    /// A node whose only work are canaries is tried beside it, if one is due. Otherwise the node that is named first may
    /// be the one: if it was not drawn for long, or if `anyway`; and if `by_answer`, that is if the answer can be long
    /// enough to say anything. Never where nobody could read it.
    pub(crate) fn draw(
        &mut self,
        granted: &Granted,
        by_answer: bool,
        anyway: bool,
        now: Now,
        entropy: u64,
    ) -> Option<Drawn> {
        let model = granted.model;
        let first = granted.candidates.first()?.reachable.node;
        if !self.has_spare(model) {
            return None;
        }
        if let Some(tried) = self.try_beside(model, first, now, entropy) {
            return Some(Drawn::Canary(tried));
        }
        let due = now.steady_ms >= self.nodes.get(&first)?.audit_due_steady_ms;
        if !by_answer || !(due || anyway) || self.readers(model, first, &[], now, entropy).is_empty() {
            return None;
        }
        self.nodes.get_mut(&first)?.audit_due_steady_ms = now.steady_ms.saturating_add(AUDIT_AGAIN_MS);
        Some(Drawn::Answer)
    }

    /// A node that can prove itself by canaries only, and is due for one. Nobody who is to serve the task itself.
    fn try_beside(&mut self, model: ModelDigest, serving: NodeId, now: Now, entropy: u64) -> Option<Tried> {
        let waiting = self.fleet.canaries_due(now, limits::REASONS_MAX);
        let (node, _) = waiting.into_iter().find(|(node, of)| *of == model && *node != serving)?;
        let subject = self.named(node, model, Expected::default(), now)?;
        let referees = self.referees(model, node, now, entropy);
        if referees.is_empty() {
            return None;
        }
        self.fleet.canary_sent(node, model, now);
        Some(Tried { subject, referees })
    }

    /// An audit of a node has ended, with a verdict or without.
    pub(crate) fn audited(&mut self, node: NodeId, verdict: bool, now: Now) {
        if let Some(entry) = self.nodes.get_mut(&node) {
            entry.audit_due_steady_ms =
                now.steady_ms.saturating_add(if verdict { AUDIT_EVERY_MS } else { AUDIT_AGAIN_MS });
        }
    }

    /// Up to [`limits::REFEREES_MAX`] nodes with a good record that serve the same model.
    pub(crate) fn referees(&mut self, model: ModelDigest, subject: NodeId, now: Now, entropy: u64) -> Vec<Named> {
        self.readers(model, subject, &[], now, entropy)
    }

    /// As [`Live::referees`]; those in `last` only where there are too few others.
    pub(crate) fn readers(
        &mut self,
        model: ModelDigest,
        subject: NodeId,
        last: &[NodeId],
        now: Now,
        entropy: u64,
    ) -> Vec<Named> {
        let mut found: Vec<NodeId> = Vec::new();
        for draw in 0..DRAWS {
            let drawn = self.fleet.sample(model, now, entropy.rotate_left(16 * draw as u32) ^ draw);
            found.extend(drawn.filter(|node| *node != subject && !found.contains(node)));
        }
        if found.iter().filter(|node| !last.contains(node)).count() < limits::REFEREES_MAX {
            // Of few nodes chance easily leaves one out, and one referee alone decides nothing.
            let others = self.fleet.cheapest(model, limits::REFEREES_MAX + 1 + last.len());
            let others: Vec<NodeId> = others.filter(|node| *node != subject && !found.contains(node)).collect();
            found.extend(others);
        }
        // Proven ones that nobody doubts, with a good record; of about equal ones whichever was drawn first, so that nobody
        // becomes everybody's reader by a record without a flaw.
        found.sort_by_key(|node| {
            let live = self.fleet.get(*node);
            let is_sound = live.is_some_and(|live| live.record(model).is_proven() && !live.is_doubted(now));
            let success = live.map_or(0, |live| live.record(model).success_ppm() / READS_ALIKE_PPM);
            (last.contains(node), !is_sound, std::cmp::Reverse(success))
        });
        found
            .into_iter()
            .filter_map(|node| self.named(node, model, Expected::default(), now))
            .take(limits::REFEREES_MAX)
            .collect()
    }

    /// A client spoke of a task on a node. Returns whether it had been taken for unused.
    pub(crate) fn spoken_of(&mut self, client: NodeId, task: TaskId, node: NodeId, now: Now) {
        let arriving = self.nodes.get_mut(&node).and_then(|entry| entry.arrivals.spoken_of(client, task));
        match arriving {
            Some(_) => {
                self.shares.settled(client, false, now.steady_ms);
                self.set_reserved(node, now);
            }
            // Its node showed it, or it was given up: in the latter case wrongly.
            None => self.shares.used_after_all(client),
        }
    }

    /// A grant reached nobody.
    pub(crate) fn unused(&mut self, client: NodeId, task: TaskId, granted: &Granted, now: Now) {
        if let Some(first) = granted.candidates.first() {
            let node = first.reachable.node;
            self.spoken_of(client, task, node, now);
            self.ended(node, granted.model, Ended::Without, now);
        }
    }

    /// Brings what matching counts as on its way to a node in line with what is.
    pub(super) fn set_reserved(&mut self, node: NodeId, now: Now) {
        let Some(entry) = self.nodes.get(&node) else { return };
        let arrivals = &entry.arrivals;
        self.fleet.update(node, now, |live| {
            for worker in &mut live.workers {
                let (reserved, youngest) = arrivals.of(worker.model);
                worker.reserved = reserved;
                worker.reserved_until_steady_ms = youngest.saturating_add(scheduler::RESERVED_MS);
            }
        });
        self.note(node, now);
    }

    /// Gives up tasks that should have come to a node by now, and holds them against their clients, unless the node could
    /// not have shown them. Its record still waits for their outcomes: they may run all the same.
    pub(super) fn lapse(&mut self, node: NodeId, now: Now) {
        let Some(entry) = self.nodes.get_mut(&node) else { return };
        let lapsed = entry.arrivals.lapsed(now.steady_ms);
        if lapsed.is_empty() {
            return;
        }
        let is_unused = self.fleet.get(node).is_some_and(|live| live.is_responsive(now));
        for arriving in lapsed {
            self.shares.settled(arriving.client, is_unused, now.steady_ms);
        }
        self.set_reserved(node, now);
    }

    /// A node that has had nothing to do for a while has no task that anybody will still speak of: what an unproven
    /// node may have at once is not taken up by clients that went without a word.
    pub(super) fn settle_idle(&mut self, node: NodeId, now: Now) {
        let Some(entry) = self.nodes.get_mut(&node) else { return };
        let is_idle = entry.idle_steady_ms.is_some_and(|since| now.steady_ms.saturating_sub(since) >= UNSPOKEN_MS);
        if !is_idle || std::mem::replace(&mut entry.settled, true) {
            return;
        }
        self.fleet.update(node, now, |live| {
            for model in live.workers.iter().map(|worker| worker.model).collect::<Vec<_>>() {
                let record = live.records.get_mut(model);
                (0..UNSPOKEN_MAX).for_each(|_| record.ended(Ended::Without, now.steady_ms));
            }
        });
    }

    /// Tasks on their way to a node whose link changes: nobody's fault.
    pub(super) fn settle_all(&mut self, node: NodeId, now: Now) {
        let Some(entry) = self.nodes.get_mut(&node) else { return };
        for arriving in entry.arrivals.all() {
            self.shares.settled(arriving.client, false, now.steady_ms);
        }
    }
}

/// Tells a client why it is not sent to nodes that have failed it: they are among those that it may not be sent to. And
/// when it may.
pub(crate) fn explain_avoided(refusal: &mut Refusal, avoided: &[Avoided], own: &[NodeId], now: Now) {
    let mut until: Option<u64> = None;
    for (node, hold) in &mut refusal.reasons {
        let avoided = avoided.iter().find(|other| other.node == *node && !own.contains(node));
        if let (Hold::Excluded, Some(avoided)) = (&hold, avoided) {
            *hold = Hold::Ejected { failures: avoided.failures };
            until = until.into_iter().chain(avoided.until_steady_ms).min();
        }
    }
    if let (RefusalKind::NoNode, Some(until)) = (&refusal.kind, until) {
        let ms = u32::try_from(until.saturating_sub(now.steady_ms)).unwrap_or(u32::MAX).max(1);
        refusal.retry_after_ms = Some(refusal.retry_after_ms.map_or(ms, |other| other.min(ms)));
    }
}
