//! The answer of one node, frame by frame.

use super::SILENCE_TIME_MAX;
use protocol::{
    limits,
    link::End,
    sealing::{FrameOpener, SealError},
    stream::{Refused, Reply},
    task::Frame,
};
use std::collections::VecDeque;
use tokio::time::timeout;
use transport::{Boxed, ReceiveError, Receiver, Sender};

/// A task that a worker has taken, and its answer as it comes. Dropping it cancels the task.
pub struct Source {
    // Kept to the end: dropping it unfinished cancels.
    sender: Sender,
    opener: FrameOpener,
    // Frames of one message that are still sealed.
    sealed: VecDeque<Vec<u8>>,
    // Owns the receiver and survives that nobody waits for it: a message that is half read is not lost.
    reading: Option<Boxed<'static, (Receiver, Received)>>,
}

type Received = Result<Option<Reply>, ReceiveError>;

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
        Self { sender, opener, sealed: VecDeque::new(), reading: Some(read(receiver)) }
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
            // Nothing can follow: stop listening at once.
            self.reading = None;
            self.sealed.clear();
        }
        sign
    }

    async fn next_sign(&mut self) -> Result<Sign, SourceError> {
        loop {
            if let Some(sealed) = self.sealed.pop_front() {
                return self.opener.open(&sealed).map(Sign::Frame).map_err(SourceError::Corrupt);
            }
            let Some(reading) = &mut self.reading else {
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
                    self.sender.finish();
                    return Ok(Sign::Finished);
                }
                Ok(Some(Reply::Finished)) => return Err(SourceError::Unfinished),
                Ok(Some(Reply::Refused(refused))) => return Err(SourceError::Refused(refused)),
                Ok(Some(Reply::HandedBack)) => return Err(SourceError::HandedBack),
                Ok(Some(Reply::WorkerLost)) => return Err(SourceError::WorkerLost),
                Ok(Some(Reply::Accepted)) => return Err(SourceError::OutOfTurn),
                Ok(None) => return Err(SourceError::Lost("the node ended the stream".to_owned())),
                Err(error) => return Err(SourceError::Lost(error.to_string())),
            }
        }
    }

    /// Hears the node out after the final frame: its place is free then.
    pub(crate) async fn finish(mut self) {
        let rest = async { while let Ok(Sign::Alive | Sign::Frame(_)) = self.sign().await {} };
        // The answer is whole: a node that says no more, or too much, spoils nothing.
        let _ = timeout(SILENCE_TIME_MAX, rest).await;
        self.sender.finish();
    }
}

fn read(mut receiver: Receiver) -> Boxed<'static, (Receiver, Received)> {
    Box::pin(async move {
        let received = receiver.message(limits::STREAM_MESSAGE_BYTES_MAX).await;
        (receiver, received)
    })
}
