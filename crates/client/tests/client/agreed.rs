//! A pool whose whole committee stands here: it agrees on what it is told, and shows it.

use protocol::{
    grant::{Candidate, Expected, Permit, Tier, WorkerEvidence},
    header::{Anchor, Committee, Header},
    ids::{ModelDigest, NodeId, PoolId, TaskId},
    limits,
    link::Role,
    sealing::{Suite, WorkerKey},
    witness::{Shown, Witness},
};
use registry::{Authenticated, BlockContext, Bundle, Fact, Genesis, Registry, keys};
use trust::{
    MachineKey, Strict,
    light::{Light, certify},
};

/// A committee and what it has agreed on.
#[derive(Clone)]
pub(crate) struct Agreed {
    /// Who agrees; the first owns the pool.
    pub(crate) keys: Vec<MachineKey>,
    pub(crate) genesis: Genesis,
    pub(crate) registry: Registry,
    pub(crate) unix_ms: u64,
    height: u64,
    sequence: u64,
}

impl Agreed {
    /// A committee of so many, at this time.
    pub(crate) fn of(members: usize, unix_ms: u64) -> Self {
        let keys: Vec<MachineKey> = (0..members).map(|_| MachineKey::generate()).collect();
        let genesis = Genesis::new(keys.iter().map(MachineKey::id).collect(), &[7; 32], 1);
        let mut registry = Registry::default();
        registry.apply(Fact::Genesis(genesis.clone())).unwrap();
        Self { keys, genesis, registry, unix_ms, height: 0, sequence: 0 }
    }

    pub(crate) fn pool(&self) -> PoolId {
        self.registry.pool().unwrap()
    }

    pub(crate) fn committee(&self) -> Committee {
        self.genesis.committee().unwrap()
    }

    pub(crate) fn light(&self) -> Light {
        Light::new(self.pool(), &self.genesis).unwrap()
    }

    /// Agrees on what somebody says.
    pub(crate) fn says(&mut self, key: &MachineKey, facts: Vec<Fact>) {
        self.height += 1;
        self.sequence += 1;
        self.registry.begin(&BlockContext { height: self.height, epoch: 0, unix_ms: self.unix_ms }).unwrap();
        let (author, not_after_unix_ms) = (key.id().into(), self.unix_ms + 1_000);
        let bundle = Bundle { pool: self.pool(), author, sequence: self.sequence, not_after_unix_ms, facts };
        let signed = Authenticated::open(&key.sign(&bundle), &Strict).unwrap();
        self.registry.commit(&signed, &Strict).unwrap();
    }

    /// Agrees on what the owner says, who is an orchestrator too.
    pub(crate) fn agree(&mut self, fact: Fact) {
        let owner = self.keys[0].clone();
        self.says(&owner, vec![fact]);
    }

    /// Lets a machine in that lends itself, unless it was let in before.
    pub(crate) fn admit(&mut self, node: NodeId) {
        if self.registry.member(node).is_none() {
            self.agree(Fact::MemberAdmitted { node, role: Role::Node, at_unix_ms: self.unix_ms });
        }
    }

    pub(crate) fn header(&self) -> Header {
        let committee = self.committee().digest();
        Header {
            pool: self.pool(),
            epoch: self.height / u64::from(self.genesis.epoch_blocks),
            height: self.height,
            parent: [1; 32],
            unix_ms: self.unix_ms,
            state: self.registry.root(),
            body: [2; 32],
            committee,
            next_committee: committee,
        }
    }

    /// Signed by all.
    pub(crate) fn anchor(&self) -> Anchor {
        certify(&self.header(), &self.committee(), &self.keys)
    }

    pub(crate) fn witness(&self) -> Witness {
        Witness { anchor: self.anchor(), policy: self.registry.prove(&keys::policy()), measurements: Vec::new() }
    }

    pub(crate) fn shown(&self, node: NodeId, model: ModelDigest) -> Shown {
        let has_prices = self.registry.member(node).is_some_and(|member| member.priced_models > 0);
        let ask = has_prices.then(|| self.registry.prove(&keys::ask(node, model)));
        Shown { member: self.registry.prove(&keys::member(node)), ask }
    }

    /// A candidate that nothing is wrong with, granted by the first of the committee.
    pub(crate) fn candidate(&self, node: &MachineKey, client: NodeId, task: TaskId, model: ModelDigest) -> Candidate {
        let expires_unix_ms = self.unix_ms + limits::PERMIT_LIFETIME_MS;
        let price = self.registry.ask(node.id(), model);
        let permit = Permit { pool: self.pool(), task, client, node: node.id(), model, expires_unix_ms, price };
        Candidate {
            node: node.id(),
            addresses: vec!["127.0.0.1:4000".parse().unwrap()],
            evidence: node.sign(&evidence(node.id(), model, self.unix_ms)),
            permit: self.keys[0].sign(&permit),
            expected: Expected::default(),
            shown: Some(self.shown(node.id(), model)),
        }
    }
}

pub(crate) fn evidence(node: NodeId, model: ModelDigest, unix_ms: u64) -> WorkerEvidence {
    WorkerEvidence {
        node,
        model,
        measurement: [0; 32],
        keys: Suite::PREFERENCE.map(|suite| WorkerKey::generate(suite).public().clone()).to_vec(),
        tier: Tier::SelfSigned,
        issued_unix_ms: unix_ms,
        expires_unix_ms: unix_ms + limits::EVIDENCE_LIFETIME_MS,
    }
}
