//! The worker's sealing keys: two at a time, one for each suite, replaced by time and by count.

use protocol::{
    ids::TaskId,
    ipc::Rejection,
    limits,
    sealing::{FrameSealer, KeyId, SealError, SealedTask, SealingKey, Suite, WorkerKey},
    task::Task,
};
use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

/// When keys are replaced.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rotation {
    /// After this time.
    pub(crate) period: Duration,
    /// How long tasks sealed to the previous keys are still taken: grants in clients' hands name those.
    pub(crate) grace: Duration,
    /// After this many tasks, whose sealings are remembered.
    pub(crate) tasks_max: usize,
}

impl Default for Rotation {
    fn default() -> Self {
        let in_clients_hands_ms = limits::PERMIT_LIFETIME_MS + limits::CLOCK_SKEW_MS_MAX;
        Self {
            period: Duration::from_millis(limits::EVIDENCE_LIFETIME_MS),
            grace: Duration::from_millis(in_clients_hands_ms),
            tasks_max: limits::REPLAY_MEMORY_MAX,
        }
    }
}

/// The keys and the memory of what was sealed to them. Dropped keys are wiped.
#[derive(Debug)]
pub(crate) struct KeyRing {
    rotation: Rotation,
    current: Option<Generation>,
    /// Until when it is valid.
    previous: Option<(Generation, Instant)>,
}

/// The keys of one period.
#[derive(Debug)]
struct Generation {
    keys: [WorkerKey; Suite::PREFERENCE.len()],
    ids: [KeyId; Suite::PREFERENCE.len()],
    born: Instant,
    /// Hashes of encapsulations. As the HPKE key schedule binds an encapsulation's bytes, no other bytes open the same
    /// task again.
    seen: HashSet<[u8; 32]>,
}

impl Generation {
    fn new(now: Instant) -> Self {
        let keys = Suite::PREFERENCE.map(WorkerKey::generate);
        let ids = keys.each_ref().map(|key| key.public().id());
        Self { keys, ids, born: now, seen: HashSet::new() }
    }

    fn key(&self, id: KeyId) -> Option<&WorkerKey> {
        self.ids.iter().position(|known| *known == id).map(|index| &self.keys[index])
    }
}

impl KeyRing {
    /// No key yet: every task is refused until the first [`Self::turn`].
    pub(crate) fn empty(rotation: Rotation) -> Self {
        Self { rotation, current: None, previous: None }
    }

    /// The public halves of the current keys, best first.
    pub(crate) fn public(&self) -> Vec<SealingKey> {
        let keys = self.current.iter().flat_map(|generation| &generation.keys);
        keys.map(|key| key.public().clone()).collect()
    }

    /// Wipes keys whose grace is over and makes new ones where they are due. Returns whether the current keys are new.
    pub(crate) fn turn(&mut self, now: Instant) -> bool {
        let twice = self.rotation.tasks_max.saturating_mul(2);
        self.previous.take_if(|(generation, until)| now >= *until || generation.seen.len() >= twice);
        if !self.is_due(now) {
            return false;
        }
        let until = now + self.rotation.grace;
        self.previous = self.current.replace(Generation::new(now)).map(|generation| (generation, until));
        true
    }

    fn is_due(&self, now: Instant) -> bool {
        self.current.as_ref().is_none_or(|generation| {
            now >= generation.born + self.rotation.period || generation.seen.len() >= self.rotation.tasks_max
        })
    }

    /// Wipes all keys.
    pub(crate) fn clear(&mut self) {
        *self = Self::empty(self.rotation);
    }

    /// When [`Self::turn`] has something to do next, as far as time decides.
    pub(crate) fn next_turn(&self, now: Instant) -> Instant {
        let wiping = self.previous.as_ref().map(|(_, until)| *until);
        let renewal = self.current.as_ref().map(|generation| generation.born + self.rotation.period);
        wiping.into_iter().chain(renewal).min().unwrap_or(now)
    }

    /// Opens a task, once.
    ///
    /// A sealing is remembered only when it opens: garbage neither fills the memory nor spoils a task that it imitates.
    pub(crate) fn open(
        &mut self,
        id: TaskId,
        sealed: &SealedTask,
        now: Instant,
    ) -> Result<(Task, FrameSealer), Rejection> {
        let previous = self.previous.as_mut().filter(|(_, until)| now < *until).map(|(generation, _)| generation);
        let mut generations = self.current.as_mut().into_iter().chain(previous);
        let generation =
            generations.find(|generation| generation.key(sealed.key).is_some()).ok_or(Rejection::UnknownKey)?;
        let encapsulation = *blake3::hash(&sealed.encapsulated).as_bytes();
        if generation.seen.contains(&encapsulation) {
            return Err(Rejection::Replayed);
        }
        let key = generation.key(sealed.key).ok_or(Rejection::UnknownKey)?;
        let opened = key.open_task(id, sealed).map_err(|_: SealError| Rejection::NotAuthentic)?;
        generation.seen.insert(encapsulation);
        Ok(opened)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::sealing::seal_task;

    const SMALL: Rotation = Rotation { period: Duration::from_secs(100), grace: Duration::from_secs(10), tasks_max: 3 };

    fn ring(now: Instant) -> KeyRing {
        let mut ring = KeyRing::empty(SMALL);
        assert!(ring.turn(now));
        ring
    }

    fn sealed(key: &SealingKey) -> (TaskId, SealedTask) {
        let id = TaskId::random();
        (id, seal_task(key, id, &Task::chat("hello")).unwrap().0)
    }

    fn rejection(result: Result<(Task, FrameSealer), Rejection>) -> Option<Rejection> {
        result.err()
    }

    #[test]
    fn a_task_opens_once_with_either_suite() {
        let now = Instant::now();
        let mut ring = ring(now);
        for key in ring.public() {
            let (id, task) = sealed(&key);
            assert_eq!(ring.open(id, &task, now).unwrap().0, Task::chat("hello"));
            assert_eq!(rejection(ring.open(id, &task, now)), Some(Rejection::Replayed));
            assert_eq!(rejection(ring.open(TaskId::random(), &task, now)), Some(Rejection::Replayed));
        }
    }

    #[test]
    fn what_does_not_open_is_not_remembered() {
        let now = Instant::now();
        let mut ring = ring(now);
        let (id, task) = sealed(&ring.public()[0]);
        let mut flipped = task.clone();
        flipped.ciphertext[7] ^= 1;
        let mut cut = task.clone();
        cut.ciphertext.truncate(10);
        let mut short = task.clone();
        short.encapsulated.pop();
        for broken in [flipped, cut, short] {
            assert_eq!(rejection(ring.open(id, &broken, now)), Some(Rejection::NotAuthentic));
        }
        assert_eq!(rejection(ring.open(TaskId::random(), &task, now)), Some(Rejection::NotAuthentic), "another id");
        assert!(ring.open(id, &task, now).is_ok(), "the task itself still opens");
    }

    #[test]
    fn keys_turn_by_time_and_the_previous_are_wiped_after_their_grace() {
        let start = Instant::now();
        let mut ring = ring(start);
        let old = ring.public();
        assert!(!ring.turn(start + Duration::from_secs(99)));
        let later = start + Duration::from_secs(100);
        assert_eq!(ring.next_turn(start), later);
        assert!(ring.turn(later));
        assert_ne!(ring.public(), old);
        let (id, task) = sealed(&old[0]);
        assert!(ring.open(id, &task, later + Duration::from_secs(9)).is_ok());
        assert_eq!(rejection(ring.open(id, &task, later + Duration::from_secs(9))), Some(Rejection::Replayed));
        let over = later + Duration::from_secs(10);
        assert_eq!(ring.next_turn(later), over);
        let (id, task) = sealed(&old[0]);
        assert_eq!(rejection(ring.open(id, &task, over)), Some(Rejection::UnknownKey));
        assert!(!ring.turn(over));
        assert!(ring.previous.is_none());
    }

    #[test]
    fn keys_turn_when_their_memory_is_full_and_it_stays_bounded() {
        let now = Instant::now();
        let mut ring = ring(now);
        let old = ring.public()[1].clone();
        for opened in 1..=3 {
            let (id, task) = sealed(&old);
            ring.open(id, &task, now).unwrap();
            assert_eq!(ring.turn(now), opened == 3);
        }
        for _ in 0..3 {
            let (id, task) = sealed(&old);
            ring.open(id, &task, now).unwrap();
        }
        assert!(!ring.turn(now));
        let (id, task) = sealed(&old);
        assert_eq!(rejection(ring.open(id, &task, now)), Some(Rejection::UnknownKey), "twice its count is the end");
    }

    #[test]
    fn a_ring_without_keys_knows_no_key() {
        let now = Instant::now();
        let (id, task) = sealed(&ring(now).public()[0]);
        assert_eq!(rejection(KeyRing::empty(SMALL).open(id, &task, now)), Some(Rejection::UnknownKey));
    }
}
