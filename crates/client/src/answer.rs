use crate::{AskError, Shared, attempt::AcceptedStream};
use protocol::{
    ids::{NodeId, TaskId},
    limits,
    sealing::FrameOpener,
    stream::{Reply, SILENCE_MS_MAX},
    task::Frame,
};
use std::{sync::Arc, time::Duration};
use tokio::{sync::mpsc, time::timeout};
use transport::Receiver;

/// Frames that wait for a slow reader before the node is made to wait.
const FRAMES_WAITING_MAX: usize = 256;
/// Silence after which the orchestrator is asked to look after the node.
const REPORT_AFTER: Duration = Duration::from_millis(SILENCE_MS_MAX);
/// Further silence after which the answer is given up.
const GIVE_UP_AFTER: Duration = Duration::from_secs(5);

/// An answer that is being generated. Dropping it cancels the task.
pub struct Answer {
    task: TaskId,
    node: NodeId,
    model: String,
    frames: mpsc::Receiver<Result<Frame, AskError>>,
}

impl Answer {
    pub(crate) fn start(
        shared: Arc<Shared>,
        task: TaskId,
        node: NodeId,
        model: String,
        stream: AcceptedStream,
    ) -> Self {
        let (sender, frames) = mpsc::channel(FRAMES_WAITING_MAX);
        // A task of its own: a reader may stop waiting for a frame at any time, a half-read message may not.
        tokio::spawn(relay(shared, node, stream, sender));
        Self { task, node, model, frames }
    }

    /// The task that it answers.
    pub fn task(&self) -> TaskId {
        self.task
    }

    /// The machine that the worker runs on.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// The model's canonical name, whatever name was asked for.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// The next frame; `None` after the final one or after an error. May be given up and called again.
    pub async fn next(&mut self) -> Option<Result<Frame, AskError>> {
        self.frames.recv().await
    }

    /// [`Answer::next`] for a `Stream`'s `poll_next`.
    pub fn poll_next(
        &mut self,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame, AskError>>> {
        self.frames.poll_recv(context)
    }
}

type Frames = mpsc::Sender<Result<Frame, AskError>>;

async fn relay(shared: Arc<Shared>, node: NodeId, stream: AcceptedStream, frames: Frames) {
    // The sending half is kept to the end: dropping it would cancel.
    let AcceptedStream { mut sender, mut receiver, mut opener } = stream;
    let result = tokio::select! {
        biased;
        // Nobody waits for the answer: the stream's halves are dropped, which cancels at the node.
        () = frames.closed() => return,
        result = read(&shared, node, &mut receiver, &mut opener, &frames) => result,
    };
    match result {
        Ok(()) => sender.finish(),
        Err(error) => {
            // A reader that has gone does not care.
            let _ = frames.send(Err(error)).await;
        }
    }
}

/// Reads to the final frame.
async fn read(
    shared: &Arc<Shared>,
    node: NodeId,
    receiver: &mut Receiver,
    opener: &mut FrameOpener,
    frames: &Frames,
) -> Result<(), AskError> {
    loop {
        match next_reply(shared, node, receiver).await? {
            Reply::Frames(sealed) => {
                for bytes in sealed {
                    let frame = opener.open(&bytes).map_err(|error| {
                        shared.report(node);
                        broken(&format!("a frame is {error}"))
                    })?;
                    let frame = match &frame {
                        Frame::Failed { error } => Err(AskError::Task(error.clone())),
                        _ => Ok(frame),
                    };
                    if frames.send(frame).await.is_err() {
                        return Ok(());
                    }
                }
            }
            Reply::KeepAlive => {}
            Reply::Finished if opener.is_complete() => return Ok(()),
            Reply::Finished => return Err(broken("it ended without its final frame")),
            Reply::Refused(refused) => return Err(broken(&refused.to_string())),
            Reply::WorkerLost => return Err(broken("the worker died")),
            Reply::Accepted => return Err(broken("the node answered out of turn")),
        }
    }
}

async fn next_reply(shared: &Arc<Shared>, node: NodeId, receiver: &mut Receiver) -> Result<Reply, AskError> {
    let reply = receiver.message(limits::STREAM_MESSAGE_BYTES_MAX);
    tokio::pin!(reply);
    let received = match timeout(REPORT_AFTER, &mut reply).await {
        Ok(received) => received,
        Err(_) => {
            shared.report(node);
            timeout(GIVE_UP_AFTER, &mut reply).await.map_err(|_| broken("the node went silent"))?
        }
    };
    match received {
        Ok(Some(reply)) => Ok(reply),
        Ok(None) => Err(broken("the node ended the stream")),
        Err(error) => {
            shared.report(node);
            Err(broken(&error.to_string()))
        }
    }
}

fn broken(reason: &str) -> AskError {
    AskError::Broken { reason: reason.to_owned() }
}
