//! Parts of an answer that were drawn to be read by others.

use super::Failover;
use crate::audit::{Excerpt, Leg};

impl Failover {
    /// A node is done with its part of the answer.
    pub(super) fn keep_leg(&mut self, leg: Option<Leg>) {
        self.leg = Leg::longer(self.leg.take(), leg);
    }

    /// The answer is whole, and its last node has been heard out: has others read what was drawn of it.
    pub(super) fn audit(&mut self) {
        let Some(leg) = self.leg.take() else { return };
        if let Some(excerpt) = Excerpt::new(leg, &self.question.task, self.progress.ids()) {
            self.shared.audits.read(&self.shared, excerpt);
        }
    }
}
