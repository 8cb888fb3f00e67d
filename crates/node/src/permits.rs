//! Each permit works once.

use protocol::{ids::TaskId, limits};
use std::collections::{HashMap, VecDeque};

/// Permits used and not yet expired.
#[derive(Debug, Default)]
pub(crate) struct UsedPermits {
    expiry_unix_ms: HashMap<TaskId, u64>,
    order: VecDeque<TaskId>,
}

impl UsedPermits {
    /// Marks a permit as used; false where it was used before, or where too many are remembered to take another.
    pub(crate) fn take(&mut self, task: TaskId, expires_unix_ms: u64, now_unix_ms: u64) -> bool {
        while let Some(oldest) = self.order.front() {
            let expired = self.expiry_unix_ms.get(oldest).is_none_or(|expiry| *expiry < now_unix_ms);
            if !expired {
                break;
            }
            self.expiry_unix_ms.remove(oldest);
            self.order.pop_front();
        }
        if self.expiry_unix_ms.contains_key(&task) || self.order.len() >= limits::REPLAY_MEMORY_MAX {
            return false;
        }
        // A permit verifies for the skew of clocks after it expires: remember it that much longer.
        let until = expires_unix_ms.saturating_add(limits::CLOCK_SKEW_MS_MAX);
        self.expiry_unix_ms.insert(task, until);
        self.order.push_back(task);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permit_works_once_and_is_forgotten_after_its_time() {
        let mut used = UsedPermits::default();
        let task = TaskId([1; 16]);
        assert!(used.take(task, 1_000, 0));
        assert!(!used.take(task, 1_000, 500));
        assert!(!used.take(task, 1_000, 1_000 + limits::CLOCK_SKEW_MS_MAX), "still verifies");
        assert!(used.take(TaskId([2; 16]), 200_000, 190_000));
        assert_eq!(used.order.len(), 1);
    }

    #[test]
    fn memory_is_bounded() {
        let mut used = UsedPermits::default();
        for number in 0..limits::REPLAY_MEMORY_MAX as u128 {
            assert!(used.take(TaskId(number.to_be_bytes()), 1_000, 0));
        }
        assert!(!used.take(TaskId([255; 16]), 1_000, 0));
        assert!(used.take(TaskId([255; 16]), 100_000, 90_000), "room again when they have expired");
    }
}
