use super::*;
use crate::{live::Reachable, vetting::Checked};
use protocol::{
    grant::{Expected, Tier, WorkerEvidence},
    header::{Committee, Header},
    ids::AccountId,
    market::Price,
    pool::Label,
};
use registry::{AgreedEvidence, Authenticated, BlockContext, Bundle, Fact, Registry};
use trust::{MachineKey, Strict, light::certify};

const NOW: u64 = 1_000_000_000_000;
const MODEL: ModelDigest = ModelDigest([5; 32]);

/// An orchestrator that agrees with itself, and a node.
struct World {
    key: MachineKey,
    node: MachineKey,
    registry: Registry,
    sequence: u64,
}

impl World {
    fn new() -> Self {
        let (key, node) = (MachineKey::generate(), MachineKey::generate());
        let mut registry = Registry::default();
        registry.apply(Fact::Genesis(Genesis::new(vec![key.id()], &[7; 32], 1))).unwrap();
        let mut world = Self { key, node, registry, sequence: 0 };
        world.agree(Fact::MemberAdmitted { node: world.node.id(), role: Role::Node, at_unix_ms: 1 });
        world
    }

    fn says(&mut self, key: &MachineKey, fact: Fact) {
        self.sequence += 1;
        self.registry.begin(&BlockContext { height: self.sequence, epoch: 0, unix_ms: NOW }).unwrap();
        let bundle = Bundle {
            pool: self.registry.pool().unwrap(),
            author: AccountId::from(key.id()),
            sequence: self.sequence,
            not_after_unix_ms: NOW,
            facts: vec![fact],
        };
        self.registry.commit(&Authenticated::open(&key.sign(&bundle), &Strict).unwrap(), &Strict).unwrap();
    }

    fn agree(&mut self, fact: Fact) {
        let key = self.key.clone();
        self.says(&key, fact);
    }

    fn policy(&mut self, change: impl FnOnce(&mut PoolPolicy)) {
        let mut policy = PoolPolicy::default();
        change(&mut policy);
        self.agree(Fact::PolicySet(policy));
    }

    fn anchor(&self) -> Arc<Anchor> {
        let committee = Committee::new(vec![self.key.id()]).unwrap();
        let header = Header {
            pool: self.registry.pool().unwrap(),
            epoch: 0,
            height: self.sequence,
            parent: [0; 32],
            unix_ms: NOW,
            state: self.registry.root(),
            body: [0; 32],
            committee: committee.digest(),
            next_committee: committee.digest(),
        };
        Arc::new(certify(&header, &committee, [&self.key]))
    }

    fn anchored(&self) -> Anchored {
        Anchored::new(self.anchor(), self.registry.state().clone()).unwrap()
    }

    fn named(&self, key: &MachineKey) -> Named {
        let evidence = key.sign(&WorkerEvidence {
            node: key.id(),
            model: MODEL,
            measurement: [3; 32],
            keys: Vec::new(),
            tier: Tier::SelfSigned,
            issued_unix_ms: NOW,
            expires_unix_ms: NOW + 1,
        });
        let evidence = Arc::new(Checked::believed(evidence));
        let reachable = Reachable { node: key.id(), addresses: Vec::new(), evidence };
        Named { reachable, expected: Expected::default(), batch: 1 }
    }

    /// Why the node is not shown.
    fn hold(&self) -> Option<String> {
        let shown = self.anchored().shown(&self.named(&self.node), MODEL, NOW);
        shown.err().map(|hold| hold.to_string())
    }
}

#[tokio::test]
async fn whoever_comes_before_the_first_block_waits_for_it() {
    let (world, anchors) = (World::new(), Arc::new(Anchors::default()));
    assert!(anchors.current().is_none());
    let waiting = {
        let anchors = Arc::clone(&anchors);
        tokio::spawn(async move { anchors.first().await })
    };
    let other = World::new();
    anchors.set(world.anchor(), other.registry.state().clone());
    assert!(anchors.current().is_none(), "a block beside another state proves nothing");
    anchors.set(world.anchor(), world.registry.state().clone());
    assert_eq!(waiting.await.unwrap(), Ok(()));
    assert_eq!(anchors.current().unwrap().anchor, world.anchor());
}

#[test]
fn what_is_shown_proves_itself() {
    let mut world = World::new();
    let (node, price) = (world.node.id(), Price { prompt_micro: 1, output_micro: 2 });
    let anchored = world.anchored();
    let shown = anchored.shown(&world.named(&world.node), MODEL, NOW).unwrap();
    let root = world.registry.root();
    assert!(keys::member(node).check(&shown.member, &root).unwrap().is_some_and(|member| member.lends));
    assert_eq!(shown.ask, None);
    assert_eq!(anchored.shown(&world.named(&world.node), MODEL, NOW), Ok(shown), "and again");
    let witness = anchored.witness(&[[3; 32]]);
    assert_eq!(keys::policy().check(&witness.policy, &root), Ok(Some(PoolPolicy::default())));
    assert!(witness.measurements.is_empty(), "the policy does not ask");

    let key = world.node.clone();
    world.says(&key, Fact::AskSet { node, model: MODEL, price: Some(price) });
    world.agree(Fact::MeasurementAllowed { measurement: [3; 32] });
    world.policy(|policy| policy.measured_only = true);
    let (anchored, root) = (world.anchored(), world.registry.root());
    let shown = anchored.shown(&world.named(&world.node), MODEL, NOW).unwrap();
    assert_eq!(keys::ask(node, MODEL).check(&shown.ask.unwrap(), &root), Ok(Some(price)));
    let measurements = anchored.witness(&[[3; 32], [3; 32]]).measurements;
    let [(measurement, proof)] = &measurements[..] else { panic!("each once") };
    assert!(keys::measurement(measurement).check(proof, &root).unwrap().is_some());
}

#[test]
fn nothing_is_granted_that_clients_would_refuse() {
    let hold = |change: &dyn Fn(&mut World)| {
        let mut world = World::new();
        change(&mut world);
        world.hold().unwrap_or_default()
    };
    assert_eq!(hold(&|_| {}), "");
    assert!(hold(&|world| world.node = MachineKey::generate()).contains("not final yet"));
    let removed = hold(&|world| world.agree(Fact::MemberRemoved { node: world.node.id(), at_unix_ms: 2 }));
    assert!(removed.contains("no member of the pool that lends"), "{removed}");
    let north = || Label::new("north").unwrap();
    assert!(hold(&|world| world.policy(|policy| policy.regions = vec![north()])).contains("region"));
    assert!(hold(&|world| world.policy(|policy| policy.models = Some(Vec::new()))).contains("model"));
    assert!(hold(&|world| world.policy(|policy| policy.measured_only = true)).contains("program"));
    let agreed = |until_unix_ms| AgreedEvidence { tier: Tier::SelfSigned, digest: [1; 32], until_unix_ms };
    let other = |world: &mut World, until_unix_ms| {
        world.agree(Fact::EvidenceAgreed { node: world.node.id(), evidence: agreed(until_unix_ms) });
    };
    assert!(hold(&|world| other(world, NOW + 1)).contains("agreed on"));
    assert_eq!(hold(&|world| other(world, NOW)), "", "it has run out");
}
