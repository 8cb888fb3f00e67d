//! What a client has of the pool beside its nodes: the transport and the orchestrators behind it.

use crate::{AskError, orchestrator::Orchestrators};
use protocol::{
    ids::NodeId,
    link::{Answer, Question},
};
use std::sync::Arc;
use transport::{Boxed, Transport};

/// A way to ask the pool. Cloning it is cheap.
#[derive(Clone)]
pub(crate) struct Link {
    inner: Arc<(Transport, Orchestrators)>,
}

impl Link {
    pub(crate) fn new(transport: Transport, orchestrators: Orchestrators) -> Self {
        Self { inner: Arc::new((transport, orchestrators)) }
    }

    pub(crate) fn transport(&self) -> &Transport {
        &self.inner.0
    }

    pub(crate) fn orchestrators(&self) -> &Orchestrators {
        &self.inner.1
    }

    /// Asks whichever orchestrator answers.
    pub(crate) fn ask(&self, question: Question) -> Boxed<'static, Result<Answer, AskError>> {
        let asked = self.ask_whom(question);
        Box::pin(async move { asked.await.map(|(_, answer)| answer) })
    }

    /// As [`Link::ask`], with who answered.
    pub(crate) fn ask_whom(&self, question: Question) -> Boxed<'static, Result<(NodeId, Answer), AskError>> {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move { inner.1.ask(&inner.0, &question).await })
    }
}
