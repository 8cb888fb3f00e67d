//! Whether a grant is believed: everything in it that could be a lie is proven, or refused with the reason.
//!
//! An orchestrator names nodes. That they are members who may lend, in a region that the pool's policy allows, with
//! workers that it allows, under permits of machines that agree on what happens in the pool: all that the client finds out
//! itself, from proofs against a root that a quorum of the committee has signed (`trust::light`). What a pool's policy
//! allows and the client's own does not, is refused as well.
//!
//! All candidates are checked when the grant comes. The signature of a worker's evidence is checked when a task is sealed
//! to the worker ([`crate::direct::Caller::start`]); everything else about the evidence here.
//!
//! | lie | refused as |
//! |---|---|
//! | a root that too few have signed, of another pool, too old, of an unknown committee | [`GrantError::Anchor`] |
//! | a wider policy | it is proven; [`GrantError::PolicyProof`] |
//! | a model, or a place, that the policy does not allow | [`GrantError::Model`], [`GrantError::Locality`] |
//! | a forged node, another's proof, an absence shown as a presence | [`CandidateError::Proof`], [`CandidateError::NoMember`] |
//! | a node that was removed, waits for approval, or may only ask | [`CandidateError::Removed`] and so on |
//! | a worker's key that is another's | [`CandidateError::Evidence`], [`CandidateError::OtherEvidence`] |
//! | a worker's program that the pool does not allow | [`CandidateError::Measurement`] |
//! | a price that the node does not ask | [`CandidateError::OtherPermit`] |
//! | a permit of somebody who has no say, or for something else | [`CandidateError::PermitSigner`], [`CandidateError::OtherPermit`] |

use protocol::{
    grant::{Candidate, Locality, Permit, Policy, Tier},
    ids::{ModelDigest, NodeId, PoolId, TaskId},
    limits,
    link::Role,
    market::Price,
    pool::{Label, PoolPolicy},
    witness::{Shown, Witness},
};
use registry::{
    Member,
    keys::{self, RecordError},
};
use trust::{
    evidence::{self, EvidenceError},
    light::{AnchorError, Light, Root},
};

/// What a client insists on beside its [`Policy`]. Orchestrators are not told: what does not satisfy it is passed over.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnPolicy {
    /// The only regions whose nodes may serve; empty: those that the pool allows.
    pub regions: Vec<Label>,
    /// The only models that may be used; `None`: those that the pool allows.
    pub models: Option<Vec<ModelDigest>>,
    /// Only a pool whose policy it is that nobody keeps prompts or answers.
    pub retains_nothing: bool,
    /// Only a pool whose policy lets tasks travel no further than this; `None`: any.
    pub locality_max: Option<Locality>,
    /// The most that a node may ask. Of this orchestrators are told, so that they name others.
    pub price_max: Option<Price>,
}

/// What is asked of a grant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Demands {
    /// The pool.
    pub pool: PoolId,
    /// This machine.
    pub client: NodeId,
    /// Its policy, as orchestrators are told.
    pub policy: Policy,
    /// And as they are not.
    pub own: OwnPolicy,
}

/// Why a grant is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GrantError {
    /// It does not show what the pool has agreed on.
    #[error("{0}")]
    Anchor(#[from] AnchorError),
    /// The pool's policy is not what it shows.
    #[error("the proof of the pool's policy does not hold: {0}")]
    PolicyProof(RecordError),
    /// It shows a pool without a policy.
    #[error("it shows a pool that has no policy")]
    NoPolicy,
    /// It shows more than a grant can need.
    #[error("it shows more than {} measurements", limits::MEASUREMENTS_SHOWN_MAX)]
    TooMuch,
    /// Tasks may not travel that far.
    #[error("tasks may not leave the device: the policy of the pool, or of this client, says so")]
    Locality,
    /// The pool's policy does not allow the model.
    #[error("the pool's policy does not allow the model {}", .0.short())]
    Model(ModelDigest),
    /// This client's own policy does not.
    #[error("this client's own policy does not allow the model {}", .0.short())]
    OwnModel(ModelDigest),
    /// Tasks of the pool may travel further than this client allows.
    #[error("the pool lets tasks travel further than this client's own policy allows")]
    TooWide,
    /// The pool's policy lets prompts or answers be kept, and this client's own does not.
    #[error("this client wants nothing kept, and the pool's policy does not say so: an administrator can set it")]
    Retention,
    /// One of its candidates is not what it should be.
    #[error("node {}: {why}", node.short())]
    Candidate {
        /// Which.
        node: NodeId,
        /// Why.
        why: CandidateError,
    },
}

impl GrantError {
    /// Whether the orchestrator is to blame: an honest one grants no such thing.
    pub fn is_lie(&self) -> bool {
        match self {
            Self::OwnModel(_) | Self::Retention | Self::TooWide => false,
            Self::Candidate { why, .. } => !why.is_own(),
            _ => true,
        }
    }
}

/// Why a candidate is not believed, or passed over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CandidateError {
    /// Nothing is shown of it.
    #[error("nothing shows that it is a member of the pool")]
    NoProof,
    /// What is shown of it does not hold.
    #[error("what shows that it is a member does not hold: {0}")]
    Proof(RecordError),
    /// The proof shows that there is no such member.
    #[error("it is no member of the pool")]
    NoMember,
    /// It was removed.
    #[error("it was removed from the pool")]
    Removed,
    /// It was not let in yet.
    #[error("it waits for an administrator's approval")]
    Pending,
    /// It may ask only.
    #[error("it may not lend its machine")]
    NoLender,
    /// Who matches must not serve: it would read what it matched.
    #[error("it is an orchestrator")]
    Orchestrator,
    /// Elsewhere than the pool's policy allows.
    #[error("it is in {}, and the pool's policy does not allow that", region(.0))]
    Region(Option<Label>),
    /// Elsewhere than this client's own policy allows.
    #[error("it is in {}, and this client's own policy does not allow that", region(.0))]
    OwnRegion(Option<Label>),
    /// Its permit is signed by somebody who has no say in the pool.
    #[error("its permit is by {}, which is no orchestrator of this pool", .0.short())]
    PermitSigner(NodeId),
    /// Its permit is for something else.
    #[error("its permit is for another {0}")]
    OtherPermit(&'static str),
    /// Its worker's evidence does not hold.
    #[error("{0}")]
    Evidence(#[from] EvidenceError),
    /// The pool has agreed on other evidence.
    #[error("its evidence is not what the pool has agreed on")]
    OtherEvidence,
    /// Its worker's program is not allowed, or nothing shows that it is.
    #[error("nothing shows that the pool allows its worker's program")]
    Measurement,
    /// What is shown of its price does not hold.
    #[error("what shows its price does not hold: {0}")]
    AskProof(RecordError),
    /// It has prices, and they are not shown.
    #[error("its price is not shown")]
    NoAsk,
    /// It asks more than this client gives.
    #[error("it asks more than this client's own policy allows")]
    TooDear,
}

impl CandidateError {
    /// Whether only this client's own policy forbids it, of which orchestrators know nothing.
    pub fn is_own(&self) -> bool {
        matches!(self, Self::OwnRegion(_) | Self::TooDear)
    }
}

fn region(region: &Option<Label>) -> &str {
    region.as_ref().map_or("no region that is known", Label::as_str)
}

/// What is proven of a pool at one time.
#[derive(Debug)]
pub struct Proven<'a> {
    root: Root,
    policy: PoolPolicy,
    demands: &'a Demands,
    witness: &'a Witness,
    now_unix_ms: u64,
}

impl Demands {
    /// What a witness proves, to one who knows the committee.
    pub fn open<'a>(
        &'a self,
        witness: &'a Witness,
        light: &mut Light,
        now_unix_ms: u64,
    ) -> Result<Proven<'a>, GrantError> {
        if witness.measurements.len() > limits::MEASUREMENTS_SHOWN_MAX {
            return Err(GrantError::TooMuch);
        }
        // How old a root may be stands in the policy that it proves. It counts only if the root does.
        let root = &witness.anchor.header.state;
        let policy = keys::policy().check(&witness.policy, root).map_err(GrantError::PolicyProof);
        let age_ms_max = match &policy {
            Ok(Some(policy)) => policy.root_age_ms_max,
            _ => limits::ROOT_AGE_MS_MAX,
        };
        let root = light.check_within(&witness.anchor, age_ms_max, now_unix_ms)?;
        let policy = policy?.ok_or(GrantError::NoPolicy)?;
        if self.own.retains_nothing && !policy.retains_nothing {
            return Err(GrantError::Retention);
        }
        if self.own.locality_max.is_some_and(|max| policy.locality_max > max) {
            return Err(GrantError::TooWide);
        }
        if self.policy.locality.min(policy.locality_max) < Locality::Pool {
            return Err(GrantError::Locality);
        }
        Ok(Proven { root, policy, demands: self, witness, now_unix_ms })
    }
}

impl Proven<'_> {
    /// The state that everything is proven from.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// Whether a model may be used.
    pub fn model(&self, model: ModelDigest) -> Result<(), GrantError> {
        let allows = |models: &Option<Vec<ModelDigest>>| models.as_ref().is_none_or(|models| models.contains(&model));
        if !allows(&self.policy.models) {
            return Err(GrantError::Model(model));
        }
        if !allows(&self.demands.own.models) {
            return Err(GrantError::OwnModel(model));
        }
        Ok(())
    }

    /// Whether a candidate is what it should be for `task` with `model`, but for the signature and the time of its
    /// evidence.
    pub fn candidate(&self, candidate: &Candidate, task: TaskId, model: ModelDigest) -> Result<(), CandidateError> {
        let shown = candidate.shown.as_ref().ok_or(CandidateError::NoProof)?;
        let member = self.member(candidate.node, shown)?;
        let permit = self.check_permit(candidate, task, model)?;
        self.check_evidence(candidate, model, &member)?;
        self.check_price(candidate.node, model, shown, &member, permit.price)
    }

    fn member(&self, node: NodeId, shown: &Shown) -> Result<Member, CandidateError> {
        let member = keys::member(node).check(&shown.member, self.root.state()).map_err(CandidateError::Proof)?;
        let member = member.ok_or(CandidateError::NoMember)?;
        if member.removed_unix_ms.is_some() {
            return Err(CandidateError::Removed);
        }
        if member.is_pending {
            return Err(CandidateError::Pending);
        }
        if !member.has_role(Role::Node) {
            return Err(CandidateError::NoLender);
        }
        if self.root.committee().contains(node) {
            return Err(CandidateError::Orchestrator);
        }
        let is_in = |regions: &[Label]| {
            regions.is_empty() || member.region.as_ref().is_some_and(|region| regions.contains(region))
        };
        if !is_in(&self.policy.regions) {
            return Err(CandidateError::Region(member.region));
        }
        if !is_in(&self.demands.own.regions) {
            return Err(CandidateError::OwnRegion(member.region));
        }
        Ok(member)
    }

    /// The node verifies the signature: what is asked here is whether it can hold.
    fn check_permit(&self, candidate: &Candidate, task: TaskId, model: ModelDigest) -> Result<Permit, CandidateError> {
        let signer = candidate.permit.signer;
        if !self.root.committee().contains(signer) {
            return Err(CandidateError::PermitSigner(signer));
        }
        let permit = candidate.permit.decode_unverified().map_err(|_| CandidateError::OtherPermit("form"))?;
        for (what, holds) in [
            ("pool", permit.pool == self.demands.pool),
            ("task", permit.task == task),
            ("client", permit.client == self.demands.client),
            ("node", permit.node == candidate.node),
            ("model", permit.model == model),
        ] {
            if !holds {
                return Err(CandidateError::OtherPermit(what));
            }
        }
        Ok(permit)
    }

    fn check_evidence(&self, candidate: &Candidate, model: ModelDigest, member: &Member) -> Result<(), CandidateError> {
        let signed = &candidate.evidence;
        let evidence =
            signed.decode_unverified().map_err(|_| EvidenceError::Signature(trust::SignatureError::Malformed))?;
        if signed.signer != candidate.node || evidence.node != candidate.node {
            return Err(EvidenceError::OtherNode.into());
        }
        if evidence.model != model {
            return Err(EvidenceError::OtherModel.into());
        }
        let agreed = member.evidence.filter(|agreed| agreed.until_unix_ms > self.now_unix_ms);
        if agreed.is_some_and(|agreed| agreed.digest != evidence::digest(signed)) {
            return Err(CandidateError::OtherEvidence);
        }
        // Beyond its own word, a node's tier is what the pool agreed on.
        let tier = evidence.tier.min(agreed.map_or(Tier::SelfSigned, |agreed| agreed.tier));
        if tier < self.policy.tier_min.max(self.demands.policy.tier_min) {
            return Err(EvidenceError::BelowTier.into());
        }
        if self.policy.measured_only && !self.is_allowed(&evidence.measurement) {
            return Err(CandidateError::Measurement);
        }
        Ok(())
    }

    fn is_allowed(&self, measurement: &[u8; 32]) -> bool {
        let mut shown = self.witness.measurements.iter().filter(|(of, _)| of == measurement);
        shown.any(|(_, proof)| matches!(keys::measurement(measurement).check(proof, self.root.state()), Ok(Some(_))))
    }

    fn check_price(
        &self,
        node: NodeId,
        model: ModelDigest,
        shown: &Shown,
        member: &Member,
        permitted: Option<Price>,
    ) -> Result<(), CandidateError> {
        let ask = if member.priced_models == 0 {
            None
        } else {
            let proof = shown.ask.as_ref().ok_or(CandidateError::NoAsk)?;
            keys::ask(node, model).check(proof, self.root.state()).map_err(CandidateError::AskProof)?
        };
        // Less than the node asks is the node's matter, and right between machines of one account.
        if permitted.is_some_and(|price| ask.is_none_or(|ask| !price.is_within(ask))) {
            return Err(CandidateError::OtherPermit("price"));
        }
        let is_within = |max: Price| permitted.is_none_or(|price| price.is_within(max));
        if self.demands.own.price_max.is_some_and(|max| !is_within(max)) {
            return Err(CandidateError::TooDear);
        }
        Ok(())
    }
}
