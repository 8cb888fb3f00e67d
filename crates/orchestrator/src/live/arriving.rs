//! Tasks that were granted and are on their way: load of their node that it does not know of yet.
//!
//! A granted task counts as load of its node until the node's own state shows it, until its client says how it ended,
//! or for [`RESERVED_MS`]. A task of which nothing was heard by then was not used, and is held against its client: each
//! halves how many it may have under way at a time, until it is spoken of after all or some seconds have passed. So a
//! client that takes places without using them soon has one at a time, and nobody else notices.

use protocol::ids::{ModelDigest, NodeId, TaskId};
use scheduler::RESERVED_MS;
use std::collections::HashMap;

/// A state that comes so long after a grant shows the task, if it came: a connection and a message take less.
const SHOWN_AFTER_MS: u64 = 500;
/// An unused grant is forgiven after so long.
const FORGIVEN_MS: u64 = 5_000;
/// More unused grants than this say nothing new.
const UNUSED_MAX: u32 = 16;

/// One task on its way to one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Arriving {
    pub(crate) client: NodeId,
    pub(crate) task: TaskId,
    pub(crate) model: ModelDigest,
    pub(crate) given_steady_ms: u64,
}

/// The tasks on their way to one node, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Arrivals(Vec<Arriving>);

impl Arrivals {
    pub(crate) fn add(&mut self, arriving: Arriving) {
        self.0.push(arriving);
    }

    /// Tasks on their way to one worker, and since when the youngest is.
    pub(crate) fn of(&self, model: ModelDigest) -> (u32, u64) {
        let own = self.0.iter().filter(|arriving| arriving.model == model);
        own.fold((0, 0), |(count, youngest), arriving| (count + 1, youngest.max(arriving.given_steady_ms)))
    }

    /// Its client spoke of a task.
    pub(crate) fn spoken_of(&mut self, client: NodeId, task: TaskId) -> Option<Arriving> {
        let at = self.0.iter().position(|arriving| arriving.client == client && arriving.task == task)?;
        Some(self.0.remove(at))
    }

    /// The node says that a worker has so many tasks more than before. Returns those that have arrived by that.
    pub(crate) fn shown(&mut self, model: ModelDigest, mut more: u32, now_steady_ms: u64) -> Vec<Arriving> {
        self.taken(|arriving| {
            let is_old = now_steady_ms.saturating_sub(arriving.given_steady_ms) >= SHOWN_AFTER_MS;
            let is_shown = arriving.model == model && (is_old || more > 0);
            if is_shown {
                more = more.saturating_sub(1);
            }
            is_shown
        })
    }

    /// Those that came to nothing.
    pub(crate) fn lapsed(&mut self, now_steady_ms: u64) -> Vec<Arriving> {
        self.taken(|arriving| now_steady_ms.saturating_sub(arriving.given_steady_ms) >= RESERVED_MS)
    }

    /// All of them: the node is gone.
    pub(crate) fn all(&mut self) -> Vec<Arriving> {
        std::mem::take(&mut self.0)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn taken(&mut self, mut is_taken: impl FnMut(&Arriving) -> bool) -> Vec<Arriving> {
        let mut taken = Vec::new();
        self.0.retain(|arriving| {
            let take = is_taken(arriving);
            if take {
                taken.push(*arriving);
            }
            !take
        });
        taken
    }
}

/// What each client has under way, and how many of its grants it left unused.
#[derive(Debug, Default)]
pub(crate) struct Shares(HashMap<NodeId, Share>);

#[derive(Debug, Default)]
struct Share {
    under_way: u32,
    unused: u32,
    forgiven_steady_ms: u64,
}

impl Shares {
    /// Whether a client may have one more task under way, in a pool with so many places.
    pub(crate) fn has_room(&mut self, client: NodeId, places: u32, now_steady_ms: u64) -> bool {
        let Some(share) = self.0.get_mut(&client) else { return true };
        share.forgive(now_steady_ms);
        share.unused == 0 || share.under_way < (places >> share.unused).max(1)
    }

    pub(crate) fn granted(&mut self, client: NodeId) {
        self.0.entry(client).or_default().under_way += 1;
    }

    /// A task is not on its way any more; `unused`: nobody saw it.
    pub(crate) fn settled(&mut self, client: NodeId, unused: bool, now_steady_ms: u64) {
        if let Some(share) = self.0.get_mut(&client) {
            share.under_way = share.under_way.saturating_sub(1);
            if unused {
                share.forgive(now_steady_ms);
                share.unused = (share.unused + 1).min(UNUSED_MAX);
                share.forgiven_steady_ms = now_steady_ms;
            }
        }
    }

    /// A task that was taken for unused was used.
    pub(crate) fn used_after_all(&mut self, client: NodeId) {
        if let Some(share) = self.0.get_mut(&client) {
            share.unused = share.unused.saturating_sub(1);
        }
    }

    /// Forgets clients against whom there is nothing.
    pub(crate) fn sweep(&mut self, now_steady_ms: u64) {
        self.0.retain(|_, share| {
            share.forgive(now_steady_ms);
            share.under_way > 0 || share.unused > 0
        });
    }
}

impl Share {
    fn forgive(&mut self, now_steady_ms: u64) {
        let times = now_steady_ms.saturating_sub(self.forgiven_steady_ms) / FORGIVEN_MS;
        self.unused = self.unused.saturating_sub(u32::try_from(times).unwrap_or(u32::MAX));
        self.forgiven_steady_ms += times * FORGIVEN_MS;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: NodeId = NodeId([1; 32]);
    const MODEL: ModelDigest = ModelDigest([2; 32]);

    fn arriving(number: u128, given_steady_ms: u64) -> Arriving {
        Arriving { client: CLIENT, task: TaskId(number.to_be_bytes()), model: MODEL, given_steady_ms }
    }

    #[test]
    fn a_task_is_on_its_way_until_it_is_seen_or_given_up() {
        let mut arrivals = Arrivals::default();
        for number in 0..5 {
            arrivals.add(arriving(number, 100 * number as u64));
        }
        assert_eq!(arrivals.of(MODEL), (5, 400));
        assert_eq!(arrivals.shown(MODEL, 1, 400), [arriving(0, 0)], "the oldest came");
        assert_eq!(arrivals.spoken_of(CLIENT, TaskId(3u128.to_be_bytes())), Some(arriving(3, 300)));
        assert_eq!(arrivals.shown(MODEL, 0, 650), [arriving(1, 100)], "old enough to be in it");
        assert_eq!(arrivals.lapsed(200 + RESERVED_MS), [arriving(2, 200)]);
        assert_eq!(arrivals.all(), [arriving(4, 400)]);
        assert!(arrivals.is_empty());
    }

    #[test]
    fn who_leaves_places_unused_gets_fewer_at_a_time() {
        let mut shares = Shares::default();
        for _ in 0..100 {
            assert!(shares.has_room(CLIENT, 64, 0), "a burst is nobody's fault");
            shares.granted(CLIENT);
        }
        for _ in 0..100 {
            shares.settled(CLIENT, true, 1_000);
        }
        assert!(shares.has_room(CLIENT, 64, 1_000));
        shares.granted(CLIENT);
        assert!(!shares.has_room(CLIENT, 64, 1_000), "one at a time");
        assert!(shares.has_room(NodeId([9; 32]), 64, 1_000), "others are not concerned");
        shares.settled(CLIENT, false, 1_000);
        (0..UNUSED_MAX).for_each(|_| shares.used_after_all(CLIENT));
        (0..9).for_each(|_| shares.granted(CLIENT));
        assert!(shares.has_room(CLIENT, 64, 1_000), "spoken of after all");
        shares.settled(CLIENT, true, 1_000);
        assert!(shares.has_room(CLIENT, 64, 1_000 + FORGIVEN_MS), "forgiven");
        (0..8).for_each(|_| shares.settled(CLIENT, false, 1_000));
        shares.sweep(1_000 + FORGIVEN_MS);
        assert!(shares.0.is_empty());
    }
}
