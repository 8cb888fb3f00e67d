//! A client's question about a task: answered from memory, at once where there is a place, when its turn comes where
//! there is none, and early where that would take longer than the client waits.
//!
//! Nodes that are ejected, silent or starting come back by themselves, as a rule: where one of them may be back while
//! the client waits, it waits. It is told that there is no node at once where nothing can change by itself, and otherwise
//! when its time is over.

mod audit;
mod desk;

pub(crate) use audit::{budget as audits_budget, reading};
pub(crate) use desk::{Desk, attend, serve};

use crate::{
    anchor::{self, Anchored},
    grudges::{Avoided, Need},
    issued::{Issue, Part},
    ledger,
    live::{Granted, Named, explain_avoided},
    shared::Shared,
};
use protocol::{
    grant::{Audit, Candidate, Grant, MatchReply, MatchRequest, ModelRef, Permit, Purpose, Refusal, RefusalKind},
    hold::Hold,
    ids::{ModelDigest, NodeId, TaskId},
    limits,
    market::Price,
    signed::Signed,
    witness::Shown,
};
use scheduler::{Now, Task};
use std::sync::Arc;
use tokio::sync::oneshot;

/// What a client without budget for another attempt is told.
const BUDGET_RETRY_AFTER_MS: u32 = 1_000;
/// And one whose nodes cannot be shown: what is agreed on about them changes with the next block.
const SHOWN_RETRY_AFTER_MS: u32 = 1_000;

/// Whether the lengths in a request are those of an honest one.
pub(crate) fn is_bounded(request: &MatchRequest) -> bool {
    let name_fits = match &request.model {
        ModelRef::Name(name) => name.len() <= limits::MODEL_NAME_CHARS_MAX,
        ModelRef::Digest(_) => true,
    };
    name_fits && request.exclude.len() <= limits::EXCLUDED_MAX
}

/// Finds nodes for a task of `client`, and signs its permits. Ends early when `gone` does: nobody waits any more.
pub(crate) async fn answer(
    shared: &Arc<Shared>,
    client: NodeId,
    mut request: MatchRequest,
    gone: impl Future<Output = ()>,
) -> Option<MatchReply> {
    if let Err(refusal) = shared.anchors.first().await {
        return Some(refused(shared, refusal));
    }
    let now = shared.now();
    if let Err(refusal) = admit(shared, client, &mut request, now) {
        return Some(refused(shared, refusal));
    }
    let model = shared.registry().model(&request.model).map(|entry| entry.digest);
    let line = model.filter(|model| shared.desk().is_waited_for(*model));
    let granted = match line {
        // Nobody overtakes those who wait.
        Some(_) if request.purpose == Purpose::Hedge => Err(overloaded(BUDGET_RETRY_AFTER_MS)),
        Some(model) => wait(shared, client, request.clone(), model, None, gone).await?,
        None => match (grant(shared, client, &request, now), model) {
            (Err(refusal), Some(model)) if waits(&refusal, &request) => {
                wait(shared, client, request.clone(), model, Some(refusal), gone).await?
            }
            (granted, _) => granted,
        },
    };
    Some(match granted.and_then(|granted| signed(shared, client, &request, granted)) {
        Ok(grant) => MatchReply::Granted(grant),
        Err(refusal) => refused(shared, refusal),
    })
}

/// Whether it makes sense to wait: for a place, or for a node that may be back by then, and not beside a task that runs
/// already.
fn waits(refusal: &Refusal, request: &MatchRequest) -> bool {
    let in_time = match refusal.kind {
        RefusalKind::Overloaded => true,
        RefusalKind::NoNode => refusal.retry_after_ms.is_some_and(|ms| ms <= request.wait_ms_max),
        RefusalKind::UnknownModel { .. } | RefusalKind::NotReady => false,
    };
    in_time && request.wait_ms_max > 0 && request.purpose != Purpose::Hedge
}

/// Overload must not feed itself: work that is done twice has a budget, which first requests fill. A resume that goes
/// beyond what the client began waits in line like a beginning.
fn admit(shared: &Shared, client: NodeId, request: &mut MatchRequest, now: Now) -> Result<(), Refusal> {
    let paid = shared.clients().pay(client, request.purpose, now.steady_ms);
    match request.purpose {
        Purpose::Retry | Purpose::Hedge if !paid => {
            shared.counters.budgets_spent.count();
            tracing::debug!(client = %client.short(), purpose = ?request.purpose, "the budget is spent");
            Err(overloaded(BUDGET_RETRY_AFTER_MS))
        }
        Purpose::Resume if !paid => {
            request.purpose = Purpose::First;
            Ok(())
        }
        _ => Ok(()),
    }
}

fn overloaded(retry_after_ms: u32) -> Refusal {
    Refusal { kind: RefusalKind::Overloaded, reasons: Vec::new(), retry_after_ms: Some(retry_after_ms) }
}

/// One attempt. Nodes that failed this client come into question where no others do, after a rest.
fn grant(shared: &Shared, client: NodeId, request: &MatchRequest, now: Now) -> Result<Granted, Refusal> {
    let avoided = shared.grudges().avoided_by(client, Need::Usual, now.steady_ms);
    let granted = grant_beside(shared, client, request, &avoided, now);
    if granted.is_ok() || avoided.is_empty() {
        return granted;
    }
    let urgently = shared.grudges().avoided_by(client, Need::Urgent, now.steady_ms);
    if urgently.len() == avoided.len() {
        return granted.map_err(|refusal| explained(refusal, &urgently, request, now));
    }
    let granted = grant_beside(shared, client, request, &urgently, now);
    granted.map_err(|refusal| explained(refusal, &urgently, request, now))
}

fn explained(mut refusal: Refusal, avoided: &[Avoided], request: &MatchRequest, now: Now) -> Refusal {
    explain_avoided(&mut refusal, avoided, &request.exclude, now);
    refusal
}

fn grant_beside(
    shared: &Shared,
    client: NodeId,
    request: &MatchRequest,
    avoided: &[Avoided],
    now: Now,
) -> Result<Granted, Refusal> {
    let registry = shared.registry();
    let terms = ledger::terms(shared, &registry, client);
    let mut excluding = None;
    if !avoided.is_empty() || !terms.blocked.is_empty() {
        let mut extended = request.clone();
        extended.exclude.extend(avoided.iter().map(|avoided| avoided.node));
        extended.exclude.extend(&terms.blocked);
        excluding = Some(extended);
    }
    let task = Task::new(client, excluding.as_ref().unwrap_or(request));
    let task = Task { own: &terms.own, funds_micro: terms.funds_micro, ..task };
    let granted = shared.live().grant(&registry, &task, now, entropy());
    granted.map_err(|mut refusal| {
        for (node, hold) in &mut refusal.reasons {
            if *hold == Hold::Excluded && terms.blocked.contains(node) {
                *hold = Hold::Blocked;
            }
        }
        refusal
    })
}

/// Waits for a turn, because of `refusal` or because others wait. `None`: the client has gone meanwhile.
async fn wait(
    shared: &Arc<Shared>,
    client: NodeId,
    request: MatchRequest,
    model: ModelDigest,
    refusal: Option<Refusal>,
    gone: impl Future<Output = ()>,
) -> Option<Result<Granted, Refusal>> {
    let (reply, answer) = oneshot::channel();
    let (now, places) = (shared.now(), shared.live().places(model));
    let waiter = desk::Waiter::new(client, request, reply);
    let number = match shared.desk().offer(model, places, waiter, now.steady_ms) {
        Ok(number) => number,
        Err(too_long) => {
            shared.counters.refused_early.count();
            tracing::debug!(client = %client.short(), ?too_long, places, "a place would come too late");
            let refusal = refusal.unwrap_or_else(|| overloaded(0));
            // Where nobody serves there is no place before somebody is back.
            let back_ms = if refusal.kind == RefusalKind::NoNode { refusal.retry_after_ms } else { None };
            return Some(Err(Refusal { retry_after_ms: back_ms.max(Some(too_long.retry_after_ms)), ..refusal }));
        }
    };
    shared.counters.waited.count();
    // A place may have come free since it was looked for.
    serve(shared, model);
    let left = tokio::select! {
        biased;
        granted = answer => return granted.ok(),
        () = gone => shared.desk().leave(model, number),
    };
    if left {
        shared.counters.waiting_gone.count();
    }
    None
}

/// The grant that a client gets. Its permits are remembered, so that their outcomes are believed.
fn signed(shared: &Shared, client: NodeId, request: &MatchRequest, granted: Granted) -> Result<Grant, Refusal> {
    let now = shared.now();
    let Some(anchored) = shared.anchors.current() else {
        shared.live().unused(client, request.task, &granted, now);
        return Err(anchor::not_ready());
    };
    let (granted, shown, first_kept) = shown(shared, &anchored, client, request, granted, now)?;
    let audit = audit::draw(shared, &anchored, client, request, &granted, now);
    let Granted { model, model_name, candidates } = granted;
    let number = shared.issued().number();
    let issues: Vec<Issue> = candidates
        .iter()
        .enumerate()
        .map(|(at, named)| Issue { started: at == 0 && first_kept, ..issue(named, model, Part::Candidate, number) })
        .collect();
    shared.issued().give(client, request.task, &issues, now.steady_ms);
    let candidates = candidates.into_iter().zip(shown);
    let candidates: Vec<Candidate> = candidates
        .map(|(named, shown)| {
            let price = anchored.price(client, named.reachable.node, model);
            candidate(shared, client, request.task, model, named, (Some(shown), price), now)
        })
        .collect();
    let canary = match &audit {
        Some(Audit::Canary(canary)) => std::iter::once(&canary.subject).chain(&canary.referees).collect(),
        _ => Vec::new(),
    };
    let errands = canary.into_iter().map(|errand| &errand.candidate);
    let measurements = measurements(candidates.iter().chain(errands));
    let witness = Box::new(anchored.witness(&measurements));
    shared.counters.matches_granted.count();
    Ok(Grant { model, model_name, witness, candidates, audit })
}

/// The candidates that clients would not refuse, with what is shown of each, and whether the first is among them.
fn shown(
    shared: &Shared,
    anchored: &Anchored,
    client: NodeId,
    request: &MatchRequest,
    granted: Granted,
    now: Now,
) -> Result<(Granted, Vec<Shown>, bool), Refusal> {
    let model = granted.model;
    let looked_at: Vec<_> = granted.candidates.iter().map(|named| anchored.shown(named, model, now.unix_ms)).collect();
    let first_kept = looked_at.first().is_some_and(Result::is_ok);
    if !first_kept {
        // A place is kept with the first: it is free again.
        shared.live().unused(client, request.task, &granted, now);
    }
    let Granted { model_name, candidates, .. } = granted;
    let (mut kept, mut shown, mut reasons) = (Vec::new(), Vec::new(), Vec::new());
    for (named, looked_at) in candidates.into_iter().zip(looked_at) {
        match looked_at {
            Ok(of) => {
                kept.push(named);
                shown.push(of);
            }
            Err(hold) => reasons.push((named.reachable.node, hold)),
        }
    }
    if kept.is_empty() {
        return Err(Refusal { kind: RefusalKind::NoNode, reasons, retry_after_ms: Some(SHOWN_RETRY_AFTER_MS) });
    }
    Ok((Granted { model, model_name, candidates: kept }, shown, first_kept))
}

/// Of the workers' programs.
fn measurements<'a>(candidates: impl Iterator<Item = &'a Candidate>) -> Vec<[u8; 32]> {
    candidates.filter_map(|candidate| Some(candidate.evidence.decode_unverified().ok()?.measurement)).collect()
}

fn issue(named: &Named, model: ModelDigest, part: Part, number: u64) -> Issue {
    Issue { node: named.reachable.node, model, part, batch: named.batch, number, started: false }
}

fn candidate(
    shared: &Shared,
    client: NodeId,
    task: TaskId,
    model: ModelDigest,
    named: Named,
    (shown, price): (Option<Shown>, Option<Price>),
    now: Now,
) -> Candidate {
    let Named { reachable, expected, .. } = named;
    Candidate {
        node: reachable.node,
        permit: permit(shared, client, task, reachable.node, model, price, now),
        addresses: reachable.addresses,
        evidence: reachable.evidence.signed.clone(),
        expected,
        shown,
    }
}

/// Permission for one client to run one task on one node.
pub(crate) fn permit(
    shared: &Shared,
    client: NodeId,
    task: TaskId,
    node: NodeId,
    model: ModelDigest,
    price: Option<Price>,
    now: Now,
) -> Signed<Permit> {
    permit_until(shared, client, task, node, model, price, now.unix_ms.saturating_add(limits::PERMIT_LIFETIME_MS))
}

fn permit_until(
    shared: &Shared,
    client: NodeId,
    task: TaskId,
    node: NodeId,
    model: ModelDigest,
    price: Option<Price>,
    expires_unix_ms: u64,
) -> Signed<Permit> {
    shared.key.sign(&Permit { pool: shared.pool, task, client, node, model, expires_unix_ms, price })
}

fn refused(shared: &Shared, refusal: Refusal) -> MatchReply {
    tracing::debug!(kind = ?refusal.kind, reasons = ?refusal.reasons, "no grant");
    match refusal.kind {
        RefusalKind::UnknownModel { .. } => shared.counters.matches_unknown_model.count(),
        RefusalKind::NoNode | RefusalKind::NotReady => shared.counters.matches_no_node.count(),
        RefusalKind::Overloaded => shared.counters.matches_overloaded.count(),
    }
    MatchReply::Refused(refusal)
}

pub(crate) fn entropy() -> u64 {
    getrandom::u64().expect("the operating system has a random source")
}
