//! Every lie about a grant has its name, and nothing that is true is refused.

use crate::agreed::{Agreed, evidence};
use client::verify::{CandidateError, Demands, GrantError, OwnPolicy};
use protocol::{
    grant::{Candidate, Locality, Permit, Policy, Tier},
    header::{Committee, Header},
    ids::{ModelDigest, NodeId, PoolId, TaskId},
    limits,
    link::Role,
    market::Price,
    pool::{Label, PoolPolicy},
    proof::{End, Proof, ProofError},
    witness::Witness,
};
use registry::{AgreedEvidence, Fact, keys};
use trust::{
    MachineKey,
    evidence::EvidenceError,
    light::{AnchorError, certify},
};

const NOW: u64 = 1_000_000_000_000;
const MODEL: ModelDigest = ModelDigest([5; 32]);
const TASK: TaskId = TaskId([6; 16]);

/// A pool of four orchestrators and two nodes, and what one of them would be granted as.
#[derive(Clone)]
struct World {
    agreed: Agreed,
    node: MachineKey,
    other: MachineKey,
    demands: Demands,
}

impl World {
    fn new() -> Self {
        let mut agreed = Agreed::of(4, NOW);
        let (node, other) = (MachineKey::generate(), MachineKey::generate());
        agreed.admit(node.id());
        agreed.admit(other.id());
        let client = MachineKey::generate().id();
        let demands = Demands { pool: agreed.pool(), client, policy: Policy::default(), own: OwnPolicy::default() };
        Self { agreed, node, other, demands }
    }

    fn with_policy(change: impl FnOnce(&mut PoolPolicy)) -> Self {
        let mut world = Self::new();
        let mut policy = PoolPolicy::default();
        change(&mut policy);
        world.agreed.agree(Fact::PolicySet(policy));
        world
    }

    fn candidate(&self) -> Candidate {
        self.agreed.candidate(&self.node, self.demands.client, TASK, MODEL)
    }

    fn check(&self, witness: &Witness, candidate: &Candidate) -> Result<(), GrantError> {
        let mut light = self.agreed.light();
        let proven = self.demands.open(witness, &mut light, NOW)?;
        proven.model(MODEL)?;
        let node = candidate.node;
        proven.candidate(candidate, TASK, MODEL).map_err(|why| GrantError::Candidate { node, why })
    }

    /// What is wrong with an honest grant.
    fn honest(&self) -> Option<GrantError> {
        self.check(&self.agreed.witness(), &self.candidate()).err()
    }

    /// What is wrong with the candidate after a change.
    fn of_candidate(&self, change: impl FnOnce(&mut Candidate)) -> Option<CandidateError> {
        let mut candidate = self.candidate();
        change(&mut candidate);
        match self.check(&self.agreed.witness(), &candidate) {
            Err(GrantError::Candidate { why, .. }) => Some(why),
            other => panic!("{other:?}"),
        }
    }
}

fn label(text: &str) -> Label {
    Label::new(text).unwrap()
}

#[test]
fn what_is_true_is_believed() {
    assert_eq!(World::new().honest(), None);
}

#[test]
fn a_forged_node_is_refused() {
    let world = World::new();
    let forged = MachineKey::generate();
    let candidate = world.agreed.candidate(&forged, world.demands.client, TASK, MODEL);
    let why = |candidate: &Candidate| match world.check(&world.agreed.witness(), candidate) {
        Err(error @ GrantError::Candidate { .. }) => {
            assert!(error.is_lie() && error.to_string().contains(&forged.id().short()), "{error}");
            let GrantError::Candidate { why, .. } = error else { unreachable!() };
            why
        }
        other => panic!("{other:?}"),
    };
    // The proof is true, and proves that there is no such member.
    assert_eq!(why(&candidate), CandidateError::NoMember);
    assert_eq!(why(&Candidate { shown: None, ..candidate.clone() }), CandidateError::NoProof);
    // Another's record.
    let borrowed = Candidate { shown: world.candidate().shown, ..candidate.clone() };
    assert_eq!(why(&borrowed), CandidateError::Proof(ProofError::Root.into()));
    // An absence shown as a presence: a record of its own where nothing stands.
    let record = world.candidate().shown.unwrap().member.end;
    let mut shown = candidate.shown.clone().unwrap();
    shown.member = Proof { end: record, ..shown.member };
    let invented = Candidate { shown: Some(shown), ..candidate };
    assert_eq!(why(&invented), CandidateError::Proof(ProofError::Root.into()));
}

#[test]
fn what_the_pool_says_against_a_node_holds() {
    let why = |change: &dyn Fn(&mut World)| {
        let mut world = World::new();
        change(&mut world);
        world.of_candidate(|_| {})
    };
    let removed = |world: &mut World| {
        let node = world.node.id();
        world.agreed.agree(Fact::MemberRemoved { node, at_unix_ms: NOW });
    };
    assert_eq!(why(&removed), Some(CandidateError::Removed));
    let asks_only = |world: &mut World| {
        world.node = MachineKey::generate();
        let node = world.node.id();
        world.agreed.agree(Fact::MemberAdmitted { node, role: Role::Client, at_unix_ms: NOW });
    };
    assert_eq!(why(&asks_only), Some(CandidateError::NoLender));
    let pending = |world: &mut World| {
        world.agreed.agree(Fact::PolicySet(PoolPolicy { needs_approval: true, ..PoolPolicy::default() }));
        world.node = MachineKey::generate();
        world.agreed.admit(world.node.id());
    };
    assert_eq!(why(&pending), Some(CandidateError::Pending));
    let orchestrator = |world: &mut World| {
        world.node = world.agreed.keys[1].clone();
        world.agreed.admit(world.node.id());
    };
    assert_eq!(why(&orchestrator), Some(CandidateError::Orchestrator));
}

#[test]
fn a_removed_node_is_not_shown_from_an_old_root() {
    let mut world = World::new();
    let mut old = world.clone();
    let node = world.node.id();
    world.agreed.unix_ms += limits::ROOT_BEHIND_MS_MAX + 1;
    world.agreed.agree(Fact::MemberRemoved { node, at_unix_ms: world.agreed.unix_ms });
    let mut light = world.agreed.light();
    let now = world.agreed.unix_ms;
    assert!(world.demands.open(&world.agreed.witness(), &mut light, now).is_ok());
    let behind_ms = limits::ROOT_BEHIND_MS_MAX + 1;
    let error = world.demands.open(&old.agreed.witness(), &mut light, now).err();
    assert_eq!(error, Some(AnchorError::OlderThanSeen { behind_ms }.into()));
    // Nor is it to one who has seen nothing, if it is old.
    old.agreed.unix_ms = NOW - limits::ROOT_AGE_MS_MAX - limits::CLOCK_SKEW_MS_MAX - 1;
    let age_ms = limits::ROOT_AGE_MS_MAX + limits::CLOCK_SKEW_MS_MAX + 1;
    assert_eq!(old.honest(), Some(AnchorError::Stale { age_ms }.into()));
    // The pool's owner decides how old is old.
    let mut patient = World::with_policy(|policy| policy.root_age_ms_max = 60 * 60 * 1000);
    patient.agreed.unix_ms = old.agreed.unix_ms;
    assert_eq!(patient.honest(), None);
}

#[test]
fn an_anchor_is_the_pools_and_a_quorums() {
    let world = World::new();
    let (committee, keys) = (world.agreed.committee(), &world.agreed.keys);
    let with = |anchor| Witness { anchor, ..world.agreed.witness() };
    let error = |witness: Witness| world.check(&witness, &world.candidate()).err();
    let f_plus_one = with(certify(&world.agreed.header(), &committee, &keys[..2]));
    assert_eq!(error(f_plus_one), Some(AnchorError::TooFewSignatures { valid: 2, needed: 3 }.into()));
    let other_pool = Header { pool: PoolId([1; 32]), ..world.agreed.header() };
    assert_eq!(error(with(certify(&other_pool, &committee, keys))), Some(AnchorError::OtherPool.into()));
    // The liar alone, as a committee of its own making.
    let own = Committee::new(vec![keys[0].id()]).unwrap();
    let usurped = Header { committee: own.digest(), ..world.agreed.header() };
    let unknown = AnchorError::UnknownCommittee { epoch: 0 };
    assert_eq!(error(with(certify(&usurped, &own, [&keys[0]]))), Some(unknown.into()));
    // A state of its own making, under an honest certificate.
    let mut forged = world.clone();
    forged.agreed.admit(MachineKey::generate().id());
    let honest = world.agreed.anchor();
    let mut anchor = forged.agreed.anchor();
    anchor.certificate = honest.certificate;
    let none = AnchorError::TooFewSignatures { valid: 0, needed: 3 };
    assert_eq!(error(Witness { anchor, ..forged.agreed.witness() }), Some(none.into()));
}

#[test]
fn a_policy_is_not_widened() {
    let narrow = World::with_policy(|policy| policy.regions = vec![label("north")]);
    assert_eq!(narrow.of_candidate(|_| {}), Some(CandidateError::Region(None)));
    // The policy of before is true, but not of this root.
    let wide = World::new().agreed.witness().policy;
    let witness = Witness { policy: wide, ..narrow.agreed.witness() };
    let error = narrow.check(&witness, &narrow.candidate()).err();
    assert_eq!(error, Some(GrantError::PolicyProof(ProofError::Root.into())));
    let invented = Proof { end: End::Nothing, ..narrow.agreed.witness().policy };
    let witness = Witness { policy: invented, ..narrow.agreed.witness() };
    assert!(matches!(narrow.check(&witness, &narrow.candidate()), Err(GrantError::PolicyProof(_))));

    let models = World::with_policy(|policy| policy.models = Some(vec![ModelDigest([9; 32])]));
    assert_eq!(models.honest(), Some(GrantError::Model(MODEL)));
    let device = World::with_policy(|policy| policy.locality_max = Locality::Device);
    assert_eq!(device.honest(), Some(GrantError::Locality));
}

#[test]
fn regions_are_what_the_pool_says_of_a_machine() {
    let mut world = World::with_policy(|policy| policy.regions = vec![label("north"), label("west")]);
    let labelled = |world: &mut World, region| {
        let node = world.node.id();
        world.agreed.agree(Fact::Labelled { node, region: Some(label(region)), labels: Vec::new() });
    };
    labelled(&mut world, "south");
    assert_eq!(world.of_candidate(|_| {}), Some(CandidateError::Region(Some(label("south")))));
    labelled(&mut world, "west");
    assert_eq!(world.honest(), None);
    world.demands.own.regions = vec![label("north")];
    let why = world.of_candidate(|_| {}).unwrap();
    assert_eq!(why, CandidateError::OwnRegion(Some(label("west"))));
    assert!(why.is_own() && !world.honest().unwrap().is_lie(), "the orchestrator was not told");
}

#[test]
fn a_clients_own_policy_narrows_the_pools() {
    let with = |own: OwnPolicy| {
        let mut world = World::new();
        world.demands.own = own;
        let error = world.honest();
        assert!(error.as_ref().is_none_or(|error| !error.is_lie()), "{error:?}");
        error
    };
    let other = Some(vec![ModelDigest([9; 32])]);
    assert_eq!(with(OwnPolicy { models: other, ..OwnPolicy::default() }), Some(GrantError::OwnModel(MODEL)));
    assert_eq!(with(OwnPolicy { models: Some(vec![MODEL]), ..OwnPolicy::default() }), None);
    assert_eq!(with(OwnPolicy { retains_nothing: true, ..OwnPolicy::default() }), Some(GrantError::Retention));
    let pool_at_most = |max| OwnPolicy { locality_max: Some(max), ..OwnPolicy::default() };
    assert_eq!(with(pool_at_most(Locality::Pool)), None);
    assert_eq!(with(pool_at_most(Locality::Device)), Some(GrantError::TooWide));
    let mut wide = World::with_policy(|policy| policy.locality_max = Locality::Network);
    wide.demands.own = pool_at_most(Locality::Pool);
    assert_eq!(wide.honest(), Some(GrantError::TooWide));
    let mut keeps_nothing = World::with_policy(|policy| policy.retains_nothing = true);
    keeps_nothing.demands.own.retains_nothing = true;
    assert_eq!(keeps_nothing.honest(), None);
    let mut at_home = World::new();
    at_home.demands.policy.locality = Locality::Device;
    assert_eq!(at_home.honest(), Some(GrantError::Locality));
}

#[test]
fn prices_are_proven_where_a_node_has_any() {
    let mut world = World::new();
    let (node, key) = (world.node.id(), world.node.clone());
    let price = Price { prompt_micro: 10, output_micro: 20 };
    world.agreed.says(&key, vec![Fact::AskSet { node, model: MODEL, price: Some(price) }]);
    assert_eq!(world.honest(), None, "whoever has no bound pays what is asked");
    let free = |candidate: &mut Candidate| candidate.shown.as_mut().unwrap().ask = None;
    assert_eq!(world.of_candidate(free), Some(CandidateError::NoAsk));
    let other = |candidate: &mut Candidate| {
        let cheap = Some(Proof { siblings: Vec::new(), end: End::Nothing });
        candidate.shown.as_mut().unwrap().ask = cheap;
    };
    assert_eq!(world.of_candidate(other), Some(CandidateError::AskProof(ProofError::Root.into())));
    world.demands.own.price_max = Some(Price { output_micro: 19, ..price });
    assert_eq!(world.of_candidate(|_| {}), Some(CandidateError::TooDear));
    world.demands.own.price_max = Some(price);
    assert_eq!(world.honest(), None);
}

#[test]
fn a_worker_is_the_nodes_own_and_the_one_that_was_agreed_on() {
    let mut world = World::new();
    let (node, other) = (world.node.clone(), world.other.clone());
    let signed = |by: &MachineKey, of: NodeId, model| by.sign(&evidence(of, model, NOW));
    let of_other = signed(&other, other.id(), MODEL);
    let why = world.of_candidate(|candidate| candidate.evidence = of_other);
    assert_eq!(why, Some(CandidateError::Evidence(EvidenceError::OtherNode)));
    let in_anothers_name = signed(&other, node.id(), MODEL);
    let why = world.of_candidate(|candidate| candidate.evidence = in_anothers_name);
    assert_eq!(why, Some(CandidateError::Evidence(EvidenceError::OtherNode)));
    let of_other_model = signed(&node, node.id(), ModelDigest([9; 32]));
    let why = world.of_candidate(|candidate| candidate.evidence = of_other_model);
    assert_eq!(why, Some(CandidateError::Evidence(EvidenceError::OtherModel)));

    // Once one is agreed on, no other will do, though the node has signed it.
    let agreed = signed(&node, node.id(), MODEL);
    let digest = trust::evidence::digest(&agreed);
    let until_unix_ms = NOW + 1;
    let record = AgreedEvidence { tier: Tier::SelfSigned, digest, until_unix_ms };
    world.agreed.agree(Fact::EvidenceAgreed { node: node.id(), evidence: record });
    assert_eq!(world.of_candidate(|_| {}), Some(CandidateError::OtherEvidence));
    let mut candidate = world.candidate();
    candidate.evidence = agreed;
    assert_eq!(world.check(&world.agreed.witness(), &candidate), Ok(()));
    // What was agreed on runs out.
    let record = AgreedEvidence { until_unix_ms: NOW, ..record };
    world.agreed.agree(Fact::EvidenceAgreed { node: node.id(), evidence: record });
    assert_eq!(world.honest(), None);
}

#[test]
fn a_workers_program_is_one_that_the_pool_allows() {
    let mut world = World::with_policy(|policy| policy.measured_only = true);
    assert_eq!(world.of_candidate(|_| {}), Some(CandidateError::Measurement));
    let witness = |world: &World, measurement: [u8; 32]| {
        let proof = world.agreed.registry.prove(&keys::measurement(&measurement));
        Witness { measurements: vec![(measurement, proof)], ..world.agreed.witness() }
    };
    let error = |world: &World, witness: &Witness| match world.check(witness, &world.candidate()) {
        Err(GrantError::Candidate { why, .. }) => Some(why),
        Ok(()) => None,
        other => panic!("{other:?}"),
    };
    // A true proof that it is not.
    assert_eq!(error(&world, &witness(&world, [0; 32])), Some(CandidateError::Measurement));
    world.agreed.agree(Fact::MeasurementAllowed { measurement: [1; 32] });
    assert_eq!(error(&world, &witness(&world, [1; 32])), Some(CandidateError::Measurement));
    // That of another program in its place.
    let mut swapped = witness(&world, [1; 32]);
    swapped.measurements[0].0 = [0; 32];
    assert_eq!(error(&world, &swapped), Some(CandidateError::Measurement));
    world.agreed.agree(Fact::MeasurementAllowed { measurement: [0; 32] });
    assert_eq!(error(&world, &witness(&world, [0; 32])), None);
    let mut too_much = witness(&world, [0; 32]);
    too_much.measurements = vec![too_much.measurements[0].clone(); limits::MEASUREMENTS_SHOWN_MAX + 1];
    assert_eq!(world.check(&too_much, &world.candidate()), Err(GrantError::TooMuch));
}

#[test]
fn a_permit_is_an_orchestrators_for_this_task() {
    let world = World::new();
    let stranger = MachineKey::generate();
    let honest = world.candidate().permit.decode_unverified().unwrap();
    let why = |key: &MachineKey, permit: Permit| world.of_candidate(|candidate| candidate.permit = key.sign(&permit));
    assert_eq!(why(&stranger, honest.clone()), Some(CandidateError::PermitSigner(stranger.id())));
    let own = &world.agreed.keys[2];
    let other = |permit| why(own, permit);
    let id = world.other.id();
    assert_eq!(other(Permit { pool: PoolId([0; 32]), ..honest.clone() }), Some(CandidateError::OtherPermit("pool")));
    assert_eq!(other(Permit { task: TaskId([0; 16]), ..honest.clone() }), Some(CandidateError::OtherPermit("task")));
    assert_eq!(other(Permit { client: id, ..honest.clone() }), Some(CandidateError::OtherPermit("client")));
    assert_eq!(other(Permit { node: id, ..honest.clone() }), Some(CandidateError::OtherPermit("node")));
    let price = Some(Price { prompt_micro: 0, output_micro: 1 });
    assert_eq!(other(Permit { price, ..honest.clone() }), Some(CandidateError::OtherPermit("price")));
    assert_eq!(other(Permit { model: ModelDigest([0; 32]), ..honest }), Some(CandidateError::OtherPermit("model")));
    // Any member of the committee may give one.
    let mut candidate = world.candidate();
    candidate.permit = own.sign(&candidate.permit.decode_unverified().unwrap());
    assert_eq!(world.check(&world.agreed.witness(), &candidate), Ok(()));
}
