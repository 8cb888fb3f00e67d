//! A client's link: one stream for each question.

use super::{SEND_TIME_MAX, reading};
use crate::{anchor, clients::ClientLink, clock, gossip, ledger, matching, outcomes, shared::Shared};
use protocol::{
    ids::NodeId,
    limits,
    link::{Answer, NodeRow, Question, Unanswered},
    market::WordOutcome,
};
use std::sync::Arc;
use tokio::time::timeout;
use transport::{Connection, ReceiveError, Receiver, Sender};

/// What fits one message beside everything that is not a row.
const ROWS_BYTES_MAX: usize = limits::LINK_MESSAGE_BYTES_MAX - 1024;

/// What a client may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum May {
    /// Everything.
    Ask,
    /// What the pool has agreed on, and how its nodes stand.
    Read,
}

/// Whether a machine takes part still, and how.
fn may(shared: &Shared, client: NodeId) -> Option<May> {
    let registry = shared.registry();
    if registry.is_member(client) {
        return Some(May::Ask);
    }
    registry.may_read(client).then_some(May::Read)
}

/// Serves the link until it ends. The transport bounds the streams that are open at a time.
pub(super) async fn run(shared: &Arc<Shared>, connection: &Connection, link: &ClientLink) {
    let (client, mut removals) = (link.client(), shared.removals.subscribe());
    loop {
        let stream = tokio::select! {
            stream = connection.accept_stream() => Some(stream),
            // The sender lives as long as what is shared.
            _ = removals.changed() => None,
        };
        if may(shared, client).is_none() {
            connection.close("removed from the pool");
            return;
        }
        let (sender, receiver) = match stream {
            Some(Some(stream)) => stream,
            Some(None) => return,
            None => continue,
        };
        let owner = Arc::clone(shared);
        shared.spawn(async move { serve(&owner, client, sender, receiver).await });
    }
}

async fn serve(shared: &Arc<Shared>, client: NodeId, mut sender: Sender, mut receiver: Receiver) {
    let question = receiver.message(limits::QUESTION_BYTES_MAX);
    let question = match timeout(shared.timings.question_max, question).await {
        Ok(Ok(question)) => question,
        Ok(Err(ReceiveError::Codec(_) | ReceiveError::Truncated)) => None,
        // Nobody waits for an answer any more.
        Ok(Err(_)) => return,
        Err(_) => {
            shared.counters.questions_missing.count();
            return;
        }
    };
    let _until_answered = shared.answers.token();
    let is_task = |question: &Question| {
        matches!(
            question,
            Question::Match(_)
                | Question::Report { .. }
                | Question::Outcome(_)
                | Question::Audit { .. }
                | Question::Word(_)
        )
    };
    let answer = match question {
        None => Answer::Malformed,
        Some(question) if is_task(&question) && may(shared, client) != Some(May::Ask) => {
            Answer::Unanswered(Unanswered::ReadsOnly)
        }
        Some(Question::Match(request)) if matching::is_bounded(&request) => {
            let gone = sender.stopped();
            let begun = clock::instant();
            match matching::answer(shared, client, request, gone).await {
                Some(reply) => {
                    // `cargo xtask bench links` reads it.
                    tracing::debug!(took_us = begun.elapsed().as_micros(), "matched");
                    Answer::Match(reply)
                }
                // Dropping the stream cancels it.
                None => return,
            }
        }
        Some(question) => answer(shared, client, question).await,
    };
    if answer == Answer::Malformed {
        shared.counters.questions_malformed.count();
    }
    let sent = timeout(SEND_TIME_MAX, sender.message(&answer, limits::LINK_MESSAGE_BYTES_MAX)).await;
    match sent {
        Ok(Ok(())) => {
            sender.finish();
            if shared.desk().is_closed() {
                // The end of the connection must not overtake it.
                let _ = timeout(SEND_TIME_MAX, sender.stopped()).await;
            }
        }
        // Dropping the stream cancels it.
        Ok(Err(error)) => tracing::debug!(%error, "an answer was not sent"),
        Err(_) => tracing::debug!("an answer was not read"),
    }
}

async fn answer(shared: &Arc<Shared>, client: NodeId, question: Question) -> Answer {
    match question {
        Question::Match(_) => Answer::Malformed,
        Question::Models => {
            let registry = shared.registry();
            Answer::Models(shared.live().offers(&registry))
        }
        Question::Nodes => Answer::Nodes(rows(shared).await),
        Question::Report { node } => {
            report(shared, client, node);
            Answer::Noted
        }
        Question::Outcome(outcome) => {
            outcomes::take(shared, client, &outcome);
            Answer::Noted
        }
        Question::Committee { from_epoch } => {
            let handovers = shared.member.handovers(from_epoch).await;
            let params = shared.registry().state().read(&registry::keys::params());
            let lineage = params.map(|params| anchor::lineage(params.genesis, handovers));
            lineage.map_or(Answer::Malformed, |lineage| Answer::Committee(Box::new(lineage)))
        }
        Question::Submit { bundle } => reading::submit(shared, client, &bundle).await,
        Question::Prove { keys } => reading::prove(shared, client, &keys).await,
        Question::List { what, after } => reading::list(shared, client, what, after),
        Question::Word(word) => Answer::Word(if shared.clients().may_report(client, shared.now().steady_ms) {
            ledger::say_one(shared, *word).await
        } else {
            WordOutcome::Later
        }),
        Question::Ledger(question) => reading::ledger(shared, client, &question).await,
        Question::Audit { task } => Answer::Audit(matching::reading(shared, client, task).map(Box::new)),
    }
}

/// As many rows as fit one message. A pool that large is looked at where it is run.
async fn rows(shared: &Shared) -> Vec<NodeRow> {
    let (mut rows, mut bytes, mut after) = (Vec::new(), 0, None);
    loop {
        let slice = shared.rows_after(after);
        let Some(last) = slice.last().map(|row| row.node) else { return rows };
        after = Some(last);
        for row in slice {
            // The longest reason, the id and the numbers take less than 1 KiB; a rate less than 64 bytes.
            bytes += 1024 + row.label.len() + row.models.iter().map(|name| name.len() + 4).sum::<usize>();
            bytes += 64 * row.rates.len();
            if bytes > ROWS_BYTES_MAX {
                return rows;
            }
            rows.push(row);
        }
        tokio::task::yield_now().await;
    }
}

/// A report is no evidence, only an occasion to look: the node is probed, here or by its homes, and fails or doesn't.
fn report(shared: &Arc<Shared>, client: NodeId, node: NodeId) {
    shared.counters.reports.count();
    if !shared.clients().may_report(client, shared.now().steady_ms) {
        shared.counters.reports_limited.count();
        return;
    }
    let is_direct = {
        let mut live = shared.live();
        let is_direct = live.is_direct(node);
        if !is_direct {
            live.reported(node, shared.now());
        }
        is_direct
    };
    if is_direct {
        gossip::probe(shared, node);
    } else {
        gossip::doubt(shared, node, None);
    }
}
