//! People and machines of the pool, honest and hostile, who say something to whatever member is there.

use super::chance::Chance;
use protocol::{
    ids::{AccountId, ModelDigest, NodeId, PoolId, TaskId},
    link::Role,
    market::{Ack, Claim, Close, Countersigned, Order, Price, Receipt, ReceiptLine},
    pool::{Invite, PoolPolicy, Redemption, Standing},
    signed::Signed,
};
use registry::{Bundle, Fact};
use std::collections::BTreeMap;
use trust::MachineKey;

const PRICE: Price = Price { prompt_micro: 1_000, output_micro: 1_000 };
const LIFETIME_MS: u64 = 60_000;
const CLIENTS: usize = 3;
const NODES: usize = 3;

pub(super) struct Crowd {
    pool: PoolId,
    chance: Chance,
    /// The pool's owner, who is a member of the committee too.
    owner: MachineKey,
    clients: Vec<MachineKey>,
    nodes: Vec<MachineKey>,
    sequences: BTreeMap<AccountId, u64>,
    orders: Vec<(Signed<Order>, usize, usize)>,
    said: Vec<Signed<Bundle>>,
    tasks: u8,
    newcomers: u8,
}

fn key(kind: u8, number: u8) -> MachineKey {
    let mut seed = [kind; 32];
    seed[0] = number;
    MachineKey::from_seed(&seed)
}

impl Crowd {
    pub(super) fn new(seed: u64, pool: PoolId, owner: MachineKey) -> Self {
        Self {
            pool,
            chance: Chance::new(seed.wrapping_add(77)),
            owner,
            clients: (0..CLIENTS).map(|number| key(100, number as u8)).collect(),
            nodes: (0..NODES).map(|number| key(110, number as u8)).collect(),
            sequences: BTreeMap::new(),
            orders: Vec::new(),
            said: Vec::new(),
            tasks: 0,
            newcomers: 0,
        }
    }

    fn bundle(&mut self, author: &MachineKey, now: u64, facts: Vec<Fact>) -> Signed<Bundle> {
        let id = AccountId::from(author.id());
        let sequence = self.sequences.entry(id).or_default();
        *sequence += 1;
        let (pool, sequence) = (self.pool, *sequence);
        author.sign(&Bundle { pool, author: id, sequence, not_after_unix_ms: now + LIFETIME_MS, facts })
    }

    /// By the owner.
    pub(super) fn owner(&mut self, now: u64, facts: Vec<Fact>) -> Signed<Bundle> {
        let owner = self.owner.clone();
        self.bundle(&owner, now, facts)
    }

    /// What makes a market.
    pub(super) fn opening(&mut self, now: u64) -> Signed<Bundle> {
        let policy = PoolPolicy { starter_micro: 100_000, issue_micro_max: 10_000_000, ..PoolPolicy::default() };
        let mut facts = vec![Fact::PolicySet(policy)];
        let clients = self.clients.iter().map(|client| (client.id(), Role::Client));
        let nodes = self.nodes.iter().map(|node| (node.id(), Role::Node));
        for (node, role) in clients.chain(nodes) {
            facts.push(Fact::MemberAdmitted { node, role, at_unix_ms: now });
            facts.push(Fact::StarterGranted { node });
        }
        self.owner(now, facts)
    }

    fn order(&mut self, now: u64) -> Signed<Bundle> {
        let (client, node) = (self.chance.place(CLIENTS), self.chance.place(NODES));
        // Tasks come again, for other nodes too.
        self.tasks = (self.tasks + u8::from(self.chance.in_100(70))) % 32;
        let overdrawn = self.chance.in_100(10);
        let amount_micro = if overdrawn { u64::MAX } else { self.chance.below(20_000) };
        let order = Order {
            pool: self.pool,
            task: TaskId([self.tasks; 16]),
            node: self.nodes[node].id(),
            amount_micro,
            ceiling: PRICE,
            until_unix_ms: now + 5_000 + self.chance.below(600_000),
        };
        let order = self.clients[client].sign(&order);
        self.orders.push((order.clone(), client, node));
        let author = self.clients[client].clone();
        self.bundle(&author, now, vec![Fact::HoldPlaced { order }])
    }

    /// The end of a task, or several ends of the same.
    fn end(&mut self, now: u64) -> Option<Signed<Bundle>> {
        if self.orders.is_empty() {
            return None;
        }
        let (order, client, node) = self.orders[self.chance.place(self.orders.len())].clone();
        let Order { task, .. } = order.decode_unverified().ok()?;
        let (client, node) = (self.clients[client].clone(), self.nodes[node].clone());
        let (pool, digest) = (self.pool, order.digest());
        let (prompt_tokens, output_tokens) = (self.chance.below(3_000) as u32, self.chance.below(3_000) as u32);
        let fact = match self.chance.below(4) {
            0 => Fact::HoldClosed { close: client.sign(&Close { pool, task, node: node.id(), order: digest }) },
            1 => {
                let (node_id, price) = (node.id(), PRICE);
                let ack = Ack { pool, task, node: node_id, order: digest, prompt_tokens, output_tokens, price };
                Fact::ClaimFiled { claim: node.sign(&Claim { ack: client.sign(&ack) }) }
            }
            _ => {
                let line = ReceiptLine {
                    task,
                    order: digest,
                    model: ModelDigest([1; 32]),
                    prompt_tokens,
                    output_tokens,
                    price: PRICE,
                    evidence: [0; 32],
                    started_unix_ms: now,
                    ended_unix_ms: now + 1,
                };
                let receipt = Receipt { pool, client: client.id(), node: node.id(), lines: vec![line] };
                let by_node = node.sign(&receipt);
                Fact::Settled(Countersigned::new(by_node, |_| client.sign(&receipt).signature()))
            }
        };
        Some(self.bundle(&node, now, vec![fact]))
    }

    fn people(&mut self, now: u64) -> Signed<Bundle> {
        self.newcomers = self.newcomers.wrapping_add(1);
        let newcomer = key(130, self.newcomers);
        match self.chance.below(5) {
            0 => {
                let invite = key(120, self.newcomers % 4);
                let uses = Some(1 + self.chance.below(2) as u32);
                let issued = Invite { id: invite.id(), standing: Standing::Member, uses, until_unix_ms: None };
                self.owner(now, vec![Fact::InviteIssued(issued)])
            }
            1 => {
                let invite = key(120, self.chance.below(4) as u8);
                let redemption = Redemption { pool: self.pool, keys: vec![(newcomer.id(), Role::Node)] };
                self.bundle(&newcomer, now, vec![Fact::Joined { redemption: invite.sign(&redemption) }])
            }
            2 => {
                let account = newcomer.id().into();
                self.owner(now, vec![Fact::StandingGranted { account, standing: Standing::Auditor }])
            }
            3 => {
                let client = self.clients[self.chance.place(CLIENTS)].clone();
                let other = self.nodes[self.chance.place(NODES)].id().into();
                let is_blocked = self.chance.in_100(30);
                self.bundle(&client, now, vec![Fact::BlockSet { other, is_blocked }])
            }
            _ => self.owner(now, vec![Fact::MeasurementAllowed { measurement: [self.newcomers; 32] }]),
        }
    }

    /// What nobody should get through.
    fn hostile(&mut self, now: u64) -> Signed<Bundle> {
        let client = self.clients[0].clone();
        let measurement = [9; 32];
        match self.chance.below(6) {
            // What was said before.
            0 | 1 if !self.said.is_empty() => self.said[self.chance.place(self.said.len())].clone(),
            // Another one with the same number.
            2 => {
                let id = AccountId::from(client.id());
                *self.sequences.entry(id).or_insert(1) -= 1;
                self.bundle(&client, now, vec![Fact::BlockSet { other: AccountId([5; 32]), is_blocked: true }])
            }
            // What only the owner may say.
            3 => self.bundle(&client, now, vec![Fact::MeasurementAllowed { measurement }]),
            // By a stranger.
            4 => self.bundle(&key(140, self.newcomers), now, vec![Fact::MeasurementAllowed { measurement }]),
            _ => {
                let mut forged = self.owner(now, vec![Fact::MemberRemoved { node: NodeId([7; 32]), at_unix_ms: now }]);
                forged.signature.0[0] ^= 1;
                forged
            }
        }
    }

    /// Somebody's next bundle, and whether a member should ever take it.
    pub(super) fn next(&mut self, now: u64) -> Signed<Bundle> {
        let signed = match self.chance.below(100) {
            0..40 => self.order(now),
            40..70 => match self.end(now) {
                Some(end) => end,
                None => self.order(now),
            },
            70..85 => self.people(now),
            _ => return self.hostile(now),
        };
        self.said.push(signed.clone());
        signed
    }
}
