//! What orchestrators are told in passing: nodes that went silent, and how tasks ended. Nobody waits for it.

use crate::link::Link;
use protocol::{
    ids::NodeId,
    link::{Outcome, Question},
};
use std::time::Duration;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

/// Notices that wait. Where the pool is out of reach for longer, they are lost: each is one observation of many.
const WAITING_MAX: usize = 256;
/// How long the end of a client waits for its last notices.
const FLUSH_TIME_MAX: Duration = Duration::from_secs(1);

/// Where notices are left. Cloning it is cheap.
#[derive(Clone)]
pub(crate) struct Notices {
    waiting: mpsc::Sender<Notice>,
}

enum Notice {
    Tell(Question),
    Flush(oneshot::Sender<()>),
}

impl Notices {
    /// Starts what carries them; it ends with the last clone.
    pub(crate) fn start(link: Link) -> Self {
        let (waiting, mut notices) = mpsc::channel(WAITING_MAX);
        tokio::spawn(async move {
            while let Some(notice) = notices.recv().await {
                match notice {
                    Notice::Tell(question) => {
                        if let Err(error) = link.ask(question).await {
                            tracing::debug!(%error, "a notice did not arrive");
                        }
                    }
                    // Whoever waited may have given up.
                    Notice::Flush(done) => drop(done.send(())),
                }
            }
        });
        Self { waiting }
    }

    /// A node went silent or broke off; the orchestrator finds out for itself.
    pub(crate) fn report(&self, node: NodeId) {
        self.leave(Question::Report { node });
    }

    /// How a task ended on a node.
    pub(crate) fn outcome(&self, outcome: Outcome) {
        self.leave(Question::Outcome(outcome));
    }

    fn leave(&self, question: Question) {
        if self.waiting.try_send(Notice::Tell(question)).is_err() {
            tracing::debug!("too many notices wait: one is lost");
        }
    }

    /// Waits a moment for what was left so far.
    pub(crate) async fn flush(&self) {
        let (done, flushed) = oneshot::channel();
        let flush = async {
            if self.waiting.send(Notice::Flush(done)).await.is_ok() {
                let _ = flushed.await;
            }
        };
        let _ = timeout(FLUSH_TIME_MAX, flush).await;
    }
}
