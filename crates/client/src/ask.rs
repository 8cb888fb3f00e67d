//! How a task may be asked.

use protocol::{
    grant::Priority,
    task::{Generation, Task},
};

/// How long an asker waits for a place where it does not say.
const WAIT_MS_MAX: u32 = 10_000;

/// What an asker may say beside the model and the task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AskOptions {
    /// What goes first where places are few.
    pub priority: Priority,
    /// How long it waits for a place, in milliseconds. Where that is too short, it is told at once.
    pub wait_ms_max: u32,
    /// Whether, now and then, one more worker may read the task with its answer, under the same policy as one that takes
    /// over: only so it is found out who answers with another model.
    pub audit: bool,
}

impl Default for AskOptions {
    /// Interactive, 10 s, and audited now and then.
    fn default() -> Self {
        Self { priority: Priority::Interactive, wait_ms_max: WAIT_MS_MAX, audit: true }
    }
}

/// Fixes the seed where the asker left it open: a resumed answer goes on with the same stream of draws.
pub(crate) fn with_seed(mut task: Task) -> Task {
    if let Task::Chat { generation, .. } | Task::Completion { generation, .. } = &mut task {
        fix_seed(generation);
    }
    task
}

fn fix_seed(generation: &mut Generation) {
    let mut random = [0; 4];
    getrandom::fill(&mut random).expect("the operating system has a random source");
    generation.sampling.seed.get_or_insert(u32::from_le_bytes(random));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seed(task: &Task) -> Option<u32> {
        let Task::Chat { generation, .. } = task else { panic!("a chat") };
        generation.sampling.seed
    }

    #[test]
    fn a_seed_is_chosen_where_there_is_none() {
        let (first, second) = (with_seed(Task::chat("x")), with_seed(Task::chat("x")));
        assert!(seed(&first).is_some());
        assert_ne!(seed(&first), seed(&second), "one in four billion");
        let mut given = Task::chat("x");
        if let Task::Chat { generation, .. } = &mut given {
            generation.sampling.seed = Some(7);
        }
        assert_eq!(seed(&with_seed(given)), Some(7));
    }
}
