//! What was paid in a pool, as a file that proves itself: for a compliance review, offline, by whoever knows the pool's id.
//!
//! One JSON object a line. The first names the pool, how it began, and how its committees followed each other; the last
//! seals all lines before it with a signature of whoever made the file. Between them stands one line for each receipt:
//! which task ran where, on which evidence, under which policy, what it came to, and in `proof` what shows it (both
//! signatures, a final block with its certificate, and the proofs from the state in it). What is written in the clear is
//! nothing but what the proof says: [`verify`] writes each line anew from its proof and compares. No prompt, no answer,
//! and nothing that was made of one is in it.

use crate::ledger::History;
use data_encoding::HEXLOWER;
use protocol::{
    codec,
    genesis::Genesis,
    grant::Tier,
    header::Handover,
    ids::{NodeId, PoolId},
    limits,
    market::{HoldId, Receipt, ReceiptLine},
    pool::PoolPolicy,
    signed::{Signable, Signed},
    statement::Settlement,
};
use registry::{Share, keys, line_digest};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use trust::{
    MachineKey, Strict,
    light::{Light, Root},
};

const FORMAT: u32 = 1;
/// Longest part of a line, decoded: a receipt of as many lines as one may have, with its proofs.
const PART_BYTES_MAX: usize = 2 << 20;

/// Why a file shows nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct ExportError {
    /// Where, from 1.
    pub line: usize,
    /// What does not hold.
    pub why: String,
}

/// What a file shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Who made the file.
    pub signer: NodeId,
    /// Receipts in it.
    pub receipts: usize,
    /// Tasks that were paid.
    pub tasks: usize,
    /// What was paid, in micro-credits.
    pub paid_micro: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    kind: HeadKind,
    format: u32,
    pool: String,
    genesis: String,
    handovers: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum HeadKind {
    #[serde(rename = "pool")]
    Pool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    kind: LineKind,
    height: u64,
    unix_ms: u64,
    client: String,
    node: String,
    tasks: Vec<TaskLine>,
    policy: PolicyLine,
    proof: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum LineKind {
    #[serde(rename = "settlement")]
    Settlement,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TaskLine {
    task: String,
    model: String,
    evidence: String,
    started_unix_ms: u64,
    ended_unix_ms: u64,
    prompt_tokens: u32,
    output_tokens: u32,
    prompt_micro_per_1000: u64,
    output_micro_per_1000: u64,
    /// `null`: the pool has not agreed to pay this line.
    paid_micro: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicyLine {
    tier_min: Tier,
    regions: Vec<String>,
    models: Option<Vec<String>>,
    retains_nothing: bool,
    measured_only: bool,
    needs_approval: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct End {
    kind: EndKind,
    lines: u64,
    blake3: String,
    signer: String,
    seal: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum EndKind {
    #[serde(rename = "end")]
    End,
}

/// What the last line signs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Seal {
    pool: PoolId,
    lines: u64,
    digest: [u8; 32],
}

impl Signable for Seal {
    const CONTEXT: &'static str = "darkbloom/audit-export/1";
}

/// The file. Settlements that do not hold are an error: nobody signs what does not show what it says.
pub fn write(
    pool: PoolId,
    history: &History,
    settlements: &[Settlement],
    key: &MachineKey,
) -> Result<String, ExportError> {
    let head = Head {
        kind: HeadKind::Pool,
        format: FORMAT,
        pool: pool.to_string(),
        genesis: hex(1, &history.genesis)?,
        handovers: history.handovers.iter().map(|handover| hex(1, handover)).collect::<Result<_, _>>()?,
    };
    let mut text = json(&head) + "\n";
    let mut checker = Checker::new(pool, &history.genesis, history.handovers.clone()).map_err(at(1))?;
    for (number, settlement) in settlements.iter().enumerate() {
        let place = number + 2;
        text += &json(&checker.line(settlement, hex(place, settlement)?).map_err(at(place))?);
        text += "\n";
    }
    let end = end(pool, &text, settlements.len() as u64 + 1, key)?;
    Ok(text + &json(&end) + "\n")
}

fn end(pool: PoolId, text: &str, lines: u64, key: &MachineKey) -> Result<End, ExportError> {
    let digest = *blake3::hash(text.as_bytes()).as_bytes();
    let seal = key.sign(&Seal { pool, lines, digest });
    let place = usize::try_from(lines).unwrap_or(usize::MAX);
    Ok(End {
        kind: EndKind::End,
        lines,
        blake3: HEXLOWER.encode(&digest),
        signer: key.id().to_string(),
        seal: hex(place, &seal)?,
    })
}

/// What a file shows to one who knows the pool's id and nothing else.
///
/// # Errors
/// If anything in it is not what it was when it was made, or was never so.
pub fn verify(text: &str, pool: PoolId) -> Result<Verified, ExportError> {
    let whole = text.strip_suffix('\n').ok_or_else(|| at(1)("the file has no end"))?;
    let lines: Vec<&str> = whole.split('\n').collect();
    let [first, between @ .., last] = &lines[..] else { return Err(at(1)("the file has no end")) };
    let head: Head = parsed(1, first)?;
    if head.format != FORMAT {
        return Err(at(1)("it has a form that this program does not know: install a newer version"));
    }
    if head.pool != pool.to_string() {
        return Err(at(1)("it is another pool's"));
    }
    let genesis: Genesis = unhex(1, &head.genesis)?;
    let handovers = head.handovers.iter().map(|handover| unhex(1, handover)).collect::<Result<Vec<Handover>, _>>()?;
    let mut checker = Checker::new(pool, &genesis, handovers).map_err(at(1))?;
    let mut verified = Verified { signer: NodeId([0; 32]), receipts: between.len(), tasks: 0, paid_micro: 0 };
    for (number, line) in between.iter().enumerate() {
        let place = number + 2;
        let said: Line = parsed(place, line)?;
        let settlement: Settlement = unhex(place, &said.proof)?;
        if checker.line(&settlement, said.proof.clone()).map_err(at(place))? != said {
            return Err(at(place)("it says something else than its proof"));
        }
        let paid = || said.tasks.iter().filter_map(|task| task.paid_micro);
        verified.tasks += paid().count();
        verified.paid_micro = verified.paid_micro.saturating_add(paid().fold(0, u64::saturating_add));
    }
    let place = lines.len();
    let end: End = parsed(place, last)?;
    let before = &whole[..whole.len() - last.len()];
    let digest = *blake3::hash(before.as_bytes()).as_bytes();
    let seal: Signed<Seal> = unhex(place, &end.seal)?;
    let said = seal.open(&Strict).ok_or_else(|| at(place)("its signature does not hold"))?;
    let is_whole = said == Seal { pool, lines: lines.len() as u64 - 1, digest };
    let is_shown = (end.lines, end.blake3.as_str(), end.signer.as_str())
        == (said.lines, HEXLOWER.encode(&digest).as_str(), seal.signer.to_string().as_str());
    if !is_whole || !is_shown {
        return Err(at(place)("what it seals is not what stands before it"));
    }
    Ok(Verified { signer: seal.signer, ..verified })
}

/// Follows the committees from block to block.
struct Checker {
    pool: PoolId,
    light: Light,
    handovers: std::vec::IntoIter<Handover>,
    next: Option<Handover>,
}

impl Checker {
    fn new(pool: PoolId, genesis: &Genesis, handovers: Vec<Handover>) -> Result<Self, String> {
        let light = Light::new(pool, genesis).map_err(|error| error.to_string())?;
        let mut handovers = handovers.into_iter();
        let next = handovers.next();
        Ok(Self { pool, light, handovers, next })
    }

    /// What a settlement shows, written out.
    fn line(&mut self, settlement: &Settlement, proof: String) -> Result<Line, String> {
        let receipt: Receipt = settlement.receipt.open(&Strict).ok_or("both sides have not signed the receipt")?;
        if receipt.pool != self.pool {
            return Err("the receipt is another pool's".to_owned());
        }
        let root = self.root(settlement)?;
        let policy = keys::policy().check(&settlement.policy, root.state()).map_err(|error| error.to_string())?;
        let policy = policy.ok_or("it shows a pool without a policy")?;
        if settlement.holds.len() != receipt.lines.len() {
            return Err("not every task has a proof".to_owned());
        }
        let mut tasks = Vec::with_capacity(receipt.lines.len());
        for (line, hold) in receipt.lines.iter().zip(&settlement.holds) {
            let id = HoldId { client: receipt.client, task: line.task, node: receipt.node };
            let hold = keys::hold(id).check(hold, root.state()).map_err(|error| error.to_string())?;
            let paid_micro = match hold.and_then(|hold| hold.share) {
                Some(Share::Paid { amount_micro, receipt }) if receipt == line_digest(line) => Some(amount_micro),
                _ => None,
            };
            tasks.push(task_line(line, paid_micro));
        }
        Ok(Line {
            kind: LineKind::Settlement,
            height: root.height(),
            unix_ms: root.unix_ms(),
            client: receipt.client.to_string(),
            node: receipt.node.to_string(),
            tasks,
            policy: policy_line(&policy),
            proof,
        })
    }

    fn root(&mut self, settlement: &Settlement) -> Result<Root, String> {
        let header = &settlement.anchor.header;
        while let Some(handover) = self.next.take_if(|next| next.last.header.epoch < header.epoch) {
            self.light.advance(&handover).map_err(|error| error.to_string())?;
            self.next = self.handovers.next();
        }
        // It is no news: only whether it was so counts.
        self.light.check_within(&settlement.anchor, u64::MAX, header.unix_ms).map_err(|error| error.to_string())
    }
}

fn task_line(line: &ReceiptLine, paid_micro: Option<u64>) -> TaskLine {
    TaskLine {
        task: line.task.to_string(),
        model: line.model.to_string(),
        evidence: HEXLOWER.encode(&line.evidence),
        started_unix_ms: line.started_unix_ms,
        ended_unix_ms: line.ended_unix_ms,
        prompt_tokens: line.prompt_tokens,
        output_tokens: line.output_tokens,
        prompt_micro_per_1000: line.price.prompt_micro,
        output_micro_per_1000: line.price.output_micro,
        paid_micro,
    }
}

fn policy_line(policy: &PoolPolicy) -> PolicyLine {
    PolicyLine {
        tier_min: policy.tier_min,
        regions: policy.regions.iter().map(|region| region.as_str().to_owned()).collect(),
        models: policy.models.as_ref().map(|models| models.iter().map(ToString::to_string).collect()),
        retains_nothing: policy.retains_nothing,
        measured_only: policy.measured_only,
        needs_approval: policy.needs_approval,
    }
}

fn at<T: ToString>(line: usize) -> impl Fn(T) -> ExportError {
    move |why| ExportError { line, why: why.to_string() }
}

fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("a line is plain data")
}

/// A line, in the one form in which it is written.
fn parsed<T: DeserializeOwned + Serialize>(place: usize, line: &str) -> Result<T, ExportError> {
    let value: T = serde_json::from_str(line).map_err(at(place))?;
    if json(&value) != line {
        return Err(at(place)("it is not in the form in which it was written"));
    }
    Ok(value)
}

fn hex<T: Serialize>(place: usize, value: &T) -> Result<String, ExportError> {
    codec::encode(value, PART_BYTES_MAX).map(|bytes| HEXLOWER.encode(&bytes)).map_err(at(place))
}

fn unhex<T: DeserializeOwned>(place: usize, text: &str) -> Result<T, ExportError> {
    let bytes = HEXLOWER.decode(text.as_bytes()).map_err(at(place))?;
    codec::decode(&bytes, PART_BYTES_MAX).map_err(at(place))
}

const _: () = assert!(PART_BYTES_MAX > limits::RECEIPT_LINES_MAX * limits::PROOF_BYTES_MAX);
