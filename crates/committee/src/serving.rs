//! Answers to members that catch up.

use crate::{
    chain::Chain,
    locks::locked,
    message::{Here, Message},
    snapshots::Snapshot,
};
use std::sync::{Arc, Mutex};

/// Snapshots at hand: the one before too, for those who are in the middle of it. They share most of what they have.
const HELD_MAX: usize = 2;

#[derive(Debug, Default)]
pub(crate) struct Serving(Mutex<Vec<Arc<Snapshot>>>);

impl Serving {
    /// Takes up a newer snapshot.
    pub(crate) fn hold(&self, snapshot: Arc<Snapshot>) {
        let mut held = locked(&self.0);
        held.insert(0, snapshot);
        held.truncate(HELD_MAX);
    }

    pub(crate) fn newest(&self) -> Option<Arc<Snapshot>> {
        locked(&self.0).first().cloned()
    }

    /// Where this member is.
    pub(crate) fn here(&self, chain: &Chain, signs_from_epoch: u64) -> Here {
        let (height, epoch) = (chain.height(), chain.epoch());
        let snapshot = self.newest().map(|snapshot| snapshot.height());
        Here { height, epoch, snapshot, waits: signs_from_epoch > epoch }
    }

    /// What another member is answered. Takes milliseconds where a part is large.
    pub(crate) fn answer(&self, chain: &Chain, question: &Message, signs_from_epoch: u64) -> Option<Message> {
        match question {
            Message::WhereAreYou => Some(Message::Here(self.here(chain, signs_from_epoch))),
            Message::AskSnapshot { from_epoch } => {
                let newest = self.newest()?;
                let mut handovers = chain.handovers(*from_epoch);
                handovers.retain(|handover| handover.last.header.epoch < newest.anchor.header.epoch);
                Some(Message::Snapshot { handovers, head: Box::new(newest.head()) })
            }
            Message::AskPart { height, number } => {
                let held = locked(&self.0).iter().find(|snapshot| snapshot.height() == *height).cloned();
                let part = held.and_then(|snapshot| snapshot.state.part(usize::from(*number)).ok());
                Some(Message::Part { height: *height, number: *number, part })
            }
            Message::Here(_) | Message::Snapshot { .. } | Message::Part { .. } => None,
        }
    }
}
