//! A black hole: it takes every task and fails it, each in another way. For tests only.

use engine::{Engine, EngineError, ModelInfo};
use protocol::task::{Frame, Task, TaskError};
use std::{collections::HashMap, process::ExitCode};
use testbed::DeterministicEngine;

/// Tokens of an answer that it breaks off.
const TOKENS: u32 = 3;

/// How a task fails.
#[derive(Clone, Copy)]
enum Way {
    /// At once.
    Fails,
    /// After some tokens, which are the right ones.
    BreaksOff { left: u32 },
    /// With a frame that is no part of such an answer.
    Corrupt,
    /// The whole process dies.
    Dies,
}

struct FailingEngine {
    inner: DeterministicEngine,
    ways: HashMap<u64, Way>,
    started: usize,
}

impl Engine for FailingEngine {
    fn info(&self) -> &ModelInfo {
        self.inner.info()
    }

    fn free_slots(&self) -> usize {
        self.inner.free_slots()
    }

    fn start(&mut self, id: u64, task: &Task) -> Result<(), TaskError> {
        self.inner.start(id, task)?;
        let ways = [Way::Fails, Way::BreaksOff { left: TOKENS }, Way::Corrupt, Way::Dies];
        self.ways.insert(id, ways[self.started % ways.len()]);
        self.started += 1;
        Ok(())
    }

    fn cancel(&mut self, id: u64) {
        self.ways.remove(&id);
        self.inner.cancel(id);
    }

    fn step(&mut self, emit: &mut dyn FnMut(u64, Frame)) -> Result<bool, EngineError> {
        let mut failed = Vec::new();
        let ways = &mut self.ways;
        self.inner.step(&mut |id, frame| match ways.get_mut(&id) {
            Some(Way::BreaksOff { left }) if *left > 0 => {
                *left -= u32::from(matches!(frame, Frame::Tokens { .. }));
                emit(id, frame);
            }
            Some(_) => failed.push(id),
            None => {}
        })?;
        failed.dedup();
        for id in failed {
            self.inner.cancel(id);
            match self.ways.remove(&id) {
                Some(Way::Dies) => std::process::abort(),
                Some(Way::Corrupt) => emit(id, Frame::Embedding { index: 7, vector: vec![f32::NAN] }),
                _ => {}
            }
            emit(id, Frame::Failed { error: TaskError::Engine { message: "it never works".to_owned() } });
        }
        Ok(!self.ways.is_empty())
    }
}

fn main() -> ExitCode {
    worker::run(|path, options| {
        let inner = DeterministicEngine::load(path, options.slots.unwrap_or(8))?;
        Ok(Box::new(FailingEngine { inner, ways: HashMap::new(), started: 0 }))
    })
}
