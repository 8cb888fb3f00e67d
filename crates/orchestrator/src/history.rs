//! How credits moved: what is derived from the ledger's events while they happen, for statements and audits.
//!
//! The agreed state says who has what, not how that came about. So each orchestrator writes down the movements of the
//! blocks that it takes in, and the receipts in them with proofs from a final block after them. Nothing else depends on
//! it: it is not agreed on, begins when the orchestrator does, has a gap where that was away and came back by a snapshot,
//! and of more than two files of a bounded length each the oldest is forgotten.

mod file;

use crate::{FolderError, ledger, shared::Shared};
use committee::Happened;
use file::Log;
use protocol::{
    ids::AccountId,
    limits,
    market::{Countersigned, ReceiptLine},
    statement::{LedgerAnswer, Movement, MovementKind, Settlement, Span},
};
use registry::{Event, Place, Posting, State, keys};
use std::{
    collections::VecDeque,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::broadcast::{self, error::RecvError};

/// Receipts that wait for a block that can be shown.
const WAITING_MAX: usize = 4_096;
/// What one answer holds of settlements, in bytes.
const ANSWER_BYTES_MAX: usize = 512 << 10;

/// How credits moved, as far as it was seen here.
pub(crate) struct History {
    movements: Arc<Mutex<Log>>,
    settlements: Arc<Mutex<Log>>,
}

impl History {
    /// What is in a folder; makes it where there is none.
    pub(crate) fn open(folder: &Path) -> Result<Self, FolderError> {
        let open = |name: &str| {
            let path = folder.join(name);
            let log = Log::open(&path).map_err(|cause| FolderError::File { path, cause })?;
            Ok::<_, FolderError>(Arc::new(Mutex::new(log)))
        };
        Ok(Self { movements: open("movements")?, settlements: open("settlements")? })
    }

    /// Movements from or to an account, or all.
    pub(crate) async fn movements(&self, account: Option<AccountId>, span: Span) -> LedgerAnswer {
        let is_wanted = move |movement: &Movement| {
            let is_of = |account| movement.from == Some(account) || movement.to == account;
            is_in(span, movement.unix_ms) && account.is_none_or(is_of)
        };
        let found = read(&self.movements, span.position, is_wanted, |found, _| found < limits::MOVEMENTS_MAX).await;
        match found {
            Ok((movements, next)) => LedgerAnswer::Movements { movements, next },
            Err(why) => LedgerAnswer::Refused(why),
        }
    }

    /// Settlements with what shows them.
    pub(crate) async fn settlements(&self, span: Span) -> LedgerAnswer {
        let is_wanted = move |settlement: &Settlement| is_in(span, settlement.anchor.header.unix_ms);
        let has_room = |found, bytes| found < limits::SETTLEMENTS_SHOWN_MAX && bytes < ANSWER_BYTES_MAX;
        match read(&self.settlements, span.position, is_wanted, has_room).await {
            Ok((settlements, next)) => LedgerAnswer::Settlements { settlements, next },
            Err(why) => LedgerAnswer::Refused(why),
        }
    }
}

fn is_in(span: Span, unix_ms: u64) -> bool {
    (span.from_unix_ms..span.to_unix_ms).contains(&unix_ms)
}

async fn read<T: serde::de::DeserializeOwned + Send + 'static>(
    log: &Arc<Mutex<Log>>,
    position: u64,
    is_wanted: impl Fn(&T) -> bool + Send + 'static,
    has_room: impl Fn(usize, usize) -> bool + Send + 'static,
) -> Result<(Vec<T>, Option<u64>), String> {
    let log = Arc::clone(log);
    let read = move || {
        let log = log.lock().unwrap_or_else(PoisonError::into_inner);
        log.read(position, is_wanted, has_room)
    };
    let read = tokio::task::spawn_blocking(read).await.expect("reading a file neither panics nor is cancelled");
    read.map_err(|error| format!("the orchestrator cannot read its history: {error}"))
}

/// Writes down what happens, and does what follows from it.
pub(crate) async fn follow(shared: Arc<Shared>, mut happened: broadcast::Receiver<Arc<Happened>>) {
    let mut latest = shared.member.latest();
    let mut waiting: VecDeque<(u64, Countersigned)> = VecDeque::new();
    loop {
        tokio::select! {
            came = happened.recv() => match came {
                Ok(came) => {
                    take(&shared, &came);
                    waiting.extend(came.receipts.iter().map(|receipt| (came.height, receipt.clone())));
                    while waiting.len() > WAITING_MAX {
                        waiting.pop_front();
                    }
                }
                Err(RecvError::Lagged(blocks)) => tracing::warn!(blocks, "the history of the ledger has a gap"),
                Err(RecvError::Closed) => return,
            },
            changed = latest.changed(), if !waiting.is_empty() => if changed.is_err() {
                return;
            },
        }
        let anchored = latest.borrow_and_update().anchor.clone();
        if let Some(anchored) = anchored {
            let height = anchored.0.header.height;
            while let Some((_, receipt)) = waiting.pop_front_if(|(at, _)| *at <= height) {
                append(&shared.history.settlements, settlement(&anchored.1, anchored.0.clone(), receipt));
            }
        }
    }
}

/// What shows that a receipt is paid.
fn settlement(state: &State, anchor: protocol::header::Anchor, receipt: Countersigned) -> Option<Settlement> {
    let said = receipt.receipt.decode_unverified().ok()?;
    let hold = |line: &ReceiptLine| {
        let id = protocol::market::HoldId { client: said.client, task: line.task, node: said.node };
        state.prove(&keys::hold(id))
    };
    let holds = said.lines.iter().map(hold).collect();
    Some(Settlement { receipt, anchor, holds, policy: state.prove(&keys::policy()) })
}

fn append<T: serde::Serialize>(log: &Mutex<Log>, entry: Option<T>) {
    let Some(entry) = entry else { return };
    if let Err(error) = log.lock().unwrap_or_else(PoisonError::into_inner).append(&entry) {
        tracing::warn!(%error, "the history of the ledger cannot be written");
    }
}

fn take(shared: &Arc<Shared>, happened: &Happened) {
    for event in &happened.events {
        match event {
            Event::Posted(posting) => append(&shared.history.movements, movement(posting, happened)),
            Event::AskSet { node, model } => {
                let price = shared.registry().ask(*node, *model).unwrap_or_default();
                let now = shared.now();
                shared.live().priced(*node, *model, price, now);
            }
            Event::PolicySet => ledger::start_all(shared),
            _ => {}
        }
    }
}

fn movement(posting: &Posting, happened: &Happened) -> Option<Movement> {
    let (kind, from, to) = match (posting.from, posting.to) {
        (Place::Issue, Place::Available(to)) => (MovementKind::Started, None, to),
        (Place::Available(from), Place::Held(to)) => (MovementKind::Held, Some(from), to),
        (Place::Held(from), Place::Available(to)) if paid(posting, happened) => (MovementKind::Paid, Some(from), to),
        (Place::Held(from), Place::Available(to)) => (MovementKind::Returned, Some(from), to),
        _ => return None,
    };
    let (height, unix_ms) = (happened.height, happened.unix_ms);
    let line = (kind == MovementKind::Paid).then(|| line(posting, happened)).flatten();
    Some(Movement { height, unix_ms, kind, from, to, amount_micro: posting.amount_micro, hold: posting.hold, line })
}

/// Whether a posting from a hold is the payment, and not the return of the rest: payments come right before they are
/// noted, with the same amount, and the rest comes after.
fn paid(posting: &Posting, happened: &Happened) -> bool {
    let at =
        happened.events.iter().position(|event| matches!(event, Event::Posted(other) if std::ptr::eq(other, posting)));
    let next = at.and_then(|at| happened.events.get(at + 1));
    matches!(next, Some(Event::Settled { hold, amount_micro })
        if Some(*hold) == posting.hold && *amount_micro == posting.amount_micro)
}

fn line(posting: &Posting, happened: &Happened) -> Option<ReceiptLine> {
    let hold = posting.hold?;
    let receipts = happened.receipts.iter().filter_map(|receipt| receipt.receipt.decode_unverified().ok());
    let mut own = receipts.filter(|receipt| receipt.client == hold.client && receipt.node == hold.node);
    own.find_map(|receipt| receipt.lines.into_iter().find(|line| line.task == hold.task))
}
