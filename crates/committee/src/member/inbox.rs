//! What comes from other members, and where it goes.

use super::{Shared, now};
use crate::{
    body,
    message::{CATCH_UP, FACTS, Message},
};
use bytes::Bytes;
use consensus::CHANNELS;
use protocol::ids::NodeId;
use std::sync::{Arc, Mutex, atomic::Ordering};
use tokio::sync::mpsc;

/// Messages for the engine that may wait.
pub(super) const ENGINE_QUEUE: usize = 4096;
/// Lists of bundles, and questions, that may wait. What does not fit is dropped: it is said again.
const QUEUE: usize = 64;
/// Answers that a member which catches up may not have looked at yet. Their parts may be large.
pub(super) const ANSWERS: usize = 32;

pub(super) type Received = (NodeId, u8, Bytes);

/// Where the engine's messages go: each engine has a queue of its own.
pub(super) type ToEngine = Arc<Mutex<Option<mpsc::Sender<Received>>>>;

/// Sorts what comes, until nothing more does.
pub(super) async fn sort(
    shared: Arc<Shared>,
    mut receive: mpsc::Receiver<Received>,
    to_engine: ToEngine,
    answers: mpsc::Sender<(NodeId, Message)>,
) {
    let (facts, heard) = mpsc::channel(QUEUE);
    let (questions, asked) = mpsc::channel(QUEUE);
    let sort = async {
        while let Some((from, channel, message)) = receive.recv().await {
            shared.peers.heard(from, now());
            // Whatever is full loses the message, and nobody waits.
            match channel {
                engine if engine < CHANNELS => {
                    if let Some(engine) = &*crate::locks::locked(&to_engine) {
                        let _ = engine.try_send((from, channel, message));
                    }
                }
                FACTS => drop(facts.try_send((from, message))),
                CATCH_UP => match Message::decode(&message) {
                    Some(Message::Here(here)) => shared.peers.here(from, here, shared.chain.epoch()),
                    Some(answer @ (Message::Snapshot { .. } | Message::Part { .. })) => {
                        if shared.catches_up.load(Ordering::Relaxed) {
                            drop(answers.try_send((from, answer)));
                        }
                    }
                    Some(question) => drop(questions.try_send((from, question))),
                    None => shared.peers.accuse(from, "a message that cannot be read".to_owned()),
                },
                _ => {}
            }
        }
    };
    tokio::join!(sort, hear(&shared, heard), answer(Arc::clone(&shared), asked));
}

/// Takes in bundles that others have been told.
async fn hear(shared: &Shared, mut heard: mpsc::Receiver<(NodeId, Bytes)>) {
    while let Some((from, message)) = heard.recv().await {
        let Some(bundles) = body::decode(&message) else {
            shared.peers.accuse(from, "a list of bundles that cannot be read".to_owned());
            continue;
        };
        for signed in bundles {
            match shared.chain.opened(signed, Some(from)) {
                // Without room it is lost, and comes again.
                Ok(entry) => drop(shared.chain.hear(entry)),
                Err(why) => {
                    shared.peers.accuse(from, format!("a bundle that it should not have passed on: {why}"));
                    break;
                }
            }
            tokio::task::yield_now().await;
        }
    }
}

/// Answers questions of those who catch up, one after the other.
async fn answer(shared: Arc<Shared>, mut asked: mpsc::Receiver<(NodeId, Message)>) {
    while let Some((from, question)) = asked.recv().await {
        let answering = Arc::clone(&shared);
        let signs_from_epoch = shared.signs_from_epoch().unwrap_or(u64::MAX);
        let answer = tokio::task::spawn_blocking(move || {
            answering.serving.answer(&answering.chain, &question, signs_from_epoch)
        });
        if let Ok(Some(answer)) = answer.await {
            shared.peers.tell(from, &answer);
        }
    }
}
