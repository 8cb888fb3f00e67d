//! Members that have contradicted themselves: what the engine reports, as what the pool agrees on, and back.

use consensus::Fault;
use protocol::fault::FaultKind;
use registry::Fact;

/// As a fact. `None`: a kind that this version cannot say.
pub(crate) fn to_fact(fault: &Fault) -> Option<Fact> {
    let kind = match fault.kind {
        consensus::FaultKind::ConflictingNotarize => FaultKind::ConflictingNotarize,
        consensus::FaultKind::ConflictingFinalize => FaultKind::ConflictingFinalize,
        consensus::FaultKind::NullifyFinalize => FaultKind::NullifyFinalize,
        _ => return None,
    };
    let Fault { member, epoch, view, ref evidence, .. } = *fault;
    Some(Fact::Fault { member, epoch, view, kind, evidence: evidence.clone() })
}

/// Of a fact. `None`: it is another fact, or of a kind that this version cannot judge.
pub(crate) fn of_fact(fact: &Fact) -> Option<Fault> {
    let Fact::Fault { member, epoch, view, kind, evidence } = fact else { return None };
    let kind = match kind {
        FaultKind::ConflictingNotarize => consensus::FaultKind::ConflictingNotarize,
        FaultKind::ConflictingFinalize => consensus::FaultKind::ConflictingFinalize,
        FaultKind::NullifyFinalize => consensus::FaultKind::NullifyFinalize,
        _ => return None,
    };
    Some(Fault { member: *member, epoch: *epoch, view: *view, kind, evidence: evidence.clone() })
}
