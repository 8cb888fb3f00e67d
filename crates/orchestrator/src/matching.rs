//! A client's question about a task, answered from memory.

use crate::shared::Shared;
use protocol::{
    grant::{Candidate, Grant, MatchReply, MatchRequest, ModelRef, Permit, RefusalKind},
    ids::NodeId,
    limits,
};
use scheduler::Task;

/// Whether the lengths in a request are those of an honest one.
pub(crate) fn is_bounded(request: &MatchRequest) -> bool {
    let name_fits = match &request.model {
        ModelRef::Name(name) => name.len() <= limits::MODEL_NAME_CHARS_MAX,
        ModelRef::Digest(_) => true,
    };
    name_fits && request.exclude.len() <= limits::EXCLUDED_MAX
}

/// Finds nodes for a task of `client`, and signs its permits.
pub(crate) fn answer(shared: &Shared, client: NodeId, request: &MatchRequest) -> MatchReply {
    let now = shared.now();
    let task = Task { client, request };
    let granted = {
        let registry = shared.registry();
        let granted = shared.live().grant(&registry, &task, now, entropy());
        granted.map(|(model, candidates)| (model.digest, model.name.clone(), candidates))
    };
    let (model, model_name, reachable) = match granted {
        Ok(granted) => granted,
        Err(refusal) => {
            match refusal.kind {
                RefusalKind::UnknownModel { .. } => shared.counters.matches_unknown_model.count(),
                RefusalKind::NoNode => shared.counters.matches_no_node.count(),
                RefusalKind::Overloaded => shared.counters.matches_overloaded.count(),
            }
            return MatchReply::Refused(refusal);
        }
    };
    let permit = |node| Permit {
        pool: shared.pool,
        task: request.task,
        client,
        node,
        model,
        expires_unix_ms: now.unix_ms.saturating_add(limits::PERMIT_LIFETIME_MS),
    };
    let candidates = reachable.into_iter().map(|reachable| Candidate {
        node: reachable.node,
        permit: shared.key.sign(&permit(reachable.node)),
        addresses: reachable.addresses,
        evidence: reachable.evidence.signed.clone(),
    });
    shared.counters.matches_granted.count();
    MatchReply::Granted(Grant { model, model_name, candidates: candidates.collect() })
}

fn entropy() -> u64 {
    getrandom::u64().expect("the operating system has a random source")
}
