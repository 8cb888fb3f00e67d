//! What happens to an answer when a node, or a way to one, is lost.

use super::{AskError, Author, Ending, Failover, Flow, LOSSES_MAX, Lane, Running, Side, SourceError, TaskError};
use crate::matching;
use protocol::{grant::Purpose, limits, link::End};
use std::{ops::ControlFlow, time::Instant};

impl Failover {
    /// The worker says that it failed.
    pub(super) fn failed(&mut self, side: Side, error: TaskError) -> Flow {
        match error {
            TaskError::ShuttingDown => self.lost(side, SourceError::HandedBack),
            TaskError::ContextExceeded { .. } | TaskError::Invalid { .. } | TaskError::Unsupported { .. }
                if side == Side::Current && !self.progress.has_advanced() =>
            {
                self.refused(error)
            }
            // Its context may be shorter, or what it is to go on from is no answer of the model.
            TaskError::ContextExceeded { .. } | TaskError::Invalid { .. } | TaskError::Unsupported { .. } => {
                self.lost(side, SourceError::Declined(error))
            }
            error => self.lost(side, SourceError::Failed(error)),
        }
    }

    /// A worker says that the task cannot be answered. One more is asked, within the budget: contexts differ, and one
    /// node alone cannot turn an asker away.
    fn refused(&mut self, error: TaskError) -> Flow {
        let is_second = self.refusal.is_some();
        let first = self.refusal.get_or_insert(error).clone();
        if is_second || self.challenger.is_some() || !self.shared.second_tries.may_retry() {
            return ControlFlow::Break(Ending::Refused(first));
        }
        if let Some(Running { attempt, .. }) = self.current.take().and_then(Lane::into_running) {
            matching::exclude(&mut self.failed, attempt.node());
            attempt.end(End::Refused);
        }
        self.hedged = false;
        self.current = Some(self.lane(Purpose::Retry));
        ControlFlow::Continue(())
    }

    /// A node that had the task is lost.
    pub(super) fn lost(&mut self, side: Side, error: SourceError) -> Flow {
        let Some(running) = self.side(side).take().and_then(Lane::into_running) else {
            return ControlFlow::Continue(());
        };
        let Running { attempt, leg, .. } = running;
        self.keep_leg(leg);
        let node = attempt.node();
        tracing::debug!(node = %node.short(), %error, "a node was lost");
        if attempt.first_token().is_some() && self.progress.tokens() > 0 {
            self.author = Some(Author::gone(attempt, error.end()));
        } else {
            attempt.end(error.end());
        }
        self.reasons.add(node, &error);
        matching::exclude(&mut self.failed, node);
        if let (SourceError::Declined(_), Some(author)) = (&error, &mut self.author)
            && author.is_convicted_by(node)
        {
            // The reader has them already, so the answer cannot begin anew before them.
            let tokens_of = author.node().short();
            self.reasons.add_text(&format!("no other node can go on from the tokens of {tokens_of}"));
            return ControlFlow::Break(Ending::Broken);
        }
        if error.is_suspect() {
            self.shared.caller.forget(node);
            if side == Side::Challenger || !self.reported {
                self.shared.notices.report(node);
            }
        }
        // An owner who wants the machine says nothing about the task.
        if error != SourceError::HandedBack {
            self.losses += 1;
        }
        if self.losses > LOSSES_MAX {
            return ControlFlow::Break(Ending::Broken);
        }
        match side {
            Side::Challenger => self.challenger_backoff.wait(Instant::now()),
            Side::Current => return self.replace_current(),
        }
        ControlFlow::Continue(())
    }

    /// The challenger takes the place of a current node that is gone; without one, another way is sought at once.
    pub(super) fn replace_current(&mut self) -> Flow {
        (self.hedged, self.reported) = (false, false);
        let now = Instant::now();
        self.waiting_since.get_or_insert(now);
        self.current = self.challenger.take();
        match self.current.as_ref().and_then(Lane::running) {
            Some(running) => {
                let node = running.attempt.node();
                self.waiting_since = None;
                self.moved_to(node);
            }
            None if self.current.is_none() => return self.resume(),
            None => {}
        }
        ControlFlow::Continue(())
    }

    pub(super) fn resume(&mut self) -> Flow {
        if self.progress.tokens() > limits::RESUME_TOKENS_MAX {
            self.reasons.add_text("the answer is too long to be resumed");
            return ControlFlow::Break(Ending::Broken);
        }
        self.current = Some(self.lane(Purpose::Resume));
        ControlFlow::Continue(())
    }

    /// A way came to nothing.
    pub(super) fn nobody(&mut self, side: Side, error: AskError) -> Flow {
        let now = Instant::now();
        let Some(lane) = self.side(side).take() else { return ControlFlow::Continue(()) };
        if side == Side::Challenger {
            // The current node was left out of the challenge, but it has not failed.
            let current = self.current.as_ref().and_then(Lane::node);
            for node in lane.excluded().iter().filter(|node| Some(**node) != current) {
                matching::exclude(&mut self.failed, *node);
            }
            self.challenger_backoff.wait(now);
            return ControlFlow::Continue(());
        }
        if self.challenger.is_some() {
            return self.replace_current();
        }
        if self.begun.is_some() {
            return ControlFlow::Break(Ending::NotBegun(error));
        }
        if let Some(refusal) = self.refusal.take() {
            return ControlFlow::Break(Ending::Refused(refusal));
        }
        self.reasons.add_text(&error.to_string());
        if self.shared.is_closed() {
            return ControlFlow::Break(Ending::Broken);
        }
        // Everybody was left out: whoever has failed may have come back.
        self.failed.clear();
        self.waiting_since.get_or_insert(now);
        self.current_backoff.wait(now);
        ControlFlow::Continue(())
    }
}
