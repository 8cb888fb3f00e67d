//! What happens next: events in the order of time, and those of the same instant in the order of their making.

use crate::{device::AttemptKey, policy::NodeIndex, slab::Key, time::Micros};
use protocol::{grant::Purpose, link::End};
use std::{cmp::Ordering, collections::BinaryHeap};

/// Something that will happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Event {
    /// The next task comes.
    Arrival,
    /// A task asks for a place.
    Ask(Key, Why),
    /// A task reaches a node.
    Deliver(AttemptKey),
    /// Something happens at a node's engine, unless this is out of date.
    Device(NodeIndex, u32),
    /// The client learns that its attempt has ended badly.
    Lost(AttemptKey, Lost),
    /// The first token is late, unless it has come.
    Late(AttemptKey),
    /// A session begins or ends.
    Session(NodeIndex),
    /// The orchestrator misses a node's heartbeat, if it is still in this session.
    Missed(NodeIndex, u32),
    /// A probe's time is over, or its answer is there.
    Probed(NodeIndex, u32),
    /// Those who wait may have waited too long.
    Tick,
    /// An hour has passed.
    Epoch,
    /// Time to look at everything, for the charts.
    Sample,
}

/// [`Purpose`], in an order that events can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// The task begins.
    First,
    /// Its nodes did not take it.
    Retry,
    /// A node was lost in the middle.
    Resume,
    /// A node is late.
    Hedge,
}

impl From<Why> for Purpose {
    fn from(why: Why) -> Self {
        match why {
            Why::First => Self::First,
            Why::Retry => Self::Retry,
            Why::Resume => Self::Resume,
            Why::Hedge => Self::Hedge,
        }
    }
}

/// How an attempt ended badly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lost {
    /// The node did not take it.
    Refused,
    /// The node failed it.
    Died,
    /// The node is silent.
    Stalled,
    /// The owner is back.
    HandedBack,
}

impl From<Lost> for End {
    fn from(lost: Lost) -> Self {
        match lost {
            Lost::Refused => Self::Refused,
            Lost::Died => Self::Died,
            Lost::Stalled => Self::Stalled,
            Lost::HandedBack => Self::HandedBack,
        }
    }
}

/// The events to come.
#[derive(Debug, Default)]
pub struct Agenda {
    heap: BinaryHeap<Planned>,
    made: u64,
}

/// An event with its time, and the number of its making below: one word, because a heap does little else than to compare.
#[derive(Debug, Clone, Copy)]
struct Planned {
    when: u128,
    event: Event,
}

impl Ord for Planned {
    /// The heap takes out the greatest: that is the earliest.
    fn cmp(&self, other: &Self) -> Ordering {
        other.when.cmp(&self.when)
    }
}

impl PartialOrd for Planned {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }

    // The default goes by way of `Ordering`, and branches.
    fn le(&self, other: &Self) -> bool {
        self.when >= other.when
    }
}

impl PartialEq for Planned {
    fn eq(&self, other: &Self) -> bool {
        self.when == other.when
    }
}

impl Eq for Planned {}

impl Agenda {
    /// Adds one.
    pub fn add(&mut self, at: Micros, event: Event) {
        self.made += 1;
        self.heap.push(Planned { when: u128::from(at) << u64::BITS | u128::from(self.made), event });
    }

    /// Takes the next one.
    pub fn take(&mut self) -> Option<(Micros, Event)> {
        self.heap.pop().map(|planned| ((planned.when >> u64::BITS) as Micros, planned.event))
    }

    /// Events so far.
    pub fn made(&self) -> u64 {
        self.made
    }
}

#[cfg(test)]
mod tests {
    use super::{Agenda, Event};

    #[test]
    fn equal_times_keep_their_order() {
        let mut agenda = Agenda::default();
        agenda.add(5, Event::Tick);
        agenda.add(3, Event::Sample);
        agenda.add(5, Event::Arrival);
        let order: Vec<_> = std::iter::from_fn(|| agenda.take()).collect();
        assert_eq!(order, [(3, Event::Sample), (5, Event::Tick), (5, Event::Arrival)]);
        assert_eq!(agenda.made(), 3);
    }
}
