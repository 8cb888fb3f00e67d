//! Our keys, committees and certificates in the engine's terms, and back.

use bytes::Bytes;
use commonware_codec::DecodeExt as _;
use commonware_consensus::simplex::{scheme::ed25519, types as simplex};
use commonware_consensus::types::{Epoch, Round, View};
use commonware_cryptography::{
    blake3,
    certificate::{Provider, Scoped, Signers},
    ed25519::{PrivateKey, PublicKey, Signature, certificate},
};
use commonware_utils::{Participant, ordered::Set};
use protocol::{
    header::{self, Anchor, Certificate, Committee, Header},
    ids::{NodeId, PoolId},
};
use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use crate::Application;

pub(crate) type Scheme = ed25519::Scheme;
pub(crate) type Finalization = simplex::Finalization<Scheme, blake3::Digest>;
type Proposal = simplex::Proposal<blake3::Digest>;

/// `None`: the id is no point of the curve, so nobody has its key.
pub(crate) fn public_key(id: NodeId) -> Option<PublicKey> {
    PublicKey::decode(Bytes::copy_from_slice(&id.0)).ok()
}

pub(crate) fn node_id(key: &PublicKey) -> NodeId {
    NodeId(key.as_ref().try_into().expect("a public key has 32 bytes"))
}

pub(crate) fn private_key(key: &trust::MachineKey) -> PrivateKey {
    PrivateKey::decode(Bytes::from_owner(key.seed())).expect("every seed is a key")
}

pub(crate) fn participants(committee: &Committee) -> Option<Set<PublicKey>> {
    let keys: Option<Vec<_>> = committee.members().iter().map(|member| public_key(*member)).collect();
    Some(Set::from_iter_dedup(keys?))
}

pub(crate) fn verifier(pool: PoolId, committee: &Committee) -> Option<Scheme> {
    Some(Scheme::verifier(&header::namespace(pool), participants(committee)?))
}

/// The committees of all epochs, as the engine verifies with them and, where this member votes, signs.
#[derive(Clone)]
pub(crate) struct Schemes(Arc<Inner>);

struct Inner {
    pool: PoolId,
    application: Arc<dyn Application>,
    key: trust::MachineKey,
    signs_from_epoch: u64,
    known: RwLock<BTreeMap<u64, Arc<Scheme>>>,
}

/// Epochs whose schemes are remembered; older ones are asked for anew.
const KNOWN_MAX: usize = 8;

impl Schemes {
    pub(crate) fn new(
        pool: PoolId,
        application: Arc<dyn Application>,
        key: trust::MachineKey,
        signs_from_epoch: u64,
    ) -> Self {
        Self(Arc::new(Inner { pool, application, key, signs_from_epoch, known: RwLock::default() }))
    }

    /// `None`: the committee is not known (yet), or none of keys.
    pub(crate) fn of(&self, epoch: u64) -> Option<Arc<Scheme>> {
        let known = self.0.known.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(scheme) = known.get(&epoch) {
            return Some(scheme.clone());
        }
        drop(known);
        let committee = self.0.application.committee(epoch)?;
        let scheme = Arc::new(self.made(epoch, &committee)?);
        let mut known = self.0.known.write().unwrap_or_else(PoisonError::into_inner);
        known.insert(epoch, scheme.clone());
        while known.len() > KNOWN_MAX {
            known.pop_first();
        }
        Some(scheme)
    }

    /// Whether this member votes in that epoch, if it is of its committee.
    pub(crate) fn votes(&self, epoch: u64) -> bool {
        epoch >= self.0.signs_from_epoch
    }

    fn made(&self, epoch: u64, committee: &Committee) -> Option<Scheme> {
        let (namespace, set) = (header::namespace(self.0.pool), participants(committee)?);
        let key = private_key(&self.0.key);
        if !committee.contains(self.0.key.id()) {
            return Some(Scheme::verifier(&namespace, set));
        }
        if self.votes(epoch) {
            return Scheme::signer(&namespace, set, key);
        }
        Scheme::member(&namespace, set, &public_key(self.0.key.id())?)
    }
}

impl Provider for Schemes {
    type Scope = Epoch;
    type Scheme = Scheme;

    fn scoped(&self, epoch: Epoch) -> Option<Scoped<Scheme>> {
        self.of(epoch.get()).map(Scoped::scheme)
    }
}

/// The certificate as light clients read it.
pub(crate) fn anchor(header: Header, finalization: &Finalization) -> Option<Anchor> {
    let proposal = &finalization.proposal;
    let digest_fits = proposal.payload.0 == header.digest() && proposal.round.epoch().get() == header.epoch;
    let mut signers = 0;
    for signer in finalization.certificate.signers.iter() {
        signers |= 1_u16.checked_shl(signer.get())?;
    }
    let signatures = finalization.certificate.signatures.iter();
    let signatures: Option<Vec<_>> = signatures
        .map(|signature| Some(protocol::signed::Signature::of(signature.get()?.as_ref().try_into().ok()?)))
        .collect();
    let (view, parent_view) = (proposal.round.view().get(), proposal.parent.get());
    digest_fits
        .then_some(Anchor { header, certificate: Certificate { view, parent_view, signers, signatures: signatures? } })
}

/// The certificate as the engine reads it. `None`: it is not of a form that any engine makes; whether its signatures
/// hold is another question.
pub(crate) fn finalization(anchor: &Anchor, members: usize) -> Option<Finalization> {
    let Anchor { header, certificate } = anchor;
    let round = Round::new(Epoch::new(header.epoch), View::new(certificate.view));
    let proposal = Proposal::new(round, View::new(certificate.parent_view), blake3::Digest(header.digest()));
    let set = (0..16_u32).filter(|bit| certificate.signers >> bit & 1 == 1).map(Participant::new);
    let signers = Signers::new(u32::try_from(members).ok()?, set).ok()?;
    if signers.count() != certificate.signatures.len() {
        return None;
    }
    let signatures: Option<Vec<_>> = certificate
        .signatures
        .iter()
        .map(|signature| Signature::decode(Bytes::copy_from_slice(&signature.bytes())).ok().map(Into::into))
        .collect();
    Some(Finalization { proposal, certificate: certificate::Certificate { signers, signatures: signatures? } })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use commonware_consensus::simplex::types::Finalize;
    use commonware_parallel::Sequential;
    use commonware_utils::iter::NonEmpty;
    use protocol::signed::Verifier as _;
    use trust::MachineKey;

    pub(crate) const POOL: PoolId = PoolId([9; 32]);

    pub(crate) fn keys(count: u8) -> Vec<MachineKey> {
        (1..=count).map(|seed| MachineKey::from_seed(&[seed; 32])).collect()
    }

    pub(crate) fn committee(keys: &[MachineKey]) -> Committee {
        Committee::new(keys.iter().map(MachineKey::id).collect()).unwrap()
    }

    pub(crate) fn signers(keys: &[MachineKey]) -> Vec<Scheme> {
        let set = participants(&committee(keys)).unwrap();
        let namespace = header::namespace(POOL);
        keys.iter().map(|key| Scheme::signer(&namespace, set.clone(), private_key(key)).unwrap()).collect()
    }

    pub(crate) fn proposal(epoch: u64, view: u64, payload: [u8; 32]) -> Proposal {
        Proposal::new(Round::new(Epoch::new(epoch), View::new(view)), View::new(view - 1), blake3::Digest(payload))
    }

    fn header(epoch: u64) -> Header {
        let (pool, parent, state) = (POOL, [1; 32], [2; 32]);
        let (height, unix_ms) = (epoch.saturating_mul(7), epoch);
        let (body, committee, next_committee) = ([3; 32], [4; 32], [5; 32]);
        Header { pool, epoch, height, parent, unix_ms, state, body, committee, next_committee }
    }

    #[test]
    fn a_machine_has_the_same_key_for_the_engine() {
        for key in keys(16) {
            let engine = commonware_cryptography::Signer::public_key(&private_key(&key));
            assert_eq!(node_id(&engine), key.id());
            assert_eq!(public_key(key.id()), Some(engine));
        }
        assert!((0..64).any(|id| public_key(NodeId([id; 32])).is_none()), "half of all ids are no points of the curve");
    }

    #[test]
    fn the_engine_orders_and_counts_a_committee_as_we_do() {
        for count in 1..=16 {
            let committee = committee(&keys(count));
            let set = participants(&committee).unwrap();
            assert_eq!(set.iter().map(node_id).collect::<Vec<_>>(), committee.members());
            let quorum = <commonware_utils::N3f1 as commonware_utils::Faults>::quorum(u32::from(count));
            assert_eq!(quorum as usize, committee.quorum());
        }
    }

    /// What light clients verify is what the engine signs: for numbers of every length that the encoding has.
    #[test]
    fn a_certificate_of_the_engine_holds_for_a_light_client() {
        let keys = keys(7);
        let (committee, schemes) = (committee(&keys), signers(&keys));
        for shift in 0..64 {
            let (epoch, view) = ((1_u64 << shift) - 1, 1_u64 << (63 - shift));
            let header = header(epoch);
            let votes = schemes.iter().skip(shift % 3).take(5);
            let proposal = proposal(epoch, view, header.digest());
            let votes: Vec<_> = votes.map(|scheme| Finalize::sign(scheme, proposal.clone()).unwrap()).collect();
            let votes = NonEmpty::try_new(votes.iter()).unwrap();
            let made = Finalization::from_finalizes(&schemes[0], votes, &Sequential).unwrap();
            let anchor = anchor(header.clone(), &made).unwrap();
            let message = anchor.certificate.message(&header);
            let signers = (0..16).filter(|bit| anchor.certificate.signers >> bit & 1 == 1);
            let signers: Vec<_> = signers.map(|bit| committee.members()[bit]).collect();
            assert_eq!((signers.len(), anchor.certificate.signatures.len()), (5, 5));
            for (signer, signature) in signers.iter().zip(&anchor.certificate.signatures) {
                assert!(trust::Strict.holds(signer, &message, &signature.bytes()), "epoch {epoch}, view {view}");
            }
            // And back.
            assert_eq!(finalization(&anchor, 7), Some(made));
            assert_eq!(
                super::anchor(Header { height: header.height ^ 1, ..header }, &finalization(&anchor, 7).unwrap()),
                None
            );
        }
    }

    #[test]
    fn a_certificate_of_another_form_is_none_of_the_engine() {
        let keys = keys(4);
        let schemes = signers(&keys);
        let header = header(3);
        let votes = schemes.iter().map(|scheme| Finalize::sign(scheme, proposal(3, 2, header.digest())).unwrap());
        let votes: Vec<_> = votes.collect();
        let made =
            Finalization::from_finalizes(&schemes[0], NonEmpty::try_new(votes.iter()).unwrap(), &Sequential).unwrap();
        let anchor = anchor(header, &made).unwrap();
        let changed = |change: fn(&mut Certificate)| {
            let mut anchor = anchor.clone();
            change(&mut anchor.certificate);
            finalization(&anchor, 4)
        };
        assert_eq!(changed(|certificate| certificate.signers |= 1 << 15), None, "a member that there is not");
        assert_eq!(changed(|certificate| certificate.signatures.clear()), None);
        assert_eq!(changed(|certificate| certificate.signers &= 7), None);
        assert!(finalization(&anchor, 4).is_some());
        assert_eq!(finalization(&anchor, 3), None);
    }
}
