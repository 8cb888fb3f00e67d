//! The answer of one node, frame by frame.

use super::SILENCE_TIME_MAX;
use crate::purse::{Reading, Till};
use protocol::{
    limits,
    link::End,
    sealing::{FrameOpener, SealError},
    stream::{Refused, Reply},
    task::Frame,
};
use std::collections::VecDeque;
use tokio::time::timeout;
use transport::{Boxed, Receiver, Sender};

/// A task that a worker has taken, and its answer as it comes. Dropping it cancels the task.
pub struct Source {
    // Kept to the end: dropping it unfinished cancels. Where the node is paid, its till has it.
    sender: Option<Sender>,
    till: Option<Till>,
    // Nothing follows.
    ended: bool,
    opener: FrameOpener,
    // Frames of one message that are still sealed.
    sealed: VecDeque<Vec<u8>>,
    // Owns the receiver and survives that nobody waits for it: a message that is half read is not lost.
    reading: Option<Reading>,
}

/// What came from a node.
pub(crate) enum Sign {
    /// The next frame.
    Frame(Frame),
    /// The worker lives.
    Alive,
    /// The final frame came before, and the node is done.
    Finished,
}

/// Why an answer broke off at a node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The connection or the stream is gone.
    #[error("{0}")]
    Lost(String),
    /// No sign of life.
    #[error("the node went silent")]
    Silent,
    /// Signs of life, and no token.
    #[error("the worker makes no progress")]
    Stalled,
    /// The worker died.
    #[error("the worker died")]
    WorkerLost,
    /// The owner of the machine wants it.
    #[error("its owner takes the machine back")]
    HandedBack,
    /// The worker could not open the task, or could not take it after all.
    #[error("{0}")]
    Refused(Refused),
    /// A frame that the worker did not seal, or not in this place.
    #[error("a frame is {0}")]
    Corrupt(SealError),
    /// A frame of the worker that has no place in such an answer.
    #[error("a frame came that has no place there: {0}")]
    Misplaced(&'static str),
    /// The worker said that it failed.
    #[error("{0}")]
    Failed(protocol::task::TaskError),
    /// The worker said that it cannot do this task, or cannot go on from where the answer is.
    #[error("{0}")]
    Declined(protocol::task::TaskError),
    /// The node said that it is done before the worker was.
    #[error("it ended without its final frame")]
    Unfinished,
    /// The node said something that has no place there.
    #[error("the node answered out of turn")]
    OutOfTurn,
}

impl SourceError {
    /// How the attempt has ended, in the words of an outcome.
    pub fn end(&self) -> End {
        match self {
            Self::Lost(_) | Self::WorkerLost | Self::Unfinished | Self::Failed(_) => End::Died,
            Self::Silent | Self::Stalled => End::Stalled,
            Self::HandedBack => End::HandedBack,
            Self::Refused(_) | Self::Declined(_) => End::Refused,
            Self::Corrupt(_) | Self::Misplaced(_) | Self::OutOfTurn => End::Corrupt,
        }
    }

    /// Whether an orchestrator should look after the node: it may be gone without a word.
    pub(crate) fn is_suspect(&self) -> bool {
        matches!(self, Self::Lost(_) | Self::Silent | Self::Corrupt(_) | Self::Unfinished | Self::OutOfTurn)
    }
}

impl Source {
    pub(super) fn new(sender: Sender, receiver: Receiver, opener: FrameOpener) -> Self {
        let (sealed, reading) = (VecDeque::new(), Some(read(receiver)));
        Self { sender: Some(sender), till: None, ended: false, opener, sealed, reading }
    }

    pub(super) fn paid(till: Till, receiver: Receiver, opener: FrameOpener) -> Self {
        let (sealed, reading) = (VecDeque::new(), Some(read(receiver)));
        Self { sender: None, till: Some(till), ended: false, opener, sealed, reading }
    }

    /// The next frame; `None` when the answer is whole. A node that gives no sign of life for
    /// [`SILENCE_MS_MAX`](protocol::stream::SILENCE_MS_MAX) has failed. May be given up and called again.
    #[expect(clippy::should_implement_trait, reason = "a future is no iterator's item")]
    pub fn next(&mut self) -> Boxed<'_, Result<Option<Frame>, SourceError>> {
        Box::pin(async {
            loop {
                match timeout(SILENCE_TIME_MAX, self.sign()).await.map_err(|_| SourceError::Silent)?? {
                    Sign::Frame(frame) => return Ok(Some(frame)),
                    Sign::Alive => {}
                    Sign::Finished => return Ok(None),
                }
            }
        })
    }

    /// The next frame or sign of life, without a bound on the time. May be given up and called again.
    pub(crate) async fn sign(&mut self) -> Result<Sign, SourceError> {
        let sign = self.next_sign().await;
        if sign.is_err() {
            // Nothing can follow: stop listening at once, but to what is due.
            self.ended = true;
            if self.till.is_none() {
                self.reading = None;
            }
            self.sealed.clear();
        }
        sign
    }

    async fn next_sign(&mut self) -> Result<Sign, SourceError> {
        loop {
            if let Some(sealed) = self.sealed.pop_front() {
                let frame = self.opener.open(&sealed).map_err(SourceError::Corrupt)?;
                if let Some(till) = &mut self.till {
                    till.note(&frame);
                }
                return Ok(Sign::Frame(frame));
            }
            let Some(reading) = self.reading.as_mut().filter(|_| !self.ended) else {
                let ended = SourceError::Lost("the answer has broken off before".to_owned());
                return if self.opener.is_complete() { Ok(Sign::Finished) } else { Err(ended) };
            };
            let (receiver, received) = reading.await;
            self.reading = None;
            match received {
                Ok(Some(Reply::Frames(frames))) => {
                    self.reading = Some(read(receiver));
                    if frames.is_empty() {
                        return Ok(Sign::Alive);
                    }
                    self.sealed = frames.into();
                }
                Ok(Some(Reply::KeepAlive)) => {
                    self.reading = Some(read(receiver));
                    return Ok(Sign::Alive);
                }
                Ok(Some(Reply::Finished)) if self.opener.is_complete() => {
                    if let Some(sender) = &mut self.sender {
                        sender.finish();
                    }
                    self.ends(receiver);
                    return Ok(Sign::Finished);
                }
                Ok(Some(last)) => {
                    self.ends(receiver);
                    return Err(match last {
                        Reply::Finished => SourceError::Unfinished,
                        Reply::Refused(refused) => SourceError::Refused(refused),
                        Reply::HandedBack => SourceError::HandedBack,
                        Reply::WorkerLost => SourceError::WorkerLost,
                        _ => SourceError::OutOfTurn,
                    });
                }
                Ok(None) => return Err(SourceError::Lost("the node ended the stream".to_owned())),
                Err(error) => return Err(SourceError::Lost(error.to_string())),
            }
        }
    }

    /// Nothing of the answer follows; what is due may.
    fn ends(&mut self, receiver: Receiver) {
        self.ended = true;
        self.reading = self.till.is_some().then(|| read(receiver));
    }

    /// Hears the node out after the final frame: its place is free then.
    pub(crate) async fn finish(mut self) {
        let rest = async { while let Ok(Sign::Alive | Sign::Frame(_)) = self.sign().await {} };
        // The answer is whole: a node that says no more, or too much, spoils nothing.
        let _ = timeout(SILENCE_TIME_MAX, rest).await;
        if let Some(sender) = &mut self.sender {
            sender.finish();
        }
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        if let Some(till) = self.till.take() {
            till.settle(self.reading.take());
        }
    }
}

fn read(mut receiver: Receiver) -> Reading {
    Box::pin(async move {
        let received = receiver.message(limits::STREAM_MESSAGE_BYTES_MAX).await;
        (receiver, received)
    })
}
