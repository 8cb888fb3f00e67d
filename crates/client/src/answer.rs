//! One answer, from whichever nodes it takes.

mod failover;
mod lane;
mod pace;
mod progress;

pub(crate) use failover::Question;

use crate::{AskError, Shared};
use failover::Failover;
use protocol::{
    ids::{NodeId, TaskId},
    task::Frame,
};
use std::sync::{Arc, Mutex};
use tokio::sync::{mpsc, oneshot};

/// Frames that wait for a slow reader before the node is made to wait.
const FRAMES_WAITING_MAX: usize = 256;

/// An answer that is being generated. Dropping it cancels the task, wherever it runs.
///
/// Its reader sees one stream of frames, however many nodes it takes: `Started` once, each token and each byte of text
/// once, and `Done` with the usage of the whole (promise P3).
pub struct Answer {
    task: TaskId,
    model: String,
    place: Arc<Mutex<Place>>,
    frames: mpsc::Receiver<Result<Frame, AskError>>,
}

/// Where an answer comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) node: NodeId,
    pub(crate) handovers: u32,
}

/// What is known when the first node has the task.
pub(crate) struct Begun {
    pub(crate) task: TaskId,
    pub(crate) model: String,
    pub(crate) place: Arc<Mutex<Place>>,
}

impl Answer {
    /// Asks; returns when a node has the task. Giving up waiting cancels it.
    pub(crate) async fn begin(shared: Arc<Shared>, question: Question) -> Result<Self, AskError> {
        let (sender, frames) = mpsc::channel(FRAMES_WAITING_MAX);
        let (begun, beginning) = oneshot::channel();
        // A task of its own: a reader may stop waiting at any time, and nodes are heard meanwhile.
        tokio::spawn(Failover::new(shared, question, sender, begun).run());
        let Begun { task, model, place } = beginning.await.map_err(|_| ended())??;
        Ok(Self { task, model, place, frames })
    }

    /// The task that it answers, as it was first given to a node.
    pub fn task(&self) -> TaskId {
        self.task
    }

    /// The machine that the worker runs on now.
    pub fn node(&self) -> NodeId {
        self.place.lock().expect("no holder of this lock panics").node
    }

    /// How often another node took over.
    pub fn handovers(&self) -> u32 {
        self.place.lock().expect("no holder of this lock panics").handovers
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

/// Only where the runtime itself goes down.
fn ended() -> AskError {
    AskError::Broken { reason: "this client is going down".to_owned() }
}
