//! One task that is paid: its order, what its asker acknowledges, and the receipt at its end.

use crate::{books::Standing, state::Shared};
use protocol::{
    grant::Permit,
    ids::NodeId,
    limits,
    market::{Ack, Countersigned, HoldId, Order, Price, Receipt, ReceiptLine},
    proof::Digest,
    signed::Signed,
    stream::{Payment, Refused, Reply},
    time::unix_ms,
};
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, timeout},
};
use transport::{Receiver, SendError, Sender};
use trust::Strict;

/// The order follows the task at once.
const ORDER_TIME_MAX: Duration = Duration::from_secs(10);
/// A task begins before its order is agreed on: nobody waits for agreement. Larger orders have to be held within this time,
/// or the node stops: so much of its work is at risk, and no more.
const HELD_TIME_MAX: Duration = Duration::from_secs(5);
/// An asker says within this time how much it got, and countersigns.
const SETTLE_TIME_MAX: Duration = Duration::from_secs(5);
/// Payments that wait: an asker that sends more is not heard.
const WAITING_MAX: usize = 16;
/// Frames that go out without an acknowledgement before the node stops. Each has a token at least, but for a few; some are
/// on their way to an asker that reads slowly.
const UNACKNOWLEDGED_MAX: usize = 1_024;

/// A task that is paid. Dropped without a receipt, the last acknowledgement is claimed.
pub(crate) struct Paid {
    shared: Arc<Shared>,
    id: HoldId,
    price: Price,
    order: Digest,
    amount_micro: u64,
    evidence: [u8; 32],
    started_unix_ms: u64,
    payments: mpsc::Receiver<Payment>,
    standing: watch::Receiver<Standing>,
    held_by: Option<Instant>,
    last: (u32, u32),
    unacknowledged: usize,
}

/// What follows from what the asker, or an orchestrator, said.
pub(crate) enum Turn {
    /// Nothing.
    GoesOn,
    /// The asker wants no more.
    Last,
    /// The node stops, and says this.
    Stops(Reply),
}

fn unpaid(why: &str) -> Refused {
    Refused::Unpaid { why: why.to_owned() }
}

impl Paid {
    /// Reads the order that belongs to a permit, and begins its bill.
    pub(crate) async fn begin(
        shared: &Arc<Shared>,
        client: NodeId,
        permit: &Permit,
        price: Price,
        evidence: [u8; 32],
        mut receiver: Receiver,
    ) -> Result<Self, Refused> {
        let first = timeout(ORDER_TIME_MAX, receiver.message(limits::PAYMENT_BYTES_MAX)).await;
        let Ok(Ok(Some(Payment::Order(signed)))) = first else { return Err(unpaid("an order has to follow the task")) };
        let order = checked(shared, client, permit, price, &signed)?;
        let id = HoldId { client, task: permit.task, node: permit.node };
        let begun = shared.books.begin(id, signed.clone(), order.until_unix_ms);
        let standing = begun.ok_or_else(|| unpaid("too much is not settled here: ask another node"))?;
        let held_by = (order.amount_micro > shared.config.credit_micro_max).then(|| Instant::now() + HELD_TIME_MAX);
        let (sender, payments) = mpsc::channel(WAITING_MAX);
        // A message that has begun is read to its end, whatever happens meanwhile. It ends with the stream.
        tokio::spawn(async move {
            while let Ok(Some(payment)) = receiver.message::<Payment>(limits::PAYMENT_BYTES_MAX).await {
                if sender.send(payment).await.is_err() {
                    return;
                }
            }
        });
        Ok(Self {
            shared: Arc::clone(shared),
            id,
            price,
            order: signed.digest(),
            amount_micro: order.amount_micro,
            evidence,
            started_unix_ms: unix_ms(SystemTime::now()),
            payments,
            standing,
            held_by,
            last: (0, 0),
            unacknowledged: 0,
        })
    }

    /// What happens next about money. May be given up and called again.
    pub(crate) async fn next(&mut self) -> Turn {
        let held_by = self.held_by.filter(|_| *self.standing.borrow() != Standing::Held);
        let too_late = async {
            match held_by {
                Some(by) => tokio::time::sleep_until(by).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = too_late => {
                let why = "it is not known in time whether the credits are held".to_owned();
                Turn::Stops(Reply::Refused(Refused::Unpaid { why }))
            }
            Some(payment) = self.payments.recv() => match payment {
                Payment::Ack(ack) => self.acked(ack, false),
                Payment::Last(ack) => self.acked(ack, true),
                Payment::Order(_) | Payment::Countersigned(_) => Turn::Stops(Reply::Refused(Refused::Malformed)),
            },
            Ok(()) = self.standing.changed() => match self.standing.borrow_and_update().clone() {
                Standing::Refused(why) => Turn::Stops(Reply::Refused(Refused::Unpaid { why })),
                Standing::Asked | Standing::Held => Turn::GoesOn,
            },
            // Neither asker nor books say anything any more.
            else => std::future::pending().await,
        }
    }

    /// Frames go out; whether too many did without an acknowledgement.
    pub(crate) fn sends(&mut self, frames: usize) -> Option<Reply> {
        self.unacknowledged += frames;
        let why = "what arrives is not acknowledged";
        (self.unacknowledged > UNACKNOWLEDGED_MAX).then(|| Reply::Refused(unpaid(why)))
    }

    fn acked(&mut self, signed: Signed<Ack>, is_last: bool) -> Turn {
        let right = signed.open(&Strict).filter(|ack| {
            signed.signer == self.id.client
                && (ack.pool, ack.task, ack.node) == (self.shared.config.ticket.pool, self.id.task, self.id.node)
                && (ack.order, ack.price) == (self.order, self.price)
                && ack.prompt_tokens >= self.last.0
                && ack.output_tokens >= self.last.1
        });
        let Some(ack) = right else { return Turn::Stops(Reply::Refused(unpaid("an acknowledgement is none"))) };
        // Only what is new: an asker that says the same again and again does not get more.
        let progress = (ack.output_tokens - self.last.1) as usize + usize::from(ack.prompt_tokens > self.last.0);
        self.unacknowledged = self.unacknowledged.saturating_sub(progress);
        self.last = (ack.prompt_tokens, ack.output_tokens);
        self.shared.books.acked(self.id, signed);
        if is_last {
            return Turn::Last;
        }
        // What is held is used up: it goes on elsewhere, or here under the next order.
        let is_used_up = self.price.of(self.last.0, self.last.1) > self.amount_micro;
        if is_used_up { Turn::Stops(Reply::HandedBack) } else { Turn::GoesOn }
    }

    /// Waits until the asker has said how much it got, and settles that with it. The answer is over.
    pub(crate) async fn conclude(mut self, sender: &mut Sender) -> Result<(), SendError> {
        let last = async {
            loop {
                match self.payments.recv().await? {
                    Payment::Last(ack) => return matches!(self.acked(ack, true), Turn::Last).then_some(()),
                    Payment::Ack(ack) => drop(self.acked(ack, false)),
                    Payment::Order(_) | Payment::Countersigned(_) => return None,
                }
            }
        };
        match timeout(SETTLE_TIME_MAX, last).await {
            Ok(Some(())) => self.settle(sender).await,
            // Dropping it claims what was acknowledged.
            _ => Ok(()),
        }
    }

    /// Signs what is due, and has it countersigned.
    pub(crate) async fn settle(mut self, sender: &mut Sender) -> Result<(), SendError> {
        let line = ReceiptLine {
            task: self.id.task,
            order: self.order,
            model: self.shared.config.model.digest,
            prompt_tokens: self.last.0,
            output_tokens: self.last.1,
            price: self.price,
            evidence: self.evidence,
            started_unix_ms: self.started_unix_ms,
            ended_unix_ms: unix_ms(SystemTime::now()),
        };
        let (pool, client) = (self.shared.config.ticket.pool, self.id.client);
        let receipt = Receipt { pool, client, node: self.id.node, lines: vec![line] };
        let receipt = self.shared.config.key.sign(&receipt);
        sender.message(&Reply::Due(receipt.clone()), limits::STREAM_MESSAGE_BYTES_MAX).await?;
        let countersigned = timeout(SETTLE_TIME_MAX, self.payments.recv()).await;
        if let Ok(Some(Payment::Countersigned(countersignature))) = countersigned {
            let both = Countersigned { receipt, countersignature };
            if both.open(&Strict).is_some() {
                self.shared.books.receipted(self.id, both);
            }
        }
        Ok(())
    }
}

impl Drop for Paid {
    fn drop(&mut self) {
        // After a receipt this changes nothing.
        self.shared.books.ended(self.id);
    }
}

/// The order, if it is for this task and good for its price.
fn checked(
    shared: &Shared,
    client: NodeId,
    permit: &Permit,
    price: Price,
    signed: &Signed<Order>,
) -> Result<Order, Refused> {
    let order = signed.open(&Strict).filter(|_| signed.signer == client);
    let order = order.ok_or_else(|| unpaid("the order's signature does not hold"))?;
    let now = unix_ms(SystemTime::now());
    for (what, holds) in [
        ("pool", order.pool == shared.config.ticket.pool),
        ("task", order.task == permit.task),
        ("node", order.node == permit.node),
        ("price", price.is_within(order.ceiling)),
        ("amount", order.amount_micro >= price.of(1, 1).max(1)),
        ("time", order.until_unix_ms > now && order.until_unix_ms <= now.saturating_add(limits::HOLD_LIFETIME_MS)),
    ] {
        if !holds {
            return Err(Refused::Unpaid { why: format!("the order has another {what}") });
        }
    }
    Ok(order)
}
