//! What machines sign about money: what a task may cost, what it used, and how far it got.
//!
//! | payload | signed by | says |
//! |---|---|---|
//! | [`Order`] | the asker's machine | hold at most this much of my account's credits for this node's work on this task |
//! | [`Ack`] | the asker's machine, every few tokens | this node gave me so much so far, at this price |
//! | [`Receipt`] | both | this node did so much on each of these tasks, at these prices: settle it |
//! | [`Claim`] | the node | my asker went away without a receipt: settle its last [`Ack`] |
//! | [`Close`] | the asker's machine | this node works on the task no more: give the rest back |
//!
//! Each names its pool, so that nothing signed for one counts in another, and all but the first the order that it is
//! about ([`Signed::digest`]), so that nothing counts for a later order of the same task. Amounts are in micro-credits,
//! whole numbers.
//!
//! An order names one node, and what it holds is a promise to that node alone: nobody else can be paid from it, whatever
//! the asker signs with whom. A task that goes on at another node has an order for that one too.

use crate::{
    ids::{AccountId, ModelDigest, NodeId, PoolId, TaskId},
    limits,
    proof::Digest,
    signed::{Signable, Signature, Signed, Verifier},
};
use serde::{Deserialize, Serialize};

/// Tokens that a price is for.
pub const PRICED_TOKENS: u64 = 1_000;
/// The highest price: a million credits for 1,000 tokens.
pub const PRICE_MICRO_MAX: u64 = 1_000_000_000_000;

/// Micro-credits for each 1,000 tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Price {
    /// Of the prompt; those of a resumed answer are its part.
    pub prompt_micro: u64,
    /// That the node generated.
    pub output_micro: u64,
}

impl Price {
    /// Whether no part is above [`PRICE_MICRO_MAX`].
    pub fn is_valid(self) -> bool {
        self.prompt_micro <= PRICE_MICRO_MAX && self.output_micro <= PRICE_MICRO_MAX
    }

    /// Whether each part is at most that of `ceiling`.
    pub fn is_within(self, ceiling: Self) -> bool {
        self.prompt_micro <= ceiling.prompt_micro && self.output_micro <= ceiling.output_micro
    }

    /// What this many tokens cost, in micro-credits, rounded half up once. Total: what 64 bits do not hold is their
    /// maximum, and no valid price reaches it.
    pub fn of(self, prompt_tokens: u32, output_tokens: u32) -> u64 {
        let part = |tokens: u32, micro: u64| u128::from(tokens) * u128::from(micro);
        let sum = part(prompt_tokens, self.prompt_micro) + part(output_tokens, self.output_micro);
        u64::try_from((sum + u128::from(PRICED_TOKENS / 2)) / u128::from(PRICED_TOKENS)).unwrap_or(u64::MAX)
    }
}

/// Tokens that stand in front of a prompt and around it, by a model's template, at most about.
const TEMPLATE_TOKENS: u32 = 256;
/// Tokens that are held for where an asker set no bound: a longer answer goes on under the next order.
const UNBOUND_TOKENS: u32 = 4_096;
/// For how long an order holds, in milliseconds: longer than answers take, and its node has this time to say what is due.
pub const ORDER_LIFETIME_MS: u64 = 30 * 60 * 1000;
/// An asker acknowledges what it got each time that it is so many tokens more: what a node may lose.
pub const ACK_TOKENS: u32 = 128;

/// The tokens that a task of these sizes is paid for at most: of its prompt, and of its answer.
pub fn tokens_max(prompt_bucket_bytes: u32, answer_bucket_tokens: u32) -> (u32, u32) {
    let answer_tokens = if answer_bucket_tokens == 0 { UNBOUND_TOKENS } else { answer_bucket_tokens };
    (prompt_bucket_bytes.saturating_add(TEMPLATE_TOKENS), answer_tokens)
}

/// What a task of these sizes costs at most, in micro-credits: an order holds as much. A prompt has no more tokens than
/// bytes, but for those of the template. At least 1 where there is a price at all.
pub fn amount_micro(price: Price, prompt_bucket_bytes: u32, answer_bucket_tokens: u32) -> u64 {
    let (prompt_tokens, answer_tokens) = tokens_max(prompt_bucket_bytes, answer_bucket_tokens);
    if price == Price::default() { 0 } else { price.of(prompt_tokens, answer_tokens).saturating_add(1) }
}

/// Which credits are meant: what one asker holds for one node's work on one task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct HoldId {
    /// Who asks.
    pub client: NodeId,
    /// Which task.
    pub task: TaskId,
    /// Who serves.
    pub node: NodeId,
}

/// Holds credits for one node's work on a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// In which pool.
    pub pool: PoolId,
    /// Which task.
    pub task: TaskId,
    /// Who may be paid.
    pub node: NodeId,
    /// The most that its work may cost.
    pub amount_micro: u64,
    /// The highest price that it may ask.
    pub ceiling: Price,
    /// Until when, in milliseconds since 1970; then the rest returns.
    pub until_unix_ms: u64,
}

impl Signable for Order {
    const CONTEXT: &'static str = "darkbloom/order/1";
}

/// Something about money that who signed it cannot say as a fact itself, or need not: any orchestrator does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Word {
    /// Credits are to be held.
    Hold(Signed<Order>),
    /// Work is to be paid.
    Settle(Countersigned),
    /// It is to be paid though its asker went away.
    Claim(Signed<Claim>),
    /// Credits are to return.
    Close(Signed<Close>),
}

/// What became of a [`Word`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum WordOutcome {
    /// It is agreed on, now or before.
    Agreed,
    /// It may be later: say it again.
    Later,
    /// It never will be, and why.
    Refused(String),
}

/// What one node did for one asker: several tasks under the same two signatures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// In which pool.
    pub pool: PoolId,
    /// Who asked.
    pub client: NodeId,
    /// Who served.
    pub node: NodeId,
    /// One for each task: 1 to [`limits::RECEIPT_LINES_MAX`].
    pub lines: Vec<ReceiptLine>,
}

/// What a node did for one task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptLine {
    /// Which task.
    pub task: TaskId,
    /// The order that it is paid from ([`Signed::digest`]).
    pub order: Digest,
    /// With which model.
    pub model: ModelDigest,
    /// Tokens that it read, those of a resumed answer included.
    pub prompt_tokens: u32,
    /// Tokens that it generated.
    pub output_tokens: u32,
    /// What both had agreed on.
    pub price: Price,
    /// BLAKE3 of the evidence that the task was sealed to.
    pub evidence: [u8; 32],
    /// When it began, in milliseconds since 1970.
    pub started_unix_ms: u64,
    /// When it ended, in milliseconds since 1970.
    pub ended_unix_ms: u64,
}

impl Signable for Receipt {
    const CONTEXT: &'static str = "darkbloom/receipt/1";
}

/// A receipt that the node signed and the asker countersigned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Countersigned {
    /// Signed by the node.
    pub receipt: Signed<Receipt>,
    /// The asker's signature over the same bytes.
    pub countersignature: Signature,
}

impl Countersigned {
    /// Countersigns with whatever holds the asker's key.
    pub fn new(receipt: Signed<Receipt>, sign: impl FnOnce(&[u8]) -> [u8; 64]) -> Self {
        let countersignature = Signature::of(sign(&receipt.message()));
        Self { receipt, countersignature }
    }

    /// The receipt, if the node and the asker that it names have both signed it, and it has lines, and not too many.
    pub fn open(&self, verifier: &dyn Verifier) -> Option<Receipt> {
        let receipt = self.receipt.open(verifier)?;
        let is_bounded = (1..=limits::RECEIPT_LINES_MAX).contains(&receipt.lines.len());
        let is_countersigned =
            || verifier.holds(&receipt.client, &self.receipt.message(), &self.countersignature.bytes());
        (is_bounded && receipt.node == self.receipt.signer && is_countersigned()).then_some(receipt)
    }
}

/// How far one node got, in the words of its asker. A later one stands for all before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// In which pool.
    pub pool: PoolId,
    /// Which task.
    pub task: TaskId,
    /// Who serves.
    pub node: NodeId,
    /// The order that it is paid from ([`Signed::digest`]).
    pub order: Digest,
    /// Tokens that it read.
    pub prompt_tokens: u32,
    /// Tokens that have arrived.
    pub output_tokens: u32,
    /// What both had agreed on.
    pub price: Price,
}

impl Signable for Ack {
    const CONTEXT: &'static str = "darkbloom/ack/1";
}

/// A node's demand for what was acknowledged, where the asker does not sign a receipt. Signed by the node, so that nobody
/// settles it for less than it can show.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The last one, signed by the asker.
    pub ack: Signed<Ack>,
}

impl Signable for Claim {
    const CONTEXT: &'static str = "darkbloom/claim/1";
}

/// Says that a node works on a task no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Close {
    /// In which pool.
    pub pool: PoolId,
    /// Which task.
    pub task: TaskId,
    /// Which node.
    pub node: NodeId,
    /// The order whose rest is to return ([`Signed::digest`]).
    pub order: Digest,
}

impl Signable for Close {
    const CONTEXT: &'static str = "darkbloom/close/1";
}

/// A machine's word that an account may earn and spend for it. The account says the same by carrying it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountLink {
    /// In which pool.
    pub pool: PoolId,
    /// Whose.
    pub account: AccountId,
    /// Higher than in every link of this machine before; gaps do no harm. So an account that the machine has left does not
    /// get it back with an old link.
    pub number: u64,
}

impl Signable for AccountLink {
    const CONTEXT: &'static str = "darkbloom/account-link/1";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_holds_what_a_task_can_cost() {
        let price = Price { prompt_micro: 1_000, output_micro: 2_000 };
        assert_eq!(amount_micro(price, 1_024, 128), 1_024 + 256 + 2 * 128 + 1);
        assert_eq!(amount_micro(price, 1_024, 0), 1_024 + 256 + 2 * 4_096 + 1, "without a bound");
        assert_eq!(amount_micro(Price::default(), 1_024, 128), 0, "what is free needs no order");
        assert_eq!(amount_micro(Price { prompt_micro: 1, output_micro: 0 }, 0, 1), 1, "never nothing");
        let highest = Price { prompt_micro: PRICE_MICRO_MAX, output_micro: PRICE_MICRO_MAX };
        assert!(amount_micro(highest, u32::MAX, u32::MAX) > 1 << 60);
        // Whatever is within the sizes costs no more.
        for (prompt, output) in [(0, 0), (1, 1), (1_280, 128), (700, 3)] {
            assert!(price.of(prompt, output) <= amount_micro(price, 1_024, 128));
        }
    }

    #[test]
    fn a_price_is_rounded_half_up_once_and_never_overflows() {
        let price = Price { prompt_micro: 1, output_micro: 1 };
        for (prompt, output, micro) in
            [(0, 0, 0), (499, 0, 0), (500, 0, 1), (250, 250, 1), (1_499, 0, 1), (1_500, 0, 2)]
        {
            assert_eq!(price.of(prompt, output), micro, "{prompt} + {output}");
        }
        let highest = Price { prompt_micro: PRICE_MICRO_MAX, output_micro: PRICE_MICRO_MAX };
        assert_eq!(highest.of(u32::MAX, u32::MAX), u64::from(u32::MAX) * 2 * (PRICE_MICRO_MAX / PRICED_TOKENS));
        let absurd = Price { prompt_micro: u64::MAX, output_micro: u64::MAX };
        assert_eq!(absurd.of(u32::MAX, u32::MAX), u64::MAX);
        assert!(highest.is_valid() && !absurd.is_valid());
        assert!(price.is_within(highest) && !highest.is_within(price));
        assert!(!Price { output_micro: 2, ..price }.is_within(price), "each part by itself");
    }
}
