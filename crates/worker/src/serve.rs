//! The engine's thread: orders in, one step of the engine, sealed frames out, over and over.

use crate::{
    Exit,
    duty::Duty,
    inbox::{Inbox, Opened},
    keys::KeyRing,
    outbox::Outbox,
    reader::turn_keys,
    sandbox::Report,
};
use engine::Engine;
use protocol::{
    ids::TaskId,
    ipc::{FromWorker, ModelFacts},
    sealing::FrameSealer,
    task::{Frame, TaskError, Usage},
};
use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard},
    time::Instant,
};

#[cfg(test)]
mod tests;

/// A task in a slot.
struct Running {
    id: TaskId,
    frames: FrameSealer,
}

struct Serving<'a> {
    inbox: &'a Inbox,
    outbox: &'a Outbox,
    /// By the number that names it to the engine.
    running: HashMap<u64, Running>,
    next_number: u64,
}

/// Makes the keys, says `Ready`, and serves until the end.
pub(crate) fn serve(
    engine: &mut dyn Engine,
    inbox: &Inbox,
    outbox: &Outbox,
    keys: &Mutex<KeyRing>,
    report: &Report,
    mut duty: Duty,
) -> Exit {
    let keys = || keys.lock().expect("a panic ends the process");
    outbox.put(&ready(engine, keys(), report));
    let mut serving = Serving { inbox, outbox, running: HashMap::new(), next_number: 0 };
    loop {
        // What the last step, or the start of a task, had to say.
        if outbox.flush().is_err() {
            return Exit::DaemonGone;
        }
        let now = Instant::now();
        let mut ring = keys();
        turn_keys(&mut ring, outbox, now);
        let next_turn = ring.next_turn(now);
        drop(ring);

        let free = engine.free_slots();
        let resting = duty.rests_until(now);
        // A rest is due also where nothing runs any more; orders are taken during it.
        let orders = match resting {
            Some(until) => inbox.wait(free, until.min(next_turn)),
            None if serving.running.is_empty() => inbox.wait(free, next_turn),
            None => inbox.take(free),
        };
        if let Some(exit) = orders.cut_off {
            return exit;
        }
        for id in orders.cancel {
            serving.cancel(engine, id);
        }
        if orders.shutdown {
            serving.shut_down(engine, orders.start);
            return if outbox.flush().is_ok() { Exit::Shutdown } else { Exit::DaemonGone };
        }
        for opened in orders.start {
            serving.start(engine, opened);
        }
        if resting.is_some() || serving.running.is_empty() {
            continue;
        }
        let begin = Instant::now();
        let result = serving.step(engine);
        duty.worked(begin, Instant::now());
        if result.is_err() {
            // Every task has been told; the engine cannot go on. The exit code says the rest.
            let _ = outbox.flush();
            return Exit::Engine;
        }
    }
}

fn ready(engine: &dyn Engine, mut keys: MutexGuard<'_, KeyRing>, report: &Report) -> FromWorker {
    keys.turn(Instant::now());
    let info = engine.info();
    FromWorker::Ready {
        keys: keys.public(),
        model: ModelFacts {
            architecture: info.architecture.clone(),
            context_tokens: info.context_tokens,
            slots: info.slots,
            embedding_length: if info.embedding { info.embedding_length } else { 0 },
            chat: info.chat,
        },
        sandbox_json: serde_json::to_string(report).expect("a report is plain data"),
    }
}

impl Serving<'_> {
    fn start(&mut self, engine: &mut dyn Engine, opened: Opened) {
        let Opened { id, task, frames, bytes: _ } = opened;
        let number = self.next_number;
        self.next_number += 1;
        let running = Running { id, frames };
        match engine.start(number, &task) {
            Ok(()) => {
                self.running.insert(number, running);
            }
            Err(error) => self.fail(running, error),
        }
        // Here the task's text is wiped; the engine has its tokens.
        drop(task);
    }

    fn cancel(&mut self, engine: &mut dyn Engine, id: TaskId) {
        let number = self.running.iter().find(|(_, running)| running.id == id).map(|(number, _)| *number);
        if let Some(number) = number {
            engine.cancel(number);
            self.running.remove(&number);
        }
        self.inbox.ended(id);
    }

    fn step(&mut self, engine: &mut dyn Engine) -> Result<(), engine::EngineError> {
        let mut unsendable = Vec::new();
        let result = engine.step(&mut |number, frame| {
            if !self.send(number, &frame) {
                unsendable.push(number);
            }
        });
        for number in unsendable {
            engine.cancel(number);
            if let Some(running) = self.running.remove(&number) {
                self.fail(running, TaskError::Engine { message: "a frame exceeded its limit".to_owned() });
            }
        }
        // An engine that forgets a task without a final frame would leave its reader waiting for ever.
        if let Ok(false) = result {
            for (_, running) in std::mem::take(&mut self.running) {
                self.fail(running, TaskError::Engine { message: "the engine lost the task".to_owned() });
            }
        }
        result.map(drop)
    }

    /// Seals a frame to its task's asker. False if it cannot be sealed.
    fn send(&mut self, number: u64, frame: &Frame) -> bool {
        // Cancelled within this step.
        let Some(running) = self.running.get_mut(&number) else { return true };
        let Ok(sealed) = running.frames.seal(frame) else { return false };
        let id = running.id;
        self.outbox.put(&FromWorker::Frames { task: id, frames: vec![sealed] });
        if frame.is_final() {
            self.running.remove(&number);
            let usage = if let Frame::Done { usage, .. } = frame { *usage } else { Usage::default() };
            self.end(id, usage);
        }
        true
    }

    fn fail(&mut self, mut running: Running, error: TaskError) {
        let sealed = running.frames.seal(&Frame::Failed { error }).or_else(|_| {
            let error = TaskError::Engine { message: "an error message exceeded its limit".to_owned() };
            running.frames.seal(&Frame::Failed { error })
        });
        let frames = vec![sealed.expect("this frame is small, and the answer has not ended")];
        self.outbox.put(&FromWorker::Frames { task: running.id, frames });
        self.end(running.id, Usage::default());
    }

    fn end(&self, id: TaskId, usage: Usage) {
        self.inbox.ended(id);
        self.outbox.put(&FromWorker::Finished { task: id, usage });
    }

    fn shut_down(&mut self, engine: &mut dyn Engine, waiting: Vec<Opened>) {
        for (number, running) in std::mem::take(&mut self.running) {
            engine.cancel(number);
            self.fail(running, TaskError::ShuttingDown);
        }
        for Opened { id, frames, .. } in waiting {
            self.fail(Running { id, frames }, TaskError::ShuttingDown);
        }
    }
}
