//! What the gateway needs from whoever carries tasks to workers: the seam between HTTP and the private path.

use client::{AskError, Client, Model, Pools};
use futures_util::{
    FutureExt, StreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use protocol::{
    ids::{NodeId, TaskId},
    task::{Frame, Task},
};

/// Carries tasks to workers. [`Client`] does it for a pool; tests put a pool in memory behind it.
pub trait Asker: Send + Sync + 'static {
    /// The models that the pool can serve, or could if a node were ready.
    fn models(&self) -> BoxFuture<'_, Result<Vec<Model>, AskError>>;

    /// Sends a task to a worker that serves `model`; `default` is the pool's default chat model.
    fn ask<'a>(&'a self, model: &'a str, task: Task) -> BoxFuture<'a, Result<Answer, AskError>>;

    /// Whether a link to an orchestrator is up.
    fn is_connected(&self) -> bool;
}

/// An answer that is being generated. Dropping it cancels the task.
pub struct Answer {
    /// The task it answers.
    pub task: TaskId,
    /// The model's own name, whatever alias was asked for.
    pub model: String,
    /// The machine that the worker runs on.
    pub node: NodeId,
    /// The frames in order; ends after the final one or after an error.
    pub frames: BoxStream<'static, Result<Frame, AskError>>,
}

impl Asker for Client {
    fn models(&self) -> BoxFuture<'_, Result<Vec<Model>, AskError>> {
        Client::models(self).boxed()
    }

    fn ask<'a>(&'a self, model: &'a str, task: Task) -> BoxFuture<'a, Result<Answer, AskError>> {
        async move { Client::ask(self, model, task).await.map(streamed) }.boxed()
    }

    fn is_connected(&self) -> bool {
        Client::is_connected(self)
    }
}

impl Asker for Pools {
    fn models(&self) -> BoxFuture<'_, Result<Vec<Model>, AskError>> {
        Pools::models(self).boxed()
    }

    fn ask<'a>(&'a self, model: &'a str, task: Task) -> BoxFuture<'a, Result<Answer, AskError>> {
        async move { Pools::ask(self, model, task).await.map(streamed) }.boxed()
    }

    fn is_connected(&self) -> bool {
        Pools::is_connected(self)
    }
}

fn streamed(mut answer: client::Answer) -> Answer {
    let (task, model, node) = (answer.task(), answer.model().to_owned(), answer.node());
    let frames = stream::poll_fn(move |context| answer.poll_next(context)).boxed();
    Answer { task, model, node, frames }
}
