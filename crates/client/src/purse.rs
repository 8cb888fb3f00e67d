//! What a client pays: orders, acknowledgements, and receipts that it countersigns. Nothing here holds up an answer.

use crate::link::Link;
use protocol::{
    ids::{ModelDigest, NodeId, PoolId, TaskId},
    limits,
    link::{Answer, Question},
    market::{ACK_TOKENS, Ack, Close, ORDER_LIFETIME_MS, Order, Price, Receipt, Word, WordOutcome},
    proof::Digest,
    signed::{Signature, Signed},
    stream::{Payment, Reply},
    task::Frame,
    time::unix_ms,
};
use std::time::{Duration, SystemTime};
use tokio::{sync::mpsc, time::timeout};
use tokio_util::task::TaskTracker;
use transport::{Boxed, ReceiveError, Receiver, Sender};
use trust::MachineKey;

/// Payments of one task that wait for a node that does not read. A later acknowledgement stands for all before it.
const WAITING_MAX: usize = 64;
/// Orders that are to be closed and wait.
const CLOSES_MAX: usize = 256;
/// A node hands an order in at about the time when it begins: what is closed is held by then, or never.
const CLOSE_AFTER: Duration = Duration::from_secs(2);
/// And again after these times, where it was not held yet, or nobody could say.
const CLOSE_AGAIN_AFTER: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(60)];
/// A node has this time to say what is due.
const SETTLE_TIME_MAX: Duration = Duration::from_secs(5);
/// And so much to take the last payment.
const WRITE_TIME_MAX: Duration = Duration::from_secs(2);
/// How long the end of a client waits for what is being settled.
const END_TIME_MAX: Duration = Duration::from_secs(2);

/// Who pays. Cloning it is cheap.
#[derive(Clone)]
pub(crate) struct Purse {
    key: MachineKey,
    pool: PoolId,
    closes: mpsc::Sender<Signed<Close>>,
    settling: TaskTracker,
}

/// What one node gets for one task at most, and at which price.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Offer {
    pub(crate) price: Price,
    pub(crate) amount_micro: u64,
    /// Tokens of the prompt and of the answer that can be true, whatever the node says.
    pub(crate) tokens_max: (u32, u32),
}

/// Which work is paid.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Work {
    pub(crate) task: TaskId,
    pub(crate) node: NodeId,
    pub(crate) model: ModelDigest,
    /// BLAKE3 of the evidence that the task is sealed to.
    pub(crate) evidence: [u8; 32],
    /// Tokens of the answer that the node is given with the task.
    pub(crate) resumed_tokens: u32,
}

impl Purse {
    /// Starts what closes orders; it ends with the last clone.
    pub(crate) fn start(key: MachineKey, pool: PoolId, link: Link) -> Self {
        let (closes, mut waiting) = mpsc::channel::<Signed<Close>>(CLOSES_MAX);
        tokio::spawn(async move {
            while let Some(close) = waiting.recv().await {
                let link = link.clone();
                tokio::spawn(async move {
                    for pause in [CLOSE_AFTER].into_iter().chain(CLOSE_AGAIN_AFTER) {
                        tokio::time::sleep(pause).await;
                        let word = Question::Word(Box::new(Word::Close(close.clone())));
                        // What is not closed returns when the order runs out.
                        if let Ok(Answer::Word(WordOutcome::Agreed)) = link.ask(word).await {
                            return;
                        }
                    }
                });
            }
        });
        Self { key, pool, closes, settling: TaskTracker::new() }
    }

    /// An order for this work.
    pub(crate) fn order(&self, work: Work, offer: Offer) -> (Signed<Order>, Tab) {
        let order = self.key.sign(&Order {
            pool: self.pool,
            task: work.task,
            node: work.node,
            amount_micro: offer.amount_micro,
            ceiling: offer.price,
            until_unix_ms: unix_ms(SystemTime::now()).saturating_add(ORDER_LIFETIME_MS),
        });
        let tab = Tab {
            work,
            price: offer.price,
            order: order.digest(),
            tokens_max: offer.tokens_max,
            prompt_tokens: 0,
            output_tokens: 0,
            acked: 0,
        };
        (order, tab)
    }

    fn ack(&self, tab: &Tab) -> Signed<Ack> {
        self.key.sign(&Ack {
            pool: self.pool,
            task: tab.work.task,
            node: tab.work.node,
            order: tab.order,
            prompt_tokens: tab.prompt_tokens,
            output_tokens: tab.output_tokens,
            price: tab.price,
        })
    }

    /// The countersignature, if this is what is due.
    fn countersign(&self, tab: &Tab, signed: &Signed<Receipt>) -> Option<Signature> {
        let receipt = trust::open(signed).ok().filter(|_| signed.signer == tab.work.node)?;
        let [line] = &receipt.lines[..] else { return None };
        let is_right = receipt.pool == self.pool
            && receipt.client == self.key.id()
            && receipt.node == tab.work.node
            && (line.task, line.order, line.model) == (tab.work.task, tab.order, tab.work.model)
            && (line.price, line.evidence) == (tab.price, tab.work.evidence)
            && line.prompt_tokens <= tab.prompt_tokens
            && line.output_tokens <= tab.output_tokens;
        // The same payload, so the same bytes are signed.
        is_right.then(|| Signature::of(self.key.sign(&receipt).signature()))
    }

    /// The node works on this no more, and there is no receipt: the rest returns when it had time to claim its part.
    pub(crate) fn close(&self, tab: &Tab) {
        let (task, node, order) = (tab.work.task, tab.work.node, tab.order);
        // Where too many wait, it returns when the order runs out.
        let _ = self.closes.try_send(self.key.sign(&Close { pool: self.pool, task, node, order }));
    }

    /// Waits a moment for what is being settled.
    pub(crate) async fn flush(&self) {
        self.settling.close();
        let _ = timeout(END_TIME_MAX, self.settling.wait()).await;
    }
}

/// What one node has done for one task so far.
#[derive(Debug, Clone)]
pub(crate) struct Tab {
    work: Work,
    price: Price,
    order: Digest,
    tokens_max: (u32, u32),
    prompt_tokens: u32,
    output_tokens: u32,
    /// Of the tokens generated, those that were acknowledged.
    acked: u32,
}

impl Tab {
    /// Counts a frame; whether it is time for an acknowledgement. What cannot be true is counted as far as it can.
    fn note(&mut self, frame: &Frame) -> bool {
        let (prompt_max, output_max) = self.tokens_max;
        match frame {
            Frame::Started { prompt_tokens } => {
                self.prompt_tokens = (*prompt_tokens).min(prompt_max).saturating_add(self.work.resumed_tokens);
                true
            }
            Frame::Tokens { ids, .. } => {
                let more = u32::try_from(ids.len()).unwrap_or(u32::MAX);
                self.output_tokens = self.output_tokens.saturating_add(more).min(output_max);
                self.output_tokens - self.acked >= ACK_TOKENS
            }
            _ => false,
        }
    }
}

/// The order of a task that no node has taken yet: closed where none does.
pub(crate) struct Unstarted(Option<(Purse, Tab)>);

impl Unstarted {
    pub(crate) fn new(purse: Purse, tab: Tab) -> Self {
        Self(Some((purse, tab)))
    }

    /// The node has the task.
    pub(crate) fn begin(mut self, sender: Sender) -> Till {
        let (purse, tab) = self.0.take().expect("it begins once");
        Till::new(purse, tab, sender)
    }
}

impl Drop for Unstarted {
    fn drop(&mut self) {
        if let Some((purse, tab)) = self.0.take() {
            purse.close(&tab);
        }
    }
}

/// Where one node is paid for one task.
pub(crate) struct Till {
    purse: Purse,
    tab: Tab,
    payments: mpsc::Sender<Payment>,
}

/// What reads from a node, with what came.
pub(crate) type Reading = Boxed<'static, (Receiver, Result<Option<Reply>, ReceiveError>)>;

impl Till {
    fn new(purse: Purse, tab: Tab, mut sender: Sender) -> Self {
        let (payments, mut waiting) = mpsc::channel(WAITING_MAX);
        // Whoever hears the node may be given up in the middle; what is being written must not be.
        purse.settling.spawn(async move {
            while let Some(payment) = waiting.recv().await {
                if sender.message(&payment, limits::PAYMENT_BYTES_MAX).await.is_err() {
                    return;
                }
            }
            sender.finish();
            // The end of the connection must not overtake the last payment.
            let _ = timeout(WRITE_TIME_MAX, sender.stopped()).await;
        });
        Self { purse, tab, payments }
    }

    /// A frame has come.
    pub(crate) fn note(&mut self, frame: &Frame) {
        if self.tab.note(frame) && self.payments.try_send(Payment::Ack(self.purse.ack(&self.tab))).is_ok() {
            self.tab.acked = self.tab.output_tokens;
        }
    }

    /// No more is wanted, or nothing more comes: settles what is due, in the background. Without `reading` the node is gone.
    pub(crate) fn settle(self, reading: Option<Reading>) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let settling = self.purse.settling.clone();
        settling.spawn_on(
            async move {
                let Self { purse, tab, payments } = self;
                let exchange = exchange(&purse, &tab, &payments, reading);
                if !timeout(SETTLE_TIME_MAX, exchange).await.unwrap_or(false) {
                    purse.close(&tab);
                }
            },
            &runtime,
        );
    }
}

/// The last exchange with a node. Whether it has its receipt.
async fn exchange(purse: &Purse, tab: &Tab, payments: &mpsc::Sender<Payment>, reading: Option<Reading>) -> bool {
    let Some(mut reading) = reading else { return false };
    if payments.send(Payment::Last(purse.ack(tab))).await.is_err() {
        return false;
    }
    loop {
        let (mut receiver, received) = reading.await;
        match received {
            Ok(Some(Reply::Due(receipt))) => {
                let Some(signature) = purse.countersign(tab, &receipt) else {
                    tracing::warn!(node = %tab.work.node.short(), "a node asks for more than it did: no receipt");
                    return false;
                };
                return payments.send(Payment::Countersigned(signature)).await.is_ok();
            }
            // What was on its way.
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => return false,
        }
        reading = Box::pin(async move {
            let received = receiver.message(limits::STREAM_MESSAGE_BYTES_MAX).await;
            (receiver, received)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::market::ReceiptLine;

    const PRICE: Price = Price { prompt_micro: 1_000, output_micro: 2_000 };

    const TOKENS_MAX: (u32, u32) = (20, 200);

    fn purse() -> Purse {
        let (closes, _) = mpsc::channel(1);
        Purse { key: MachineKey::generate(), pool: PoolId([1; 32]), closes, settling: TaskTracker::new() }
    }

    fn tokens(count: usize) -> Frame {
        Frame::Tokens { ids: vec![1; count], text: String::new(), log_probs: vec![0.0; count] }
    }

    #[test]
    fn what_came_is_counted_and_acknowledged_now_and_then() {
        let node = MachineKey::generate();
        let (purse, model) = (purse(), ModelDigest([2; 32]));
        let work = Work { task: TaskId([3; 16]), node: node.id(), model, evidence: [4; 32], resumed_tokens: 5 };
        let (order, mut tab) = purse.order(work, Offer { price: PRICE, amount_micro: 9, tokens_max: TOKENS_MAX });
        let said = trust::open(&order).unwrap();
        assert_eq!((said.node, said.amount_micro, said.ceiling), (node.id(), 9, PRICE));
        assert!(tab.note(&Frame::Started { prompt_tokens: 7 }), "what was read is acknowledged at once");
        assert!(!tab.note(&tokens(127)));
        assert!(tab.note(&tokens(1)));
        let ack = trust::open(&purse.ack(&tab)).unwrap();
        assert_eq!((ack.prompt_tokens, ack.output_tokens, ack.order), (12, 128, order.digest()));
        // What cannot be true is not paid for.
        tab.note(&Frame::Started { prompt_tokens: u32::MAX });
        tab.note(&tokens(60_000));
        let ack = trust::open(&purse.ack(&tab)).unwrap();
        assert_eq!((ack.prompt_tokens, ack.output_tokens), (20 + 5, 200));
    }

    #[test]
    fn only_what_is_due_is_countersigned() {
        let node = MachineKey::generate();
        let (purse, model) = (purse(), ModelDigest([2; 32]));
        let work = Work { task: TaskId([3; 16]), node: node.id(), model, evidence: [4; 32], resumed_tokens: 0 };
        let (order, mut tab) = purse.order(work, Offer { price: PRICE, amount_micro: 9, tokens_max: TOKENS_MAX });
        tab.note(&Frame::Started { prompt_tokens: 7 });
        tab.note(&tokens(3));
        let line = ReceiptLine {
            task: work.task,
            order: order.digest(),
            model,
            prompt_tokens: 7,
            output_tokens: 3,
            price: PRICE,
            evidence: [4; 32],
            started_unix_ms: 1,
            ended_unix_ms: 2,
        };
        let receipt = |lines| Receipt { pool: purse.pool, client: purse.key.id(), node: node.id(), lines };
        let due = |receipt: &Receipt| purse.countersign(&tab, &node.sign(receipt));
        let honest = receipt(vec![line.clone()]);
        let signature = due(&honest).expect("it is right");
        let both = protocol::market::Countersigned { receipt: node.sign(&honest), countersignature: signature };
        assert_eq!(both.open(&trust::Strict), Some(honest.clone()));
        assert!(due(&receipt(vec![ReceiptLine { output_tokens: 2, ..line.clone() }])).is_some(), "less than is due");
        for (what, wrong) in [
            ("more was written", receipt(vec![ReceiptLine { output_tokens: 4, ..line.clone() }])),
            ("more was read", receipt(vec![ReceiptLine { prompt_tokens: 8, ..line.clone() }])),
            ("another order", receipt(vec![ReceiptLine { order: [9; 32], ..line.clone() }])),
            ("another task", receipt(vec![ReceiptLine { task: TaskId([9; 16]), ..line.clone() }])),
            ("another evidence", receipt(vec![ReceiptLine { evidence: [9; 32], ..line.clone() }])),
            ("another model", receipt(vec![ReceiptLine { model: ModelDigest([9; 32]), ..line.clone() }])),
            (
                "a higher price",
                receipt(vec![ReceiptLine { price: Price { output_micro: 2_001, ..PRICE }, ..line.clone() }]),
            ),
            ("two lines", receipt(vec![line.clone(), line.clone()])),
            ("another pool", Receipt { pool: PoolId([9; 32]), ..honest.clone() }),
            ("another client", Receipt { client: node.id(), ..honest.clone() }),
        ] {
            assert!(due(&wrong).is_none(), "{what}");
        }
        assert!(purse.countersign(&tab, &purse.key.sign(&honest)).is_none(), "signed by somebody else");
    }
}
