//! What this node is owed: it is put to orchestrators in the background, again and again, until it is agreed on.
//!
//! A bill begins with an order. The order is handed in at once and the task begins meanwhile; then come acknowledgements,
//! and at the end a receipt of both sides, which is handed in to be settled. Where the asker went away without one, the
//! last acknowledgement is claimed instead. Each bill is in a file of its own, for its owner only, so that a node that
//! died claims after its restart what it was owed before. A file goes when its bill is agreed on, or has run out.

use crate::state::Shared;
use protocol::{
    codec, limits,
    link::FromNode,
    market::{Ack, Claim, Countersigned, HoldId, Order, Word, WordOutcome},
    signed::Signed,
    time::unix_ms,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::HashMap,
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant, SystemTime},
};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

/// Bills at once; more paid tasks are not taken.
const BILLS_MAX: usize = 4_096;
/// What is due is handed in so often, together.
const SAY_EVERY: Duration = Duration::from_millis(500);
/// An orchestrator answers within this time, or another one is asked.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(3);
/// What could not be agreed on is tried again after this time.
const AGAIN_AFTER: Duration = Duration::from_secs(2);
/// And what an orchestrator has refused, after this.
const REFUSED_AGAIN_AFTER: Duration = Duration::from_secs(20);
/// So long before an order runs out its work is claimed, even if it still runs.
const CLAIM_BEFORE_MS: u64 = 2 * 60 * 1000;
const BILL_BYTES_MAX: usize = 16 << 10;

/// Whether the credits of an order are held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    /// That is not known yet.
    Asked,
    /// They are.
    Held,
    /// They are not, and why.
    Refused(String),
}

/// What is owed for one task.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Bill {
    order: Signed<Order>,
    until_unix_ms: u64,
    ack: Option<Signed<Ack>>,
    receipt: Option<Countersigned>,
    is_held: bool,
    /// Nothing more comes from the asker.
    has_ended: bool,
}

struct Entry {
    bill: Bill,
    standing: watch::Sender<Standing>,
    /// It is with an orchestrator, or was: not before then again.
    next: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Hold,
    Settle,
    Claim,
}

#[derive(Default)]
struct Inner {
    entries: HashMap<HoldId, Entry>,
    asked: HashMap<u64, Vec<(HoldId, Step)>>,
    last_number: u64,
}

/// What this node is owed.
pub(crate) struct Books {
    folder: Option<PathBuf>,
    inner: Mutex<Inner>,
    changed: Notify,
}

impl Books {
    /// What is in a folder of an earlier run, all of whose tasks have ended. Without a folder nothing survives an end.
    pub(crate) fn open(folder: Option<PathBuf>) -> Self {
        let mut inner = Inner::default();
        if let Some(folder) = &folder {
            match read_all(folder) {
                Ok(bills) => inner.entries.extend(bills),
                Err(error) => tracing::warn!(folder = %folder.display(), %error, "what is owed cannot be kept"),
            }
        }
        Self { folder, inner: Mutex::new(inner), changed: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no holder of this lock panics")
    }

    /// Bills that are not agreed on.
    pub(crate) fn count(&self) -> usize {
        self.lock().entries.len()
    }

    /// Begins a bill; `None` where there are too many, or one for this task.
    pub(crate) fn begin(
        &self,
        id: HoldId,
        order: Signed<Order>,
        until_unix_ms: u64,
    ) -> Option<watch::Receiver<Standing>> {
        let bill = Bill { order, until_unix_ms, ack: None, receipt: None, is_held: false, has_ended: false };
        let mut inner = self.lock();
        if inner.entries.len() >= BILLS_MAX || inner.entries.contains_key(&id) {
            return None;
        }
        self.keep(id, &bill);
        let (standing, watched) = watch::channel(Standing::Asked);
        inner.entries.insert(id, Entry { bill, standing, next: None });
        drop(inner);
        self.changed.notify_one();
        Some(watched)
    }

    fn change(&self, id: HoldId, change: impl FnOnce(&mut Bill)) {
        let mut inner = self.lock();
        let Some(entry) = inner.entries.get_mut(&id) else { return };
        change(&mut entry.bill);
        self.keep(id, &entry.bill);
    }

    /// The asker has acknowledged so much.
    pub(crate) fn acked(&self, id: HoldId, ack: Signed<Ack>) {
        self.change(id, |bill| bill.ack = Some(ack));
    }

    /// Both sides have signed.
    pub(crate) fn receipted(&self, id: HoldId, receipt: Countersigned) {
        self.change(id, |bill| (bill.receipt, bill.has_ended) = (Some(receipt), true));
    }

    /// Nothing more comes from the asker. What it has not acknowledged anything of is owed nothing.
    pub(crate) fn ended(&self, id: HoldId) {
        let mut inner = self.lock();
        let Some(entry) = inner.entries.get_mut(&id) else { return };
        entry.bill.has_ended = true;
        if entry.bill.ack.is_none() && entry.bill.receipt.is_none() {
            self.forget(&mut inner, id);
        } else {
            self.keep(id, &entry.bill);
        }
    }

    fn forget(&self, inner: &mut Inner, id: HoldId) {
        inner.entries.remove(&id);
        if let Some(folder) = &self.folder {
            // It may never have been written.
            let _ = fs::remove_file(folder.join(name(id)));
        }
    }

    fn keep(&self, id: HoldId, bill: &Bill) {
        let Some(folder) = &self.folder else { return };
        if let Err(error) = write(folder, id, bill) {
            tracing::warn!(folder = %folder.display(), %error, "what is owed is not kept over an end of this node");
        }
    }

    /// What is to be said now, in one message, if anything.
    fn next(&self, key: &trust::MachineKey, now: Instant, now_unix_ms: u64) -> Option<FromNode> {
        let mut inner = self.lock();
        let run_out: Vec<HoldId> =
            inner.entries.iter().filter(|(_, entry)| has_run_out(entry, now_unix_ms)).map(|(id, _)| *id).collect();
        for id in run_out {
            tracing::warn!(task = %id.task, "an order has run out before its work was paid");
            self.forget(&mut inner, id);
        }
        let (mut words, mut steps) = (Vec::new(), Vec::new());
        for (id, entry) in &mut inner.entries {
            if words.len() == limits::WORDS_MAX || entry.next.is_some_and(|next| now < next) {
                continue;
            }
            let bill = &entry.bill;
            let claims = bill.has_ended || now_unix_ms.saturating_add(CLAIM_BEFORE_MS) >= bill.until_unix_ms;
            let (step, word) = match (&bill.receipt, &bill.ack) {
                _ if !bill.is_held => (Step::Hold, Word::Hold(bill.order.clone())),
                (Some(receipt), _) => (Step::Settle, Word::Settle(receipt.clone())),
                (None, Some(ack)) if claims => (Step::Claim, Word::Claim(key.sign(&Claim { ack: ack.clone() }))),
                _ => continue,
            };
            entry.next = Some(now + ANSWER_TIME_MAX);
            words.push(word);
            steps.push((*id, step));
        }
        if words.is_empty() {
            return None;
        }
        inner.last_number += 1;
        let number = inner.last_number;
        // Answers that never came.
        inner.asked.retain(|asked, _| asked + 64 > number);
        inner.asked.insert(number, steps);
        Some(FromNode::Words { number, words })
    }

    /// What an orchestrator answers.
    pub(crate) fn said(&self, number: u64, outcomes: Vec<WordOutcome>) {
        let mut inner = self.lock();
        let Some(steps) = inner.asked.remove(&number) else { return };
        for ((id, step), outcome) in steps.into_iter().zip(outcomes) {
            let Some(entry) = inner.entries.get_mut(&id) else { continue };
            entry.next = None;
            match (outcome, step) {
                (WordOutcome::Agreed, Step::Hold) => {
                    entry.bill.is_held = true;
                    entry.standing.send_replace(Standing::Held);
                    self.keep(id, &entry.bill);
                }
                // What still runs may end with a receipt for more.
                (WordOutcome::Agreed, Step::Claim) if !entry.bill.has_ended => {
                    entry.next = Some(Instant::now() + ANSWER_TIME_MAX);
                }
                (WordOutcome::Agreed, Step::Settle | Step::Claim) => self.forget(&mut inner, id),
                (WordOutcome::Later, _) => entry.next = Some(Instant::now() + AGAIN_AFTER),
                // One orchestrator's word: it may be behind, or lie. What is earned is said again, to another one, until
                // the order has run out.
                (WordOutcome::Refused(why), step @ (Step::Settle | Step::Claim)) => {
                    tracing::warn!(task = %id.task, ?step, %why, "an orchestrator does not have work paid");
                    entry.next = Some(Instant::now() + REFUSED_AGAIN_AFTER);
                }
                (WordOutcome::Refused(why), step @ Step::Hold) => {
                    tracing::warn!(task = %id.task, ?step, %why, "work is not paid");
                    entry.standing.send_replace(Standing::Refused(why));
                    self.forget(&mut inner, id);
                }
            }
        }
        drop(inner);
        self.changed.notify_one();
    }

    /// Waits until nothing is owed that could be settled.
    pub(crate) async fn settled(&self) {
        while self.count() > 0 {
            tokio::time::sleep(SAY_EVERY / 10).await;
        }
    }
}

fn has_run_out(entry: &Entry, now_unix_ms: u64) -> bool {
    now_unix_ms > entry.bill.until_unix_ms.saturating_add(limits::CLOCK_SKEW_MS_MAX)
}

/// Hands in what is due until the end.
pub(crate) async fn run(shared: Arc<Shared>, stop: CancellationToken) {
    let mut turn = 0_usize;
    while !stop.is_cancelled() {
        tokio::select! {
            () = stop.cancelled() => return,
            () = shared.books.changed.notified() => {}
            () = tokio::time::sleep(SAY_EVERY) => {}
        }
        if shared.books.count() == 0 {
            continue;
        }
        let outlets: Vec<_> = shared.lock().outlets.values().cloned().collect();
        // Each time another one: what one orchestrator does not answer, the next is told.
        turn = turn.wrapping_add(1);
        let from = turn % outlets.len().max(1);
        let in_turn = outlets[from..].iter().chain(&outlets[..from]);
        let Some(outlet) = in_turn.into_iter().find(|outlet| outlet.capacity() > 0) else { continue };
        let now_unix_ms = unix_ms(SystemTime::now());
        while outlet.capacity() > 0
            && let Some(words) = shared.books.next(&shared.config.key, Instant::now(), now_unix_ms)
        {
            // A link that ends in this moment: it is said again.
            let _ = outlet.try_send(words);
        }
    }
}

fn name(id: HoldId) -> String {
    format!("{}-{}.bill", id.client, id.task)
}

/// Every bill in a folder, which is made where there is none. What is no bill is passed over.
fn read_all(folder: &Path) -> io::Result<Vec<(HoldId, Entry)>> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let mut bills = Vec::new();
    for file in fs::read_dir(folder)?.take(2 * BILLS_MAX) {
        let path = file?.path();
        if path.extension().is_none_or(|extension| extension != "bill") {
            continue;
        }
        let Ok(bill) = codec::decode::<Bill>(&fs::read(&path)?, BILL_BYTES_MAX) else {
            tracing::warn!(file = %path.display(), "no bill");
            continue;
        };
        let Ok(order) = bill.order.decode_unverified() else { continue };
        let id = HoldId { client: bill.order.signer, task: order.task, node: order.node };
        if bill.ack.is_none() && bill.receipt.is_none() {
            fs::remove_file(&path)?;
            continue;
        }
        let standing = watch::Sender::new(Standing::Asked);
        bills.push((id, Entry { bill: Bill { has_ended: true, ..bill }, standing, next: None }));
    }
    bills.truncate(BILLS_MAX);
    Ok(bills)
}

/// Whole, or not at all; a moment of it may be lost where the power fails.
fn write(folder: &Path, id: HoldId, bill: &Bill) -> io::Result<()> {
    let bytes = codec::encode(bill, BILL_BYTES_MAX).map_err(io::Error::other)?;
    let (path, new) = (folder.join(name(id)), folder.join(format!("{}.new", name(id))));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(&bytes)?;
    fs::rename(&new, &path)
}

#[cfg(test)]
mod tests;
