//! What members and auditors ask of the pool's agreed state: proofs, lists, and to have something agreed on.

use crate::{ledger, shared::Shared};
use protocol::{
    codec,
    ids::NodeId,
    limits,
    link::{Answer, Submitted, Unanswered},
    pool::Listing,
    signed::Signed,
    statement::LedgerQuestion,
};
use registry::{Bundle, keys};
use std::time::Duration;
use tokio::time::timeout;

/// A bundle that is not final by then may still become so: whoever asks is told that.
const SUBMIT_TIME_MAX: Duration = Duration::from_secs(20);

/// Has a bundle agreed on. What the answer says is also in the block that is shown from then on.
pub(super) async fn submit(shared: &Shared, client: NodeId, bundle: &[u8]) -> Answer {
    let Ok(signed) = codec::decode::<Signed<Bundle>>(bundle, limits::QUESTION_BYTES_MAX) else {
        return Answer::Malformed;
    };
    let Ok(said) = signed.decode_unverified() else { return Answer::Malformed };
    if !shared.clients().may_submit(client, shared.now().steady_ms) {
        return Answer::Unanswered(Unanswered::Busy);
    }
    let (author, sequence) = (said.author, said.sequence);
    let why = match timeout(SUBMIT_TIME_MAX, shared.member.submit(signed)).await {
        Ok(Ok(events)) => {
            shared.anchors.show(|state| state.read(&keys::sequence(author)) >= Some(sequence)).await;
            let events = u32::try_from(events.len()).unwrap_or(u32::MAX);
            return Answer::Submitted(Submitted::Final { events });
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!(
            "it was not agreed on within {} s, and may still be: look before you say it again",
            SUBMIT_TIME_MAX.as_secs()
        ),
    };
    let why = why.chars().take(limits::WHY_CHARS_MAX).collect();
    Answer::Submitted(Submitted::Refused { why })
}

/// Proves what is, or is not, under some keys.
pub(super) async fn prove(shared: &Shared, client: NodeId, asked: &[Vec<u8>]) -> Answer {
    let is_bounded = asked.len() <= limits::PROVEN_MAX
        && asked.iter().all(|key| (1..=limits::STATE_KEY_BYTES_MAX).contains(&key.len()));
    if !is_bounded {
        return Answer::Malformed;
    }
    if !shared.clients().may_read(client, shared.now().steady_ms) {
        return Answer::Unanswered(Unanswered::Busy);
    }
    if asked.iter().any(|key| keys::is_of_ledger(key)) && !ledger::may_know_all(&shared.registry(), client) {
        return Answer::Unanswered(Unanswered::NotYours);
    }
    // It waits a moment for the first.
    let _ = shared.anchors.first().await;
    match shared.anchors.current() {
        Some(anchored) => Answer::Proven(Box::new(anchored.proofs(asked))),
        None => Answer::Unanswered(Unanswered::NotReady),
    }
}

/// What a ledger's question is answered with: by proofs where that can be, else by what was seen here.
pub(super) async fn ledger(shared: &Shared, client: NodeId, question: &Signed<LedgerQuestion>) -> Answer {
    if !shared.clients().may_read(client, shared.now().steady_ms) {
        return Answer::Unanswered(Unanswered::Busy);
    }
    Answer::Ledger(Box::new(ledger::answer(shared, client, question).await))
}

/// A part of a list.
pub(super) fn list(shared: &Shared, client: NodeId, what: Listing, after: Option<[u8; 32]>) -> Answer {
    if !shared.clients().may_read(client, shared.now().steady_ms) {
        return Answer::Unanswered(Unanswered::Busy);
    }
    Answer::Listed(shared.registry().list(what, after, limits::LISTED_MAX))
}
