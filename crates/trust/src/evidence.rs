//! A node's evidence about its worker, as the client checks it (promise P2): the client trusts its own eyes, not the
//! orchestrator that named the node.

use crate::{SignatureError, open};
use protocol::{
    grant::{Policy, WorkerEvidence},
    ids::{ModelDigest, NodeId},
    limits,
    sealing::{SealingKey, Suite},
    signed::Signed,
};

/// Why a worker is not sealed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EvidenceError {
    /// Not authentic.
    #[error("{0}")]
    Signature(#[from] SignatureError),
    /// Signed by, or about, another machine.
    #[error("the evidence is another machine's")]
    OtherNode,
    /// About another model.
    #[error("the worker serves another model")]
    OtherModel,
    /// Too old, or from the future.
    #[error("the evidence has expired, or a clock is wrong")]
    Expired,
    /// Less than the policy asks for.
    #[error("the worker's tier is below the policy's")]
    BelowTier,
    /// No key of a suite that we know.
    #[error("the worker offers no sealing suite that we know")]
    NoSuite,
}

/// The key to seal to, if the evidence holds for `node` and `model` and satisfies `policy`.
pub fn verify(
    signed: &Signed<WorkerEvidence>,
    node: NodeId,
    model: ModelDigest,
    policy: &Policy,
    now_unix_ms: u64,
) -> Result<SealingKey, EvidenceError> {
    let evidence = open(signed)?;
    if signed.signer != node || evidence.node != node {
        return Err(EvidenceError::OtherNode);
    }
    if evidence.model != model {
        return Err(EvidenceError::OtherModel);
    }
    if !is_current(&evidence, now_unix_ms) {
        return Err(EvidenceError::Expired);
    }
    if evidence.tier < policy.tier_min {
        return Err(EvidenceError::BelowTier);
    }
    Suite::PREFERENCE
        .into_iter()
        .find_map(|suite| evidence.keys.iter().find(|key| key.suite == suite))
        .cloned()
        .ok_or(EvidenceError::NoSuite)
}

/// What agreed evidence and receipts name evidence by: BLAKE3 of its payload, as it was signed.
pub fn digest(signed: &Signed<WorkerEvidence>) -> [u8; 32] {
    *blake3::hash(&signed.payload).as_bytes()
}

/// Whether evidence holds at this time, give or take the skew of clocks.
pub fn is_current(evidence: &WorkerEvidence, now_unix_ms: u64) -> bool {
    let issued = evidence.issued_unix_ms.saturating_sub(limits::CLOCK_SKEW_MS_MAX);
    let expires = evidence.expires_unix_ms.saturating_add(limits::CLOCK_SKEW_MS_MAX);
    let lifetime = evidence.expires_unix_ms.saturating_sub(evidence.issued_unix_ms);
    (issued..expires).contains(&now_unix_ms) && lifetime <= limits::EVIDENCE_LIFETIME_MS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MachineKey;
    use protocol::{grant::Tier, sealing::WorkerKey};

    const HOUR_MS: u64 = limits::EVIDENCE_LIFETIME_MS;
    const NOW: u64 = 1_000 * HOUR_MS;
    const MODEL: ModelDigest = ModelDigest([5; 32]);

    fn evidence(node: NodeId) -> WorkerEvidence {
        WorkerEvidence {
            node,
            model: MODEL,
            measurement: [0; 32],
            keys: Suite::PREFERENCE.map(|suite| WorkerKey::generate(suite).public().clone()).to_vec(),
            tier: Tier::SelfSigned,
            issued_unix_ms: NOW,
            expires_unix_ms: NOW + HOUR_MS,
        }
    }

    #[test]
    fn the_best_suite_is_taken() {
        let node = MachineKey::generate();
        let key = verify(&node.sign(&evidence(node.id())), node.id(), MODEL, &Policy::default(), NOW).unwrap();
        assert_eq!(key.suite, Suite::XWing);
        let old = WorkerEvidence { keys: evidence(node.id()).keys[1..].to_vec(), ..evidence(node.id()) };
        let key = verify(&node.sign(&old), node.id(), MODEL, &Policy::default(), NOW).unwrap();
        assert_eq!(key.suite, Suite::X25519);
    }

    #[test]
    fn every_lie_has_its_name() {
        let (node, liar) = (MachineKey::generate(), MachineKey::generate());
        let check = |signed, model, now| verify(&signed, node.id(), model, &Policy::default(), now).err();
        let honest = evidence(node.id());
        assert_eq!(check(node.sign(&honest), MODEL, NOW), None);
        assert_eq!(check(liar.sign(&honest), MODEL, NOW), Some(EvidenceError::OtherNode));
        assert_eq!(check(node.sign(&evidence(liar.id())), MODEL, NOW), Some(EvidenceError::OtherNode));
        assert_eq!(check(node.sign(&honest), ModelDigest([6; 32]), NOW), Some(EvidenceError::OtherModel));
        assert_eq!(check(node.sign(&honest), MODEL, NOW + 3 * HOUR_MS), Some(EvidenceError::Expired));
        assert_eq!(check(node.sign(&honest), MODEL, NOW - HOUR_MS), Some(EvidenceError::Expired));
        let eternal = WorkerEvidence { expires_unix_ms: u64::MAX, ..honest.clone() };
        assert_eq!(check(node.sign(&eternal), MODEL, NOW), Some(EvidenceError::Expired));
        let keyless = WorkerEvidence { keys: Vec::new(), ..honest };
        assert_eq!(check(node.sign(&keyless), MODEL, NOW), Some(EvidenceError::NoSuite));
    }
}
