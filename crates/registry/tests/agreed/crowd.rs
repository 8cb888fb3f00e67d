//! Operations, honest and hostile, thought up from a seed. Ids are few, so that operations meet.

use crate::world::*;
use protocol::{
    fault::FaultKind,
    grant::Tier,
    ids::{AccountId, ModelDigest, NodeId, TaskId},
    link::Role,
    market::{AccountLink, Ack, Claim, Close, Countersigned, HoldId, Order, Price, Receipt, ReceiptLine},
    pool::{Invite, Label, PoolPolicy, Redemption, Standing},
    proof::Digest,
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

const EPOCH_BLOCKS: u64 = 32;

/// What an order is for, and its digest.
fn known(order: &Signed<Order>) -> (HoldId, Digest) {
    let Order { task, node, .. } = order.decode_unverified().unwrap();
    (HoldId { client: order.signer, task, node }, order.digest())
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
        self.machine_at(at)
    }

    fn machine_at(&self, at: u8) -> NodeId {
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

    /// What somebody ordered, mostly.
    fn ordered(&mut self) -> (HoldId, Digest) {
        if self.orders.is_empty() || self.random.in_100(5) {
            return (HoldId { client: self.machine(), task: self.task(), node: self.machine() }, [0; 32]);
        }
        let at = self.random.below(self.orders.len() as u64) as usize;
        let (mut id, digest) = known(&self.orders[at]);
        if self.random.in_100(5) {
            id.node = self.machine();
        }
        (id, digest)
    }

    fn line(&mut self, task: TaskId, order: Digest) -> ReceiptLine {
        let price = self.price(20);
        ReceiptLine { task, order, price, ..line(self.tokens(), self.tokens()) }
    }

    /// Who is in the committee or could be; rarely the orchestrator that says most.
    fn orchestrator(&mut self) -> NodeId {
        if self.random.in_100(10) { ORCHESTRATOR } else { NodeId([90 + self.random.below(6) as u8; 32]) }
    }

    fn fact(&mut self) -> Fact {
        let (node, account, now) = (self.machine(), self.account(), self.now);
        let role = if self.random.in_100(50) { Role::Node } else { Role::Client };
        let measurement = [self.random.below(4) as u8; 32];
        let label = Label::new(["a", "b", "c"][self.random.below(3) as usize]).unwrap();
        match self.random.below(106) {
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
                day_micro_max: self.random.in_100(30).then(|| self.random.below(200_000)),
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
                Fact::Joined {
                    redemption: self.sign(invite, &Redemption { pool: pool_id(), keys: vec![(node, role)] }),
                }
            }
            18 => Fact::Approved { node },
            19 => Fact::Labelled { node, region: Some(label.clone()), labels: vec![label] },
            20 => Fact::MeasurementAllowed { measurement },
            21 => Fact::MeasurementRevoked { measurement },
            22 => {
                let evidence = AgreedEvidence { tier: Tier::SelfSigned, digest: measurement, until_unix_ms: now };
                Fact::EvidenceAgreed { node, evidence }
            }
            23 => {
                let number = self.sequence.saturating_sub(self.random.below(2_000));
                Fact::AccountLinked { link: self.sign(node, &AccountLink { pool: pool_id(), account, number }) }
            }
            24 => Fact::AskSet { node, model: ModelDigest(measurement), price: Some(self.price(40)) },
            25 => Fact::BlockSet { other: account, is_blocked: self.random.in_100(50) },
            26 => Fact::Observed { node, epoch: now / 3_600_000, observations: Observations::default() },
            27 => Fact::ModelAdded(model(self.random.below(250) as u8)),
            28..55 => {
                let again = self.random.in_100(10) && !self.orders.is_empty();
                let order = if again {
                    let at = self.random.below(self.orders.len() as u64) as usize;
                    self.orders[at].clone()
                } else {
                    let amount_micro = if self.random.in_100(2) { u64::MAX } else { self.random.below(3_000) };
                    let until_unix_ms = now + self.random.below(40 * 60_000);
                    let (pool, task, ceiling) = (pool_id(), self.task(), self.price(80));
                    // Few pairs, so that there are receipts for several tasks.
                    let at = u64::from(node.0[0]) - 9 + self.random.below(2);
                    let server = self.machine_at((at % 12) as u8);
                    self.sign(node, &Order { pool, task, node: server, amount_micro, ceiling, until_unix_ms })
                };
                self.orders.push_back(order.clone());
                if self.orders.len() > 40 {
                    self.orders.pop_front();
                }
                Fact::HoldPlaced { order }
            }
            55..80 => {
                let (HoldId { client, task, node }, order) = self.ordered();
                let mut lines = vec![self.line(task, order)];
                let others: Vec<_> = self.orders.iter().map(known).filter(|(id, _)| id.client == client).collect();
                for (id, order) in others.into_iter().take(5) {
                    lines.push(self.line(id.task, order));
                }
                let receipt = Receipt { pool: pool_id(), client, node, lines };
                let by = if self.random.in_100(3) { self.machine() } else { client };
                let by_node = self.sign(node, &receipt);
                Fact::Settled(Countersigned::new(by_node, |message| sign_as(by, message)))
            }
            80..92 => {
                let (HoldId { client, task, node }, order) = self.ordered();
                let (prompt_tokens, output_tokens, price) = (self.tokens(), self.tokens(), self.price(20));
                let ack = Ack { pool: pool_id(), task, node, order, prompt_tokens, output_tokens, price };
                let claim = Claim { ack: self.sign(client, &ack) };
                Fact::ClaimFiled { claim: self.sign(node, &claim) }
            }
            92..100 => {
                let (HoldId { client, task, node }, order) = self.ordered();
                Fact::HoldClosed { close: self.sign(client, &Close { pool: pool_id(), task, node, order }) }
            }
            100..102 => {
                let (mut add, mut remove) = (Vec::new(), Vec::new());
                while self.random.in_100(60) {
                    let list = if self.random.in_100(60) { &mut add } else { &mut remove };
                    list.push(NodeId([0; 32]));
                }
                add.iter_mut().chain(&mut remove).for_each(|node| *node = self.orchestrator());
                Fact::CommitteeChanged { add, remove }
            }
            102 => {
                let kinds =
                    [FaultKind::ConflictingNotarize, FaultKind::ConflictingFinalize, FaultKind::NullifyFinalize];
                let kind = kinds[self.random.below(3) as usize];
                let epoch = (self.height / EPOCH_BLOCKS + 1).saturating_sub(self.random.below(4));
                let evidence = vec![7; self.random.below(3) as usize];
                Fact::Fault { member: self.orchestrator(), epoch, view: self.random.below(9), kind, evidence }
            }
            103 => Fact::ModelRemoved { digest: ModelDigest([self.random.below(250) as u8; 32]) },
            _ => Fact::AccountUnlinked { node },
        }
    }

    /// Who could say it, mostly.
    fn author(&mut self, fact: &Fact) -> AccountId {
        if self.random.in_100(10) {
            return self.account();
        }
        match fact {
            Fact::Joined { redemption } => redemption.decode_unverified().unwrap().keys[0].0.into(),
            Fact::AccountLinked { link } => link.decode_unverified().unwrap().account,
            Fact::AskSet { node, .. } => (*node).into(),
            Fact::BlockSet { .. } | Fact::AccountUnlinked { .. } => self.account(),
            _ => OWNER,
        }
    }

    pub(crate) fn next(&mut self) -> Operation {
        if self.random.in_100(8) {
            self.height += 1;
            self.now += if self.random.in_100(1) { 3_600_000 } else { self.random.below(20_000) };
            return Operation::Block(BlockContext {
                height: self.height,
                epoch: self.height / EPOCH_BLOCKS,
                unix_ms: self.now,
            });
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
