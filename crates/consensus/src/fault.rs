use bytes::Bytes;
use commonware_actor::Feedback;
use commonware_codec::DecodeExt as _;
use commonware_consensus::simplex::{
    self,
    elector::{self, Config as _, Elector as _},
    types::{Activity, Attributable, ConflictingFinalize, ConflictingNotarize, NullifyFinalize},
};
use commonware_consensus::{
    Epochable, Reporter, Viewable,
    types::{Epoch, Round, View},
};
use commonware_cryptography::{Sha256, blake3};
use commonware_parallel::Sequential;
use protocol::{
    fault::FaultKind,
    header::Committee,
    ids::{NodeId, PoolId},
};
use std::{convert::Infallible, sync::Arc};
use tokio::sync::watch;

use crate::{
    Application, Standing,
    scheme::{self, Scheme},
};

/// Longest evidence: two votes with their signatures.
const EVIDENCE_BYTES_MAX: usize = 1024;

/// That a member has contradicted itself: two votes of it that no honest member makes both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Who.
    pub member: NodeId,
    /// In which epoch.
    pub epoch: u64,
    /// In which round of it.
    pub view: u64,
    /// How.
    pub kind: FaultKind,
    /// Both votes, as the engine encodes them: at most 1 kB.
    pub evidence: Vec<u8>,
}

/// Whether the evidence of a fault holds against a member of the committee of its epoch.
pub fn verify_fault(pool: PoolId, committee: &Committee, fault: &Fault) -> bool {
    if fault.evidence.len() > EVIDENCE_BYTES_MAX {
        return false;
    }
    let Some(scheme) = scheme::verifier(pool, committee) else { return false };
    let bytes = Bytes::copy_from_slice(&fault.evidence);
    match fault.kind {
        FaultKind::ConflictingNotarize => ConflictingNotarize::<Scheme, blake3::Digest>::decode(bytes)
            .is_ok_and(|votes| fits(&votes, fault, committee) && votes.verify(&mut System, &scheme, &Sequential)),
        FaultKind::ConflictingFinalize => ConflictingFinalize::<Scheme, blake3::Digest>::decode(bytes)
            .is_ok_and(|votes| fits(&votes, fault, committee) && votes.verify(&mut System, &scheme, &Sequential)),
        FaultKind::NullifyFinalize => NullifyFinalize::<Scheme, blake3::Digest>::decode(bytes)
            .is_ok_and(|votes| fits(&votes, fault, committee) && votes.verify(&mut System, &scheme, &Sequential)),
        // A kind that this version cannot judge.
        _ => false,
    }
}

/// Whether the votes are what the fault says: of this member, in this round.
fn fits<V: Attributable + Epochable + Viewable>(votes: &V, fault: &Fault, committee: &Committee) -> bool {
    let signer = committee.members().get(votes.signer().get() as usize);
    signer == Some(&fault.member) && votes.epoch().get() == fault.epoch && votes.view().get() == fault.view
}

/// The operating system's random source, for the verification of batches.
struct System;

impl rand::TryRng for System {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        getrandom::fill(bytes).expect("the operating system has a random source");
        Ok(())
    }
}

impl rand::TryCryptoRng for System {}

/// Hears everything that the engine of one epoch sees, and passes on contradictions and how far the epoch is.
#[derive(Clone)]
pub(crate) struct Witness(Arc<Seen>);

struct Seen {
    pool: PoolId,
    epoch: u64,
    committee: Committee,
    leaders: elector::RoundRobinElector<Scheme>,
    application: Arc<dyn Application>,
    standing: watch::Sender<Standing>,
}

impl Witness {
    pub(crate) fn new(
        pool: PoolId,
        epoch: u64,
        committee: Committee,
        application: Arc<dyn Application>,
        standing: watch::Sender<Standing>,
    ) -> Option<Self> {
        let leaders = elector::RoundRobin::<Sha256>::default().build(&scheme::participants(&committee)?);
        Some(Self(Arc::new(Seen { pool, epoch, committee, leaders, application, standing })))
    }

    /// Who leads a round.
    pub(crate) fn leader(&self, view: u64) -> Option<NodeId> {
        let leader = self.0.leaders.elect(Round::new(Epoch::new(self.0.epoch), View::new(view)), ());
        self.0.committee.members().get(leader.get() as usize).copied()
    }

    fn ended(&self, view: u64) {
        self.0.standing.send_if_modified(|standing| {
            let is_news = standing.epoch == self.0.epoch && standing.view < view;
            if is_news {
                standing.view = view;
                standing.leader = self.leader(view + 1);
            }
            is_news
        });
    }

    fn contradiction<V>(&self, kind: FaultKind, votes: &V)
    where
        V: Attributable + Epochable + Viewable + commonware_codec::Encode,
    {
        let Some(member) = self.0.committee.members().get(votes.signer().get() as usize) else { return };
        let (epoch, view) = (votes.epoch().get(), votes.view().get());
        let fault = Fault { member: *member, epoch, view, kind, evidence: votes.encode().to_vec() };
        // The engine reports votes before it has verified them.
        if verify_fault(self.0.pool, &self.0.committee, &fault) {
            self.0.application.fault(fault);
        }
    }
}

impl Reporter for Witness {
    type Activity = simplex::types::Activity<Scheme, blake3::Digest>;

    fn report(&mut self, activity: Self::Activity) -> Feedback {
        match activity {
            Activity::Notarization(certificate) => self.ended(certificate.view().get()),
            Activity::Nullification(certificate) => self.ended(certificate.view().get()),
            Activity::Finalization(certificate) => self.ended(certificate.view().get()),
            Activity::ConflictingNotarize(votes) => self.contradiction(FaultKind::ConflictingNotarize, &votes),
            Activity::ConflictingFinalize(votes) => self.contradiction(FaultKind::ConflictingFinalize, &votes),
            Activity::NullifyFinalize(votes) => self.contradiction(FaultKind::NullifyFinalize, &votes),
            Activity::Notarize(_) | Activity::Certification(_) | Activity::Nullify(_) | Activity::Finalize(_) => {}
        }
        Feedback::Ok
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheme::tests::{POOL, committee, keys, proposal, signers};
    use commonware_codec::Encode as _;
    use commonware_consensus::simplex::types::{Finalize, Notarize, Nullify};

    /// One of each kind, of the first of four members.
    fn faults() -> (Committee, Vec<Fault>) {
        let keys = keys(4);
        let (committee, schemes) = (committee(&keys), signers(&keys));
        let scheme = &schemes[0];
        let (one, other) = (proposal(5, 3, [1; 32]), proposal(5, 3, [2; 32]));
        let notarize = |proposal: &_| Notarize::sign(scheme, Clone::clone(proposal)).unwrap();
        let finalize = |proposal: &_| Finalize::sign(scheme, Clone::clone(proposal)).unwrap();
        let nullify = Nullify::sign::<blake3::Digest>(scheme, one.round).unwrap();
        let evidence = [
            (FaultKind::ConflictingNotarize, ConflictingNotarize::new(notarize(&one), notarize(&other)).encode()),
            (FaultKind::ConflictingFinalize, ConflictingFinalize::new(finalize(&one), finalize(&other)).encode()),
            (FaultKind::NullifyFinalize, NullifyFinalize::new(nullify, finalize(&one)).encode()),
        ];
        let fault = |(kind, evidence): (_, bytes::Bytes)| Fault {
            member: keys[0].id(),
            epoch: 5,
            view: 3,
            kind,
            evidence: evidence.to_vec(),
        };
        (committee, evidence.into_iter().map(fault).collect())
    }

    #[test]
    fn evidence_convicts_who_signed_it_and_nobody_else() {
        let (committee, faults) = faults();
        for fault in &faults {
            assert!(verify_fault(POOL, &committee, fault), "{:?}", fault.kind);
            assert!(fault.evidence.len() <= EVIDENCE_BYTES_MAX);
            for other in committee.members().iter().filter(|other| **other != fault.member) {
                assert!(!verify_fault(POOL, &committee, &Fault { member: *other, ..fault.clone() }));
            }
            assert!(!verify_fault(POOL, &committee, &Fault { epoch: 6, ..fault.clone() }));
            assert!(!verify_fault(POOL, &committee, &Fault { view: 4, ..fault.clone() }));
            assert!(!verify_fault(PoolId([8; 32]), &committee, fault), "of another pool");
            let without =
                Committee::new(committee.members().iter().copied().filter(|id| *id != fault.member).collect());
            assert!(!verify_fault(POOL, &without.unwrap(), fault), "of another committee");
        }
        for (fault, other) in faults.iter().zip(faults.iter().cycle().skip(1)) {
            assert!(!verify_fault(POOL, &committee, &Fault { kind: other.kind, ..fault.clone() }));
        }
    }

    #[test]
    fn changed_evidence_convicts_nobody() {
        let (committee, faults) = faults();
        for fault in faults {
            for place in 0..fault.evidence.len() {
                let mut changed = fault.clone();
                changed.evidence[place] ^= 1;
                assert!(!verify_fault(POOL, &committee, &changed), "byte {place}");
                changed.evidence.truncate(place);
                assert!(!verify_fault(POOL, &committee, &changed), "{place} bytes");
            }
            let mut longer = fault.clone();
            longer.evidence.push(0);
            assert!(!verify_fault(POOL, &committee, &longer));
            // Twice the same vote is no contradiction.
            let half = fault.evidence.len() / 2;
            let mut same = fault;
            same.evidence = [&same.evidence[..half], &same.evidence[..half]].concat();
            assert!(!verify_fault(POOL, &committee, &same));
        }
    }

    #[test]
    fn a_witness_reports_what_is_verified_alone() {
        struct Heard(std::sync::Mutex<Vec<Fault>>, Committee);
        impl Application for Heard {
            fn genesis(&self) -> crate::Block {
                unreachable!()
            }
            fn committee(&self, _: u64) -> Option<Committee> {
                Some(self.1.clone())
            }
            fn work(&self, _: &[crate::Block]) -> crate::Work {
                unreachable!()
            }
            fn arrivals(&self) -> Arc<tokio::sync::Notify> {
                unreachable!()
            }
            fn propose(&self, _: &[crate::Block], _: u64, _: u64) -> Option<crate::Block> {
                unreachable!()
            }
            fn verify(&self, _: &crate::Block, _: &[crate::Block], _: u64) -> crate::Verdict {
                unreachable!()
            }
            fn finalised(&self, _: crate::Block) {}
            fn certified(&self, _: protocol::header::Anchor) {}
            fn fault(&self, fault: Fault) {
                self.0.lock().unwrap().push(fault);
            }
        }
        let keys = keys(4);
        let (committee, schemes) = (committee(&keys), signers(&keys));
        let heard = Arc::new(Heard(std::sync::Mutex::default(), committee.clone()));
        let (standing, stands) = watch::channel(Standing { epoch: 5, ..Standing::default() });
        let mut witness = Witness::new(POOL, 5, committee.clone(), heard.clone(), standing).unwrap();
        let vote = |scheme: &Scheme, payload| Notarize::sign(scheme, proposal(5, 3, payload)).unwrap();
        let real = ConflictingNotarize::new(vote(&schemes[2], [1; 32]), vote(&schemes[2], [2; 32]));
        // Signed for another pool: what another member could make up without the accused's key is not verified.
        let set = scheme::participants(&committee).unwrap();
        let strange = Scheme::signer(b"elsewhere", set, scheme::private_key(&keys[1])).unwrap();
        let forged = ConflictingNotarize::new(vote(&strange, [1; 32]), vote(&strange, [2; 32]));
        let _ = witness.report(Activity::ConflictingNotarize(forged));
        let _ = witness.report(Activity::ConflictingNotarize(real));
        let heard = heard.0.lock().unwrap();
        assert_eq!(heard.len(), 1);
        assert_eq!((heard[0].member, heard[0].view), (keys[2].id(), 3));
        assert!(verify_fault(POOL, &committee, &heard[0]));
        assert_eq!(stands.borrow().view, 0, "votes end no round");
    }
}
