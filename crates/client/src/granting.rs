//! Having a task matched by an orchestrator that is believed: what it grants is verified, and where that fails another
//! orchestrator is asked.

use crate::{AskError, Shared, matching, verify::GrantError};
use protocol::{
    grant::{Audit, Canary, Errand, Grant, MatchReply, MatchRequest, Reading, Refusal},
    ids::{ModelDigest, NodeId},
    limits,
    link::{Answer, Question},
    time::unix_ms,
};
use std::{sync::Arc, time::SystemTime};
use transport::Boxed;
use trust::light::{AnchorError, Light};

/// An orchestrator's answer, as far as it is believed.
pub(crate) enum Matched {
    /// By whom, what, and which nodes this client's own policy passes over, with the reason of each.
    Granted(NodeId, Box<Grant>, Vec<(NodeId, String)>),
    /// Nobody, and why.
    Refused(Refusal),
}

/// Has a task matched. A grant that is not believed is held against its orchestrator; another is asked, where there is one.
pub(crate) fn matched(shared: Arc<Shared>, request: MatchRequest) -> Boxed<'static, Result<Matched, AskError>> {
    Box::pin(async move {
        let mut disbelieved = Vec::new();
        loop {
            let (orchestrator, answer) = shared.link.ask_whom(Question::Match(request.clone())).await?;
            let mut grant = match answer {
                Answer::Match(MatchReply::Granted(grant)) => grant,
                Answer::Match(MatchReply::Refused(refusal)) => return Ok(Matched::Refused(refusal)),
                Answer::Unanswered(why) => return Err(AskError::Unanswered(why)),
                _ => return Err(matching::unexpected()),
            };
            let checked = match verified(&shared, |light| check(&shared, &grant, &request, light)).await {
                Ok(checked) => checked,
                // What it tells of the committee is no better than a grant that does not hold.
                Err(AskError::NotBelieved { orchestrator, reason })
                    if shared.link.orchestrators().distrust(orchestrator, &reason)
                        && !disbelieved.contains(&orchestrator) =>
                {
                    disbelieved.push(orchestrator);
                    continue;
                }
                Err(error) => return Err(error),
            };
            let Checked { passed_over, fault, is_usable } = checked.unwrap_or_else(Checked::useless);
            if let Some(fault) = fault {
                let reason = fault.to_string();
                let has_other = fault.is_lie() && shared.link.orchestrators().distrust(orchestrator, &reason);
                // The others may be out of reach: then the same one is asked again, once.
                if has_other && !disbelieved.contains(&orchestrator) {
                    disbelieved.push(orchestrator);
                    continue;
                }
                if !is_usable && !fault.is_lie() {
                    // Nobody is to blame: this client does not want what the pool offers.
                    return Err(AskError::NoNode { reasons: vec![reason], retry_after_ms: None });
                }
                if !is_usable {
                    return Err(AskError::NotBelieved { orchestrator, reason });
                }
            }
            drop_passed_over(&mut grant, &passed_over);
            return Ok(Matched::Granted(orchestrator, Box::new(grant), passed_over));
        }
    })
}

/// The referees of an answer, if what is shown of them is believed.
pub(crate) async fn believed(shared: &Shared, orchestrator: NodeId, model: ModelDigest, reading: &Reading) -> bool {
    let referees = || reading.referees.iter().take(limits::REFEREES_MAX);
    let checked = verified(shared, |light| {
        let proven = shared.demands.open(&reading.witness, light, unix_ms(SystemTime::now()))?;
        proven.model(model)?;
        referees().try_for_each(|errand| {
            proven.candidate(&errand.candidate, errand.task, model).map_err(|why| of(errand.candidate.node, why))
        })
    });
    match checked.await {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            if error.is_lie() {
                shared.link.orchestrators().distrust(orchestrator, &error.to_string());
            }
            false
        }
        Err(error) => {
            tracing::debug!(%error, "referees could not be verified");
            false
        }
    }
}

/// Checks something; once more after asking, where a committee is not known.
async fn verified<T>(
    shared: &Shared,
    check: impl Fn(&mut Light) -> Result<T, GrantError>,
) -> Result<Result<T, GrantError>, AskError> {
    let unknown = |checked: &Option<Result<T, GrantError>>| {
        matches!(checked, None | Some(Err(GrantError::Anchor(AnchorError::UnknownCommittee { .. }))))
    };
    let mut checked = shared.known.with(&check);
    if unknown(&checked) {
        shared.known.learn(&shared.link).await?;
        checked = shared.known.with(&check);
    }
    shared.known.keep_in_passing();
    Ok(checked.expect("a committee is known since the client began"))
}

fn of(node: NodeId, why: crate::verify::CandidateError) -> GrantError {
    GrantError::Candidate { node, why }
}

/// What is found in a grant.
struct Checked {
    /// Candidates that are not what they should be, or that this client's own policy does not allow, and why.
    passed_over: Vec<(NodeId, String)>,
    /// What no honest orchestrator grants, or nobody could grant to this client: the first such thing.
    fault: Option<GrantError>,
    /// Whether there are candidates that nothing is wrong with. What is proven of them holds whoever granted it: where
    /// nobody else can be asked, they will do.
    is_usable: bool,
}

impl Checked {
    fn useless(fault: GrantError) -> Self {
        Self { passed_over: Vec::new(), fault: Some(fault), is_usable: false }
    }
}

fn check(shared: &Shared, grant: &Grant, request: &MatchRequest, light: &mut Light) -> Result<Checked, GrantError> {
    let proven = shared.demands.open(&grant.witness, light, unix_ms(SystemTime::now()))?;
    proven.model(grant.model)?;
    let candidates = || grant.candidates.iter().take(limits::CANDIDATES_MAX);
    let errands = errands(grant).map(|errand| (&errand.candidate, errand.task));
    let mut checked = Checked { passed_over: Vec::new(), fault: None, is_usable: false };
    for (candidate, task) in candidates().map(|candidate| (candidate, request.task)).chain(errands) {
        let Err(why) = proven.candidate(candidate, task, grant.model) else { continue };
        checked.passed_over.push((candidate.node, why.to_string()));
        if !why.is_own() {
            checked.fault.get_or_insert(of(candidate.node, why));
        }
    }
    let is_passed_over = |node| checked.passed_over.iter().any(|(other, _)| *other == node);
    checked.is_usable = candidates().any(|candidate| !is_passed_over(candidate.node));
    Ok(checked)
}

fn errands(grant: &Grant) -> impl Iterator<Item = &Errand> {
    let canary: Option<&Canary> = match &grant.audit {
        Some(Audit::Canary(canary)) => Some(canary),
        Some(Audit::Answer) | None => None,
    };
    canary
        .into_iter()
        .flat_map(|canary| std::iter::once(&canary.subject).chain(canary.referees.iter().take(limits::REFEREES_MAX)))
}

fn drop_passed_over(grant: &mut Grant, passed_over: &[(NodeId, String)]) {
    let is_passed_over = |node: NodeId| passed_over.iter().any(|(other, _)| *other == node);
    let drawn = match &grant.audit {
        Some(Audit::Answer) => grant.candidates.first().is_some_and(|first| is_passed_over(first.node)),
        _ => errands(grant).any(|errand| is_passed_over(errand.candidate.node)),
    };
    if drawn {
        grant.audit = None;
    }
    grant.candidates.truncate(limits::CANDIDATES_MAX);
    grant.candidates.retain(|candidate| !is_passed_over(candidate.node));
    if let Some(Audit::Canary(canary)) = &mut grant.audit {
        canary.referees.truncate(limits::REFEREES_MAX);
    }
}
