//! Members that have contradicted themselves: what the engine reports, as what the pool agrees on, and back.

use consensus::Fault;
use registry::Fact;

/// As a fact.
pub(crate) fn to_fact(fault: &Fault) -> Fact {
    let Fault { member, epoch, view, kind, ref evidence } = *fault;
    Fact::Fault { member, epoch, view, kind, evidence: evidence.clone() }
}

/// Of a fact. `None`: it is another fact.
pub(crate) fn of_fact(fact: &Fact) -> Option<Fault> {
    let Fact::Fault { member, epoch, view, kind, evidence } = fact else { return None };
    Some(Fault { member: *member, epoch: *epoch, view: *view, kind: *kind, evidence: evidence.clone() })
}
