//! The writing side of a transfer: a thread that writes and hashes while the network delivers the next bytes.

use crate::{
    progress::Reporter,
    store::{Part, PartError},
};
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_util::bytes::Bytes;

/// Chunks between network and disk. Few: what is not written is asked for again after a kill.
const CHUNKS: usize = 2;

/// Takes chunks, in order. If it is dropped, the thread writes what it has and ends.
pub(super) struct Sink {
    chunks: mpsc::Sender<Bytes>,
    thread: JoinHandle<(Part, Result<(), PartError>)>,
}

impl Sink {
    pub(super) fn start(mut part: Part, progress: Reporter) -> Self {
        let (chunks, mut queue) = mpsc::channel::<Bytes>(CHUNKS);
        let thread = tokio::task::spawn_blocking(move || {
            let mut outcome = Ok(());
            while let Some(chunk) = queue.blocking_recv() {
                outcome = part.write(&chunk);
                if outcome.is_err() {
                    break;
                }
                progress.done(part.bytes());
            }
            (part, outcome)
        });
        Self { chunks, thread }
    }

    /// Hands over bytes; false if the thread ended because it could not write.
    pub(super) async fn send(&self, chunk: Bytes) -> bool {
        self.chunks.send(chunk).await.is_ok()
    }

    /// Waits until everything is written, and gives the part back.
    pub(super) async fn finish(self) -> (Part, Result<(), PartError>) {
        drop(self.chunks);
        match self.thread.await {
            Ok(written) => written,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime is shutting down: nobody polls this future again.
                Err(_) => std::future::pending().await,
            },
        }
    }
}
