//! The node that wrote the last tokens and is gone: whether others can go on from them.

use crate::attempt::Attempt;
use protocol::{ids::NodeId, link::End};

/// Nodes that cannot go on from the same tokens before these are taken to be nobody's answer. One alone may be wrong.
const REFUSALS_MAX: usize = 2;

/// A node that wrote tokens which nobody has gone on from yet. Dropping it tells how it ended: tokens that no model writes
/// would otherwise be told of as a mere loss, and those who refuse them blamed.
pub(super) struct Author {
    attempt: Option<Attempt>,
    node: NodeId,
    end: End,
    refused_by: Vec<NodeId>,
}

impl Author {
    /// It is gone, and ended like this as far as is known.
    pub(super) fn gone(attempt: Attempt, end: End) -> Self {
        let node = attempt.node();
        Self { attempt: Some(attempt), node, end, refused_by: Vec::new() }
    }

    pub(super) fn node(&self) -> NodeId {
        self.node
    }

    /// `node` says that it cannot go on from these tokens. Whether that settles it.
    pub(super) fn is_convicted_by(&mut self, node: NodeId) -> bool {
        if node != self.node && !self.refused_by.contains(&node) {
            self.refused_by.push(node);
        }
        let convicted = self.refused_by.len() >= REFUSALS_MAX;
        if convicted {
            self.end = End::Corrupt;
        }
        convicted
    }
}

impl Drop for Author {
    fn drop(&mut self) {
        if let Some(attempt) = self.attempt.take() {
            attempt.end(self.end);
        }
    }
}
