//! Operations, honest and hostile, thought up from a seed. Ids are few, so that operations meet.

use crate::world::*;
use protocol::{
    grant::Tier,
    ids::{AccountId, ModelDigest, NodeId, TaskId},
    link::Role,
    market::{AccountLink, Ack, Claim, Close, Countersigned, Order, Price, Receipt},
    pool::{Invite, Label, PoolPolicy, Redemption, Standing},
    signed::{Signable, Signed},
};
use registry::{AgreedEvidence, Authenticated, BlockContext, Bundle, Event, Fact, Registry};
use std::collections::VecDeque;
use trust::observations::Observations;

/// PCG's generator, without its output function: the same numbers on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }

    fn in_100(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// Somebody's next operation.
pub(crate) enum Operation {
    Block(BlockContext),
    Bundle(Signed<Bundle>),
}

/// Whoever thinks operations up. Knows the pool's time, not its state.
pub(crate) struct Crowd {
    random: Random,
    height: u64,
    now: u64,
    sequence: u64,
    /// Who comes in the place of a machine that was removed.
    generations: [u8; 12],
    orders: VecDeque<Signed<Order>>,
    said: VecDeque<Signed<Bundle>>,
}

impl Crowd {
    pub(crate) fn new(seed: u64) -> Self {
        let (orders, said) = (VecDeque::new(), VecDeque::new());
        Self { random: Random(seed), height: 1, now: START_MS, sequence: 0, generations: [0; 12], orders, said }
    }

    fn machine(&mut self) -> NodeId {
        let at = self.random.below(12) as u8;
        let mut id = [10 + at; 32];
        id[31] = self.generations[usize::from(at)];
        NodeId(id)
    }

    fn account(&mut self) -> AccountId {
        match self.random.below(4) {
            0 => OWNER,
            1 => AccountId([50 + self.random.below(3) as u8; 32]),
            _ => self.machine().into(),
        }
    }

    fn task(&mut self) -> TaskId {
        TaskId([self.random.below(24) as u8; 16])
    }

    fn price(&mut self, scale: u64) -> Price {
        let mut part = || match self.random.below(50) {
            0 => u64::MAX,
            1 => protocol::market::PRICE_MICRO_MAX,
            small => small * scale,
        };
        Price { prompt_micro: part(), output_micro: part() }
    }

    fn tokens(&mut self) -> u32 {
        if self.random.in_100(2) { u32::MAX } else { self.random.below(400) as u32 }
    }

    /// Signed by whoever should, or now and then by somebody else.
    fn sign<T: Signable>(&mut self, signer: NodeId, value: &T) -> Signed<T> {
        let mut by = signed(signer, value);
        if self.random.in_100(3) {
            by.signature.0[0] ^= 1;
        }
        by
    }

    /// A task that somebody ordered, mostly.
    fn ordered(&mut self) -> (NodeId, TaskId) {
        if self.orders.is_empty() || self.random.in_100(10) {
            return (self.machine(), self.task());
        }
        let at = self.random.below(self.orders.len() as u64) as usize;
        (self.orders[at].signer, self.orders[at].decode_unverified().unwrap().task)
    }

    fn fact(&mut self) -> Fact {
        let (node, account, now) = (self.machine(), self.account(), self.now);
        let role = if self.random.in_100(50) { Role::Node } else { Role::Client };
        let measurement = [self.random.below(4) as u8; 32];
        let label = Label::new(["a", "b", "c"][self.random.below(3) as usize]).unwrap();
        match self.random.below(100) {
            0..6 => Fact::MemberAdmitted { node, role, at_unix_ms: now },
            // Rare: a machine that was removed does not come back, another comes.
            6 if self.random.in_100(2) => {
                let generation = &mut self.generations[usize::from(node.0[0] - 10)];
                *generation = generation.wrapping_add(1);
                Fact::MemberRemoved { node, at_unix_ms: now }
            }
            6..10 => Fact::StarterGranted { node },
            10 => Fact::PolicySet(PoolPolicy {
                starter_micro: self.random.below(100_000),
                issue_micro_max: self.random.below(100_000_000),
                needs_approval: self.random.in_100(5),
                holds_per_account_max: 8 + self.random.below(30) as u32,
                ..PoolPolicy::default()
            }),
            11 => {
                let standings = [Standing::Auditor, Standing::Member, Standing::Administrator, Standing::Owner];
                Fact::StandingGranted { account: node.into(), standing: standings[self.random.below(4) as usize] }
            }
            12 => Fact::StandingRevoked { account: node.into() },
            13 => {
                let uses = self.random.in_100(70).then(|| self.random.below(3) as u32);
                let until_unix_ms = self.random.in_100(50).then(|| now + self.random.below(1_000_000));
                Fact::InviteIssued(Invite { id: node, standing: Standing::Member, uses, until_unix_ms })
            }
            14 => Fact::InviteRevoked { invite: node },
            15..18 => {
                let invite = self.machine();
                Fact::Joined { redemption: self.sign(invite, &Redemption { pool: pool_id(), node, role }) }
            }
            18 => Fact::Approved { node },
            19 => Fact::Labelled { node, region: Some(label.clone()), labels: vec![label] },
            20 => Fact::MeasurementAllowed { measurement },
            21 => Fact::MeasurementRevoked { measurement },
            22 => {
                let evidence = AgreedEvidence { tier: Tier::SelfSigned, digest: measurement, until_unix_ms: now };
                Fact::EvidenceAgreed { node, evidence }
            }
            23 => Fact::AccountLinked { link: self.sign(node, &AccountLink { pool: pool_id(), account }) },
            24 => Fact::AskSet { node, model: ModelDigest(measurement), price: Some(self.price(40)) },
            25 => Fact::BlockSet { other: account, is_blocked: self.random.in_100(50) },
            26 => Fact::Observed { node, epoch: now / 3_600_000, observations: Observations::default() },
            27 => Fact::ModelAdded(model(measurement[0])),
            28..55 => {
                let again = self.random.in_100(10) && !self.orders.is_empty();
                let order = if again {
                    let at = self.random.below(self.orders.len() as u64) as usize;
                    self.orders[at].clone()
                } else {
                    let amount_micro = if self.random.in_100(2) { u64::MAX } else { self.random.below(3_000) };
                    let until_unix_ms = now + self.random.below(40 * 60_000);
                    let (pool, task, ceiling) = (pool_id(), self.task(), self.price(80));
                    self.sign(node, &Order { pool, task, amount_micro, ceiling, until_unix_ms })
                };
                self.orders.push_back(order.clone());
                if self.orders.len() > 40 {
                    self.orders.pop_front();
                }
                Fact::HoldPlaced { order }
            }
            55..80 => {
                let (client, task) = self.ordered();
                let (prompt_tokens, output_tokens, price) = (self.tokens(), self.tokens(), self.price(20));
                let receipt = Receipt { client, task, prompt_tokens, output_tokens, price, ..receipt(node, 0, 0) };
                let by = if self.random.in_100(3) { self.machine() } else { client };
                let by_node = self.sign(node, &receipt);
                Fact::Settled(Countersigned::new(by_node, |message| sign_as(by, message)))
            }
            80..92 => {
                let (client, task) = self.ordered();
                let (prompt_tokens, output_tokens, price) = (self.tokens(), self.tokens(), self.price(20));
                let ack = Ack { pool: pool_id(), task, node, prompt_tokens, output_tokens, price };
                let claim = Claim { ack: self.sign(client, &ack) };
                Fact::ClaimFiled { claim: self.sign(node, &claim) }
            }
            _ => {
                let (client, task) = self.ordered();
                Fact::TaskClosed { close: self.sign(client, &Close { pool: pool_id(), task }) }
            }
        }
    }

    /// Who could say it, mostly.
    fn author(&mut self, fact: &Fact) -> AccountId {
        if self.random.in_100(10) {
            return self.account();
        }
        match fact {
            Fact::Joined { redemption } => redemption.decode_unverified().unwrap().node.into(),
            Fact::AccountLinked { link } => link.decode_unverified().unwrap().account,
            Fact::AskSet { node, .. } => (*node).into(),
            Fact::BlockSet { .. } => self.account(),
            _ => OWNER,
        }
    }

    pub(crate) fn next(&mut self) -> Operation {
        if self.random.in_100(8) {
            self.height += 1;
            self.now += if self.random.in_100(1) { 3_600_000 } else { self.random.below(20_000) };
            return Operation::Block(BlockContext { height: self.height, epoch: 0, unix_ms: self.now });
        }
        if self.random.in_100(10) && !self.said.is_empty() {
            let at = self.random.below(self.said.len() as u64) as usize;
            return Operation::Bundle(self.said[at].clone());
        }
        let first = self.fact();
        let author = self.author(&first);
        let mut facts = vec![first];
        while self.random.in_100(20) {
            facts.push(self.fact());
        }
        self.sequence += 1;
        let not_after_unix_ms = self.now + self.random.below(610_000);
        let bundle = Bundle { pool: pool_id(), author, sequence: self.sequence, not_after_unix_ms, facts };
        let bundle = self.sign(author.into(), &bundle);
        self.said.push_back(bundle.clone());
        if self.said.len() > 200 {
            self.said.pop_front();
        }
        Operation::Bundle(bundle)
    }
}

pub(crate) fn done(registry: &mut Registry, operation: &Operation) -> Option<Vec<Event>> {
    match operation {
        Operation::Block(context) => registry.begin(context).ok(),
        Operation::Bundle(signed) => {
            let bundle = Authenticated::open(signed, &Keyed).ok()?;
            registry.commit(&bundle, &Keyed).ok()
        }
    }
}
