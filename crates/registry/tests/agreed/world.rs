//! A pool, its people, and signatures that cost nothing: keyed hashes instead of Ed25519, because what the registry
//! does with a signature is to ask whether it holds.

use protocol::{
    ids::{AccountId, ModelDigest, NodeId, PoolId, TaskId},
    link::{ModelEntry, Role},
    market::{AccountLink, Ack, Claim, Close, Countersigned, HoldId, Order, Price, Receipt, ReceiptLine},
    pool::{PoolPolicy, Redemption},
    proof::Digest,
    signed::{Signable, Signed, Verifier},
};
use registry::{
    Account, Authenticated, BlockContext, Bundle, Event, Fact, Genesis, Hold, LedgerError, Registry, Rejection, keys,
};

pub(crate) const ORCHESTRATOR: NodeId = NodeId([1; 32]);
pub(crate) const OWNER: AccountId = AccountId([1; 32]);
pub(crate) const SECRET: [u8; 32] = [7; 32];
pub(crate) const CLIENT: NodeId = NodeId([20; 32]);
pub(crate) const NODE: NodeId = NodeId([30; 32]);
pub(crate) const OTHER_NODE: NodeId = NodeId([31; 32]);
pub(crate) const TASK: TaskId = TaskId([40; 16]);
pub(crate) const START_MS: u64 = 1_000_000_000;
pub(crate) const HOUR_MS: u64 = 3_600_000;
pub(crate) const STARTER: u64 = 1_000_000;
/// One micro-credit for each token.
pub(crate) const PRICE: Price = Price { prompt_micro: 1_000, output_micro: 1_000 };

pub(crate) struct Keyed;

pub(crate) fn sign_as(signer: NodeId, message: &[u8]) -> [u8; 64] {
    let mut signature = [0; 64];
    blake3::Hasher::new_keyed(&signer.0).update(message).finalize_xof().fill(&mut signature);
    signature
}

impl Verifier for Keyed {
    fn holds(&self, signer: &NodeId, message: &[u8], signature: &[u8; 64]) -> bool {
        sign_as(*signer, message) == *signature
    }
}

pub(crate) fn signed<T: Signable>(signer: NodeId, value: &T) -> Signed<T> {
    Signed::new(signer, value, |message| sign_as(signer, message)).unwrap()
}

pub(crate) fn genesis() -> Genesis {
    Genesis::new(vec![ORCHESTRATOR], &SECRET, 5)
}

pub(crate) fn pool_id() -> PoolId {
    genesis().pool().unwrap()
}

pub(crate) fn model(byte: u8) -> ModelEntry {
    ModelEntry {
        name: format!("model-{byte}"),
        aliases: Vec::new(),
        digest: ModelDigest([byte; 32]),
        bytes: 1,
        licence: "MIT".to_owned(),
        created_unix_s: 1,
    }
}

/// A pool at work.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) registry: Registry,
    pub(crate) height: u64,
    pub(crate) now: u64,
    pub(crate) epoch: u64,
    sequence: u64,
}

impl World {
    pub(crate) fn founded() -> Self {
        let mut registry = Registry::default();
        registry.apply(Fact::Genesis(genesis())).unwrap();
        let mut world = Self { registry, height: 0, now: START_MS, epoch: 0, sequence: 0 };
        world.pass(0);
        world
    }

    /// With an asker that has credits, and two nodes.
    pub(crate) fn trading() -> Self {
        let mut world = Self::founded();
        let policy = PoolPolicy { starter_micro: STARTER, issue_micro_max: 10 * STARTER, ..PoolPolicy::default() };
        world.owner(Fact::PolicySet(policy)).unwrap();
        world.admit(CLIENT, Role::Client);
        world.admit(NODE, Role::Node);
        world.admit(OTHER_NODE, Role::Node);
        world.orchestrator(Fact::StarterGranted { node: CLIENT }).unwrap();
        world
    }

    pub(crate) fn pass(&mut self, ms: u64) -> Vec<Event> {
        (self.height, self.now) = (self.height + 1, self.now + ms);
        self.registry.begin(&BlockContext { height: self.height, epoch: self.epoch, unix_ms: self.now }).unwrap()
    }

    pub(crate) fn next_epoch(&mut self) -> Vec<Event> {
        self.epoch += 1;
        self.pass(1)
    }

    pub(crate) fn bundle(&mut self, author: AccountId, facts: Vec<Fact>) -> Bundle {
        self.sequence += 1;
        Bundle { pool: pool_id(), author, sequence: self.sequence, not_after_unix_ms: self.now, facts }
    }

    pub(crate) fn commit(&mut self, bundle: &Bundle) -> Result<Vec<Event>, Rejection> {
        let bundle = Authenticated::open(&signed(bundle.author.into(), bundle), &Keyed)?;
        self.registry.commit(&bundle, &Keyed)
    }

    pub(crate) fn says(&mut self, author: AccountId, fact: Fact) -> Result<Vec<Event>, Rejection> {
        let bundle = self.bundle(author, vec![fact]);
        self.commit(&bundle)
    }

    pub(crate) fn owner(&mut self, fact: Fact) -> Result<Vec<Event>, Rejection> {
        self.says(OWNER, fact)
    }

    pub(crate) fn orchestrator(&mut self, fact: Fact) -> Result<Vec<Event>, Rejection> {
        self.says(ORCHESTRATOR.into(), fact)
    }

    pub(crate) fn admit(&mut self, node: NodeId, role: Role) {
        let at_unix_ms = self.now;
        self.orchestrator(Fact::MemberAdmitted { node, role, at_unix_ms }).unwrap();
    }

    pub(crate) fn account(&self, account: impl Into<AccountId>) -> Account {
        self.registry.state().read(&keys::account(account.into())).unwrap_or_default()
    }

    pub(crate) fn hold(&self) -> Option<Hold> {
        self.hold_of(NODE)
    }

    pub(crate) fn hold_of(&self, node: NodeId) -> Option<Hold> {
        self.registry.state().read(&keys::hold(hold_id(node)))
    }

    pub(crate) fn place_hold(&mut self, amount_micro: u64, lasts_ms: u64) -> Result<Vec<Event>, Rejection> {
        self.place_hold_of(NODE, amount_micro, lasts_ms)
    }

    pub(crate) fn place_hold_of(&mut self, node: NodeId, amount_micro: u64, ms: u64) -> Result<Vec<Event>, Rejection> {
        let fact = order(TASK, node, amount_micro, self.now + ms);
        self.orchestrator(fact)
    }

    /// The order that holds for this node now.
    fn order_of(&self, node: NodeId) -> Digest {
        self.hold_of(node).map_or([0; 32], |hold| hold.order)
    }

    pub(crate) fn line(&self, node: NodeId, prompt_tokens: u32, output_tokens: u32) -> ReceiptLine {
        ReceiptLine { order: self.order_of(node), ..line(prompt_tokens, output_tokens) }
    }

    pub(crate) fn settled(&self, node: NodeId, prompt_tokens: u32, output_tokens: u32) -> Fact {
        settled(&receipt(node, vec![self.line(node, prompt_tokens, output_tokens)]))
    }

    pub(crate) fn claimed(&self, node: NodeId, output_tokens: u32) -> Fact {
        let (order, task) = (self.order_of(node), TASK);
        let ack = Ack { pool: pool_id(), task, node, order, prompt_tokens: 0, output_tokens, price: PRICE };
        Fact::ClaimFiled { claim: signed(node, &Claim { ack: signed(CLIENT, &ack) }) }
    }

    pub(crate) fn closed(&self, node: NodeId) -> Fact {
        let close = Close { pool: pool_id(), task: TASK, node, order: self.order_of(node) };
        Fact::HoldClosed { close: signed(CLIENT, &close) }
    }
}

pub(crate) fn hold_id(node: NodeId) -> HoldId {
    HoldId { client: CLIENT, task: TASK, node }
}

pub(crate) fn order(task: TaskId, node: NodeId, amount_micro: u64, until_unix_ms: u64) -> Fact {
    let order = Order { pool: pool_id(), task, node, amount_micro, ceiling: PRICE, until_unix_ms };
    Fact::HoldPlaced { order: signed(CLIENT, &order) }
}

pub(crate) fn line(prompt_tokens: u32, output_tokens: u32) -> ReceiptLine {
    ReceiptLine {
        task: TASK,
        order: [0; 32],
        model: ModelDigest([1; 32]),
        prompt_tokens,
        output_tokens,
        price: PRICE,
        evidence: [0; 32],
        started_unix_ms: 1,
        ended_unix_ms: 2,
    }
}

pub(crate) fn receipt(node: NodeId, lines: Vec<ReceiptLine>) -> Receipt {
    Receipt { pool: pool_id(), client: CLIENT, node, lines }
}

pub(crate) fn settled(receipt: &Receipt) -> Fact {
    let by_node = signed(receipt.node, receipt);
    Fact::Settled(Countersigned::new(by_node, |message| sign_as(receipt.client, message)))
}

pub(crate) fn joined(invite: NodeId, node: NodeId, role: Role) -> Fact {
    Fact::Joined { redemption: signed(invite, &Redemption { pool: pool_id(), keys: vec![(node, role)] }) }
}

pub(crate) fn link(machine: NodeId, account: AccountId, number: u64) -> Fact {
    Fact::AccountLinked { link: signed(machine, &AccountLink { pool: pool_id(), account, number }) }
}

pub(crate) fn refused(error: LedgerError) -> Result<Vec<Event>, Rejection> {
    Err(Rejection::Ledger(error))
}
