//! Facts of the committee: who is in the next one, and who has betrayed one.

use crate::{Event, PoolError, Rejection, draft::Draft, keys, records::AgreedFault, state::State};
use protocol::{fault::FaultKind, header::Committee, ids::NodeId, limits};

/// Plans the committee of the next epoch: see [`crate::Fact::CommitteeChanged`].
pub(crate) fn change(draft: &mut Draft, add: &[NodeId], remove: &[NodeId]) -> Result<(), Rejection> {
    let present = draft.read(&keys::committee()).ok_or(Rejection::NotFounded)?;
    let planned = draft.read(&keys::next_committee()).unwrap_or_else(|| present.clone());
    if add.iter().any(|node| remove.contains(node)) {
        return Err(PoolError::BothWays.into());
    }
    let mut members = planned.members().to_vec();
    members.retain(|member| !remove.contains(member));
    members.extend(add.iter().filter(|node| !planned.contains(**node)));
    let next = Committee::new(members).map_err(PoolError::from)?;
    let max = present.faults().max(1);
    if missing(&present, &next) + missing(&next, &present) > max {
        return Err(PoolError::TooManyChanges { max }.into());
    }
    if next == planned {
        return Ok(());
    }
    if next == present {
        draft.erase(keys::next_committee());
    } else {
        draft.write(keys::next_committee(), &next);
    }
    draft.happened(Event::NextCommitteeSet { committee: next.digest() });
    Ok(())
}

/// How many of one committee are not in the other.
fn missing(of: &Committee, from: &Committee) -> usize {
    of.members().iter().filter(|member| !from.contains(**member)).count()
}

/// Notes what a member did, once for each epoch and kind.
pub(crate) fn fault(
    draft: &mut Draft,
    (member, epoch, kind): (NodeId, u64, FaultKind),
    view: u64,
    evidence: &[u8],
) -> Result<(), Rejection> {
    if !(1..=limits::FAULT_EVIDENCE_BYTES_MAX).contains(&evidence.len()) {
        return Err(PoolError::Evidence.into());
    }
    let committee = State { tree: draft.tree.clone() }.committee_of(epoch);
    if !committee.is_some_and(|committee| committee.contains(member)) {
        return Err(PoolError::NotInCommittee.into());
    }
    let key = keys::fault(member, epoch, kind);
    if draft.has(&key) {
        return Ok(());
    }
    if draft.counts().faults as usize >= limits::FAULTS_MAX {
        return Err(PoolError::Full("faults of orchestrators").into());
    }
    let (evidence, agreed_unix_ms) = (*blake3::hash(evidence).as_bytes(), draft.now());
    draft.write(key, &AgreedFault { member, epoch, view, kind, evidence, agreed_unix_ms });
    draft.count(|counts| counts.faults += 1);
    draft.happened(Event::Faulted { member, epoch, kind });
    Ok(())
}
