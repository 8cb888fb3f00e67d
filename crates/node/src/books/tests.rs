//! What a node remembers of what it is owed.

use super::*;
use protocol::{
    ids::{ModelDigest, PoolId, TaskId},
    market::{Price, Receipt, ReceiptLine},
};
use std::os::unix::fs::PermissionsExt;
use trust::MachineKey;

const PRICE: Price = Price { prompt_micro: 1_000, output_micro: 1_000 };

struct Both {
    node: MachineKey,
    client: MachineKey,
    id: HoldId,
    order: Signed<Order>,
}

impl Both {
    fn new() -> Self {
        let (node, client, task) = (MachineKey::generate(), MachineKey::generate(), TaskId([1; 16]));
        let id = HoldId { client: client.id(), task, node: node.id() };
        let order = Order {
            pool: PoolId([2; 32]),
            task,
            node: node.id(),
            amount_micro: 9,
            ceiling: PRICE,
            until_unix_ms: 1 << 50,
        };
        let order = client.sign(&order);
        Self { node, client, id, order }
    }

    fn ack(&self) -> Signed<Ack> {
        let (node, order) = (self.node.id(), self.order.digest());
        self.client.sign(&Ack {
            pool: PoolId([2; 32]),
            task: self.id.task,
            node,
            order,
            prompt_tokens: 1,
            output_tokens: 2,
            price: PRICE,
        })
    }

    fn receipt(&self) -> Countersigned {
        let line = ReceiptLine {
            task: self.id.task,
            order: self.order.digest(),
            model: ModelDigest([3; 32]),
            prompt_tokens: 1,
            output_tokens: 2,
            price: PRICE,
            evidence: [0; 32],
            started_unix_ms: 0,
            ended_unix_ms: 1,
        };
        let receipt =
            Receipt { pool: PoolId([2; 32]), client: self.client.id(), node: self.node.id(), lines: vec![line] };
        Countersigned {
            receipt: self.node.sign(&receipt),
            countersignature: protocol::signed::Signature::of(self.client.sign(&receipt).signature()),
        }
    }

    fn next(&self, books: &Books) -> Option<(u64, Vec<Word>)> {
        match books.next(&self.node, Instant::now(), 5)? {
            FromNode::Words { number, words } => Some((number, words)),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn an_order_is_held_then_settled_then_forgotten() {
    let (both, books) = (Both::new(), Books::open(None));
    let standing = books.begin(both.id, both.order.clone(), 1 << 50).unwrap();
    assert!(books.begin(both.id, both.order.clone(), 1 << 50).is_none(), "once");
    let (number, words) = both.next(&books).unwrap();
    assert!(matches!(words[..], [Word::Hold(_)]));
    assert!(both.next(&books).is_none(), "it is under way");
    books.said(number, vec![WordOutcome::Agreed]);
    assert_eq!(*standing.borrow(), Standing::Held);
    books.acked(both.id, both.ack());
    assert!(both.next(&books).is_none(), "it still runs");
    books.receipted(both.id, both.receipt());
    let (number, words) = both.next(&books).unwrap();
    assert!(matches!(words[..], [Word::Settle(_)]));
    books.said(number, vec![WordOutcome::Agreed]);
    assert_eq!(books.count(), 0);
}

#[test]
fn what_is_earned_is_not_forgotten_by_one_refusal() {
    let (both, books) = (Both::new(), Books::open(None));
    books.begin(both.id, both.order.clone(), 1 << 50).unwrap();
    let (number, _) = both.next(&books).unwrap();
    books.said(number, vec![WordOutcome::Agreed]);
    books.receipted(both.id, both.receipt());
    let (number, words) = both.next(&books).unwrap();
    assert!(matches!(words[..], [Word::Settle(_)]));
    books.said(number, vec![WordOutcome::Refused("there is no such hold".to_owned())]);
    assert_eq!(books.count(), 1, "another orchestrator is asked later");
}

#[test]
fn what_is_refused_is_told_and_what_never_began_is_forgotten() {
    let (both, books) = (Both::new(), Books::open(None));
    let standing = books.begin(both.id, both.order.clone(), 1 << 50).unwrap();
    let (number, _) = both.next(&books).unwrap();
    books.said(number, vec![WordOutcome::Refused("no credits".to_owned())]);
    assert_eq!((standing.borrow().clone(), books.count()), (Standing::Refused("no credits".to_owned()), 0));
    books.begin(both.id, both.order.clone(), 1 << 50).unwrap();
    books.ended(both.id);
    assert_eq!(books.count(), 0);
}

#[test]
fn what_is_owed_survives_the_end_of_the_node_and_is_claimed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("owed");
    let both = Both::new();
    let books = Books::open(Some(path.clone()));
    books.begin(both.id, both.order.clone(), 1 << 50).unwrap();
    let (number, _) = both.next(&books).unwrap();
    books.said(number, vec![WordOutcome::Agreed]);
    books.acked(both.id, both.ack());
    drop(books);
    let file = path.join(name(both.id));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    fs::write(path.join("nonsense.bill"), "nonsense").unwrap();
    let books = Books::open(Some(path.clone()));
    let (number, words) = both.next(&books).unwrap();
    let [Word::Claim(claim)] = &words[..] else { panic!("{words:?}") };
    assert_eq!(trust::open(claim).unwrap().ack, both.ack());
    books.said(number, vec![WordOutcome::Later]);
    assert_eq!(books.count(), 1, "it is said again");
    books.receipted(both.id, both.receipt());
    drop(books);
    let books = Books::open(Some(path));
    let (number, words) = both.next(&books).unwrap();
    assert!(matches!(words[..], [Word::Settle(_)]), "a receipt goes before");
    books.said(number, vec![WordOutcome::Agreed]);
    assert!(books.count() == 0 && !file.exists());
}
