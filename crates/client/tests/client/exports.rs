//! What was paid, as a file: it shows what was agreed on, and any change of it is found.

use crate::{MODEL, agreed::Agreed, stub_node::unix_ms};
use client::{export, ledger::History};
use protocol::{
    ids::TaskId,
    link::Role,
    market::{Countersigned, Order, Price, Receipt, ReceiptLine},
    pool::PoolPolicy,
    signed::Signature,
    statement::Settlement,
};
use registry::{Fact, keys};
use trust::MachineKey;

const PRICE: Price = Price { prompt_micro: 1_000, output_micro: 2_000 };

struct World {
    agreed: Agreed,
    client: MachineKey,
    node: MachineKey,
}

impl World {
    /// A pool of four orchestrators in which a client has a thousand micro-credits.
    fn new() -> Self {
        let mut agreed = Agreed::of(4, unix_ms());
        let (client, node) = (MachineKey::generate(), MachineKey::generate());
        agreed.agree(Fact::PolicySet(PoolPolicy {
            starter_micro: 1_000,
            issue_micro_max: 2_000,
            ..PoolPolicy::default()
        }));
        agreed.admit(node.id());
        agreed.agree(Fact::MemberAdmitted { node: client.id(), role: Role::Client, at_unix_ms: agreed.unix_ms });
        agreed.agree(Fact::StarterGranted { node: client.id() });
        Self { agreed, client, node }
    }

    fn line(&self, task: TaskId, output_tokens: u32) -> ReceiptLine {
        ReceiptLine {
            task,
            order: self.order(task).digest(),
            model: MODEL,
            prompt_tokens: 10,
            output_tokens,
            price: PRICE,
            evidence: [7; 32],
            started_unix_ms: 1,
            ended_unix_ms: 2,
        }
    }

    fn order(&self, task: TaskId) -> protocol::signed::Signed<Order> {
        let (pool, node) = (self.agreed.pool(), self.node.id());
        let until_unix_ms = self.agreed.unix_ms + 60_000;
        self.client.sign(&Order { pool, task, node, amount_micro: 100, ceiling: PRICE, until_unix_ms })
    }

    fn receipt(&self, lines: Vec<ReceiptLine>) -> Countersigned {
        let (pool, client, node) = (self.agreed.pool(), self.client.id(), self.node.id());
        let receipt = Receipt { pool, client, node, lines };
        let countersignature = Signature::of(self.client.sign(&receipt).signature());
        Countersigned { receipt: self.node.sign(&receipt), countersignature }
    }

    /// Has a task paid, and shows that it is.
    fn settled(&mut self, task: TaskId, output_tokens: u32) -> Settlement {
        self.agreed.agree(Fact::HoldPlaced { order: self.order(task) });
        let receipt = self.receipt(vec![self.line(task, output_tokens)]);
        self.agreed.agree(Fact::Settled(receipt.clone()));
        self.shown(receipt, task)
    }

    fn shown(&self, receipt: Countersigned, task: TaskId) -> Settlement {
        let id = protocol::market::HoldId { client: self.client.id(), task, node: self.node.id() };
        let registry = &self.agreed.registry;
        let (holds, policy) = (vec![registry.prove(&keys::hold(id))], registry.prove(&keys::policy()));
        Settlement { receipt, anchor: self.agreed.anchor(), holds, policy }
    }

    fn history(&self) -> History {
        History { genesis: self.agreed.genesis.clone(), handovers: Vec::new() }
    }
}

#[test]
fn an_export_shows_what_was_paid_to_whoever_knows_the_pool() {
    let mut world = World::new();
    let settlements = [world.settled(TaskId([1; 16]), 5), world.settled(TaskId([2; 16]), 20)];
    let auditor = MachineKey::generate();
    let text = export::write(world.agreed.pool(), &world.history(), &settlements, &auditor).unwrap();
    let verified = export::verify(&text, world.agreed.pool()).unwrap();
    assert_eq!((verified.signer, verified.receipts, verified.tasks), (auditor.id(), 2, 2));
    assert_eq!(verified.paid_micro, (10 + 2 * 5) + (10 + 2 * 20));
    assert_eq!(text.lines().count(), 4);
    assert!(text.contains("\"output_tokens\":20"));
    let other = protocol::ids::PoolId([9; 32]);
    assert!(export::verify(&text, other).is_err(), "of another pool it shows nothing");
}

#[test]
fn any_byte_that_is_changed_is_found() {
    let mut world = World::new();
    let settlements = [world.settled(TaskId([1; 16]), 5)];
    let text = export::write(world.agreed.pool(), &world.history(), &settlements, &MachineKey::generate()).unwrap();
    for at in 0..text.len() {
        let mut bytes = text.clone().into_bytes();
        bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
        let changed = String::from_utf8(bytes).unwrap();
        assert!(export::verify(&changed, world.agreed.pool()).is_err(), "byte {at}");
    }
    for lines in 0..text.lines().count() {
        let fewer: String = text.lines().take(lines).map(|line| format!("{line}\n")).collect();
        assert!(export::verify(&fewer, world.agreed.pool()).is_err(), "{lines} lines");
    }
    let without: String =
        text.lines().enumerate().filter(|(at, _)| *at != 1).map(|(_, line)| format!("{line}\n")).collect();
    assert!(export::verify(&without, world.agreed.pool()).is_err(), "a settlement is missing");
}

#[test]
fn what_was_not_agreed_on_is_not_exported_as_paid() {
    let mut world = World::new();
    let task = TaskId([1; 16]);
    world.agreed.agree(Fact::HoldPlaced { order: world.order(task) });
    let receipt = world.receipt(vec![world.line(task, 5)]);
    let unpaid = world.shown(receipt.clone(), task);
    let write = |settlement: &Settlement| {
        export::write(world.agreed.pool(), &world.history(), std::slice::from_ref(settlement), &world.node)
    };
    let text = write(&unpaid).unwrap();
    let verified = export::verify(&text, world.agreed.pool()).unwrap();
    assert_eq!((verified.tasks, verified.paid_micro), (0, 0));
    // Nobody signs what does not hold.
    let alone = Countersigned { countersignature: Signature::of([0; 64]), ..receipt };
    assert!(write(&Settlement { receipt: alone, ..unpaid.clone() }).is_err(), "one side has not signed");
    let mut unsigned = unpaid.clone();
    unsigned.anchor.certificate.signatures.clear();
    unsigned.anchor.certificate.signers = 0;
    assert!(write(&unsigned).is_err(), "a block that is not final");
    assert!(write(&Settlement { holds: Vec::new(), ..unpaid }).is_err(), "a task without a proof");
}
