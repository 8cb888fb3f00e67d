//! Why nodes were lost, for the error that a reader may see at last.

use protocol::ids::NodeId;
use std::{collections::VecDeque, fmt};

/// The latest that are told.
const TOLD_MAX: usize = 12;

#[derive(Default)]
pub(super) struct Reasons {
    latest: VecDeque<String>,
    forgotten: usize,
}

impl Reasons {
    pub(super) fn add(&mut self, node: NodeId, why: &dyn fmt::Display) {
        self.add_text(&format!("{}: {why}", node.short()));
    }

    /// One that repeats the last is told once.
    pub(super) fn add_text(&mut self, reason: &str) {
        if self.latest.back().is_some_and(|last| last == reason) {
            return;
        }
        if self.latest.len() == TOLD_MAX {
            self.latest.pop_front();
            self.forgotten += 1;
        }
        self.latest.push_back(reason.to_owned());
    }
}

impl fmt::Display for Reasons {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.forgotten > 0 {
            write!(f, "{} earlier reasons; ", self.forgotten)?;
        }
        for (number, reason) in self.latest.iter().enumerate() {
            if number > 0 {
                f.write_str("; ")?;
            }
            f.write_str(reason)?;
        }
        Ok(())
    }
}
