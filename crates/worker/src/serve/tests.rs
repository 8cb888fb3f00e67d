use super::*;
use crate::{
    alive,
    keys::Rotation,
    reader::Reader,
    sandbox::{Layer, LayerState},
};
use engine::{EngineError, ModelInfo};
use protocol::{
    codec,
    ipc::{Rejection, ToWorker},
    limits::IPC_MESSAGE_BYTES_MAX,
    sealing::{FrameOpener, SealingKey, seal_task},
    task::Task,
};
use std::{
    fs::File,
    io::{Read, Write},
    os::{fd::OwnedFd, unix::net::UnixStream},
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// Makes one token for each permit, so that a test decides what happens between two tokens.
struct Stepwise {
    info: ModelInfo,
    running: Vec<u64>,
    permits: Receiver<Vec<Frame>>,
    /// Which tasks were started (true) and cancelled (false).
    events: Sender<(u64, bool)>,
}

impl Engine for Stepwise {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn free_slots(&self) -> usize {
        self.info.slots as usize - self.running.len()
    }

    fn start(&mut self, id: u64, _: &Task) -> Result<(), TaskError> {
        self.running.push(id);
        let _ = self.events.send((id, true));
        Ok(())
    }

    fn cancel(&mut self, id: u64) {
        let _ = self.events.send((id, false));
        self.running.retain(|running| *running != id);
    }

    fn step(&mut self, emit: &mut dyn FnMut(u64, Frame)) -> Result<bool, EngineError> {
        if self.running.is_empty() {
            return Ok(false);
        }
        let frames = self.permits.recv().expect("the test outlives the engine");
        for id in std::mem::take(&mut self.running) {
            frames.iter().for_each(|frame| emit(id, frame.clone()));
            if !frames.is_empty() && !frames.iter().any(Frame::is_final) {
                self.running.push(id);
            }
        }
        Ok(!self.running.is_empty())
    }
}

struct Daemon {
    socket: UnixStream,
    permits: Sender<Vec<Frame>>,
    keys: Vec<SealingKey>,
    events: Receiver<(u64, bool)>,
    /// Gives the permits that were not used too.
    worker: JoinHandle<(Exit, usize)>,
}

fn start(rotation: Rotation) -> Daemon {
    start_with(rotation, Duty::of_percent(100), alive::PERIOD)
}

fn start_with(rotation: Rotation, duty: Duty, sign_period: Duration) -> Daemon {
    let (socket, other) = UnixStream::pair().unwrap();
    let (permits, receiver) = channel();
    let (events, seen) = channel();
    let info = ModelInfo {
        name: String::new(),
        architecture: "stepwise".to_owned(),
        parameters: 0,
        weights_bytes: 0,
        vocabulary: 0,
        embedding_length: 4,
        trained_context_tokens: 100,
        context_tokens: 100,
        slots: 1,
        completion: true,
        chat: true,
        embedding: false,
    };
    let mut engine = Stepwise { info, running: Vec::new(), permits: receiver, events };
    let worker = thread::spawn(move || {
        let socket = Arc::new(File::from(OwnedFd::from(other)));
        let outbox = Arc::new(Outbox::new(Arc::clone(&socket)));
        let inbox = Arc::new(Inbox::default());
        let keys = Arc::new(Mutex::new(KeyRing::empty(rotation)));
        let reader = Reader { inbox: Arc::clone(&inbox), outbox: Arc::clone(&outbox), keys: Arc::clone(&keys) };
        thread::spawn(move || reader.run(socket));
        let layer = Layer { name: "none".to_owned(), state: LayerState::Unavailable, detail: String::new() };
        let report = Report { kernel: String::new(), layers: vec![layer], denials: Vec::new() };
        let signs = (Arc::clone(&inbox), Arc::clone(&outbox));
        thread::spawn(move || alive::run(&signs.0, &signs.1, sign_period));
        let exit = serve(&mut engine, &inbox, &outbox, &keys, &report, duty);
        (exit, engine.permits.try_iter().count())
    });
    let mut daemon = Daemon { socket, permits, keys: Vec::new(), events: seen, worker };
    let FromWorker::Ready { keys, model, .. } = daemon.next() else { panic!("ready comes first") };
    assert_eq!((model.embedding_length, model.chat), (0, true), "an embedding length without embeddings is none");
    daemon.keys = keys;
    daemon
}

impl Daemon {
    /// The next message that is no sign of life.
    fn next(&mut self) -> FromWorker {
        loop {
            match self.next_of_all() {
                FromWorker::Alive => {}
                message => return message,
            }
        }
    }

    fn next_of_all(&mut self) -> FromWorker {
        let mut prefix = [0; codec::PREFIX_BYTES];
        self.socket.read_exact(&mut prefix).unwrap();
        let mut bytes = vec![0; codec::decode_prefix(prefix, IPC_MESSAGE_BYTES_MAX).unwrap()];
        self.socket.read_exact(&mut bytes).unwrap();
        codec::decode(&bytes, IPC_MESSAGE_BYTES_MAX).unwrap()
    }

    fn send(&mut self, message: &ToWorker) {
        self.socket.write_all(&codec::encode_prefixed(message, IPC_MESSAGE_BYTES_MAX).unwrap()).unwrap();
    }

    fn run(&mut self) -> (TaskId, FrameOpener) {
        let task = TaskId::random();
        let (sealed, opener) = seal_task(&self.keys[0], task, &Task::chat("count")).unwrap();
        self.send(&ToWorker::Run { task, sealed });
        (task, opener)
    }

    fn permit(&self, frames: Vec<Frame>) {
        self.permits.send(frames).unwrap();
    }

    fn frame_of(&mut self, task: TaskId) -> Vec<u8> {
        match self.next() {
            FromWorker::Frames { task: named, mut frames } if named == task && frames.len() == 1 => frames.remove(0),
            other => panic!("{other:?} instead of a frame"),
        }
    }

    /// Returns when the reading thread has seen everything that was sent before.
    fn synchronise(&mut self) {
        let task = TaskId::random();
        let (mut sealed, _) = seal_task(&self.keys[0], task, &Task::chat("")).unwrap();
        sealed.ciphertext.clear();
        self.send(&ToWorker::Run { task, sealed });
        assert_eq!(self.next(), FromWorker::Rejected { task, why: Rejection::NotAuthentic });
    }

    fn shut_down(mut self) -> Exit {
        self.send(&ToWorker::Shutdown);
        self.worker.join().unwrap().0
    }
}

fn token() -> Frame {
    Frame::Tokens { ids: vec![1], text: "one".to_owned(), log_probs: vec![-0.5] }
}

fn done() -> Frame {
    Frame::Done { finish: protocol::task::Finish::Stop, usage: Usage { prompt_tokens: 1, completion_tokens: 2 } }
}

#[test]
fn a_cancelled_task_gets_the_token_under_way_and_no_other() {
    let mut daemon = start(Rotation::default());
    let (cancelled, mut answer) = daemon.run();
    daemon.permit(vec![token()]);
    let frame = daemon.frame_of(cancelled);
    assert_eq!(answer.open(&frame), Ok(token()));
    // The engine is inside its next step, or will be in it without another look at its orders.
    daemon.send(&ToWorker::Cancel { task: cancelled });
    let (next, mut next_answer) = daemon.run();
    daemon.synchronise();
    daemon.permit(vec![token()]);
    let mut frames = 0;
    daemon.permit(vec![token(), done()]);
    let first_of_next = loop {
        match daemon.next() {
            FromWorker::Frames { task, frames: mut sealed } if task == next => break sealed.remove(0),
            FromWorker::Frames { task, .. } if task == cancelled => frames += 1,
            other => panic!("{other:?}"),
        }
    };
    assert!(frames <= 1, "{frames} tokens after the cancellation");
    assert_eq!(next_answer.open(&first_of_next), Ok(token()));
    let frame = daemon.frame_of(next);
    // Where the cancellation came before the step, both permits were the second task's.
    if next_answer.open(&frame).unwrap() == token() {
        let frame = daemon.frame_of(next);
        assert_eq!(next_answer.open(&frame), Ok(done()));
    }
    assert_eq!(
        daemon.next(),
        FromWorker::Finished { task: next, usage: Usage { prompt_tokens: 1, completion_tokens: 2 } }
    );
    assert_eq!(daemon.shut_down(), Exit::Shutdown);
}

#[test]
fn a_lost_daemon_ends_the_loop() {
    let daemon = start(Rotation::default());
    drop(daemon.socket);
    assert_eq!(daemon.worker.join().unwrap().0, Exit::DaemonGone);
}

#[test]
fn an_engine_that_forgets_a_task_does_not_leave_its_reader_waiting() {
    let mut daemon = start(Rotation::default());
    let (task, mut answer) = daemon.run();
    daemon.permit(Vec::new());
    let frame = daemon.frame_of(task);
    assert!(matches!(answer.open(&frame), Ok(Frame::Failed { error: TaskError::Engine { .. } })));
    assert_eq!(daemon.next(), FromWorker::Finished { task, usage: Usage::default() });
    assert_eq!(daemon.shut_down(), Exit::Shutdown);
}

#[test]
fn a_frame_beyond_its_limit_ends_its_task_alone() {
    let mut daemon = start(Rotation::default());
    let (task, mut answer) = daemon.run();
    daemon.permit(vec![Frame::Embedding { index: 0, vector: vec![1.0; 1 << 17] }]);
    let frame = daemon.frame_of(task);
    assert!(matches!(answer.open(&frame), Ok(Frame::Failed { error: TaskError::Engine { .. } })));
    assert_eq!(daemon.next(), FromWorker::Finished { task, usage: Usage::default() });
    assert_eq!(daemon.shut_down(), Exit::Shutdown);
}

#[test]
fn full_keys_are_renewed_and_announced() {
    let rotation = Rotation { tasks_max: 2, ..Rotation::default() };
    let mut daemon = start(rotation);
    let old = daemon.keys.clone();
    let run_to_end = |daemon: &mut Daemon| {
        let (task, _) = daemon.run();
        daemon.permit(vec![done()]);
        (0..3)
            .map(|_| daemon.next())
            .find_map(|message| match message {
                FromWorker::Keys { keys } => Some(keys),
                FromWorker::Finished { task: named, .. } if named == task => Some(Vec::new()),
                _ => None,
            })
            .unwrap()
    };
    assert!(run_to_end(&mut daemon).is_empty());
    let new = run_to_end(&mut daemon);
    assert_eq!(new.len(), old.len());
    assert_ne!(new, old);
    assert_eq!(daemon.shut_down(), Exit::Shutdown);
}

#[test]
fn old_keys_are_renewed_while_nobody_asks_for_anything() {
    let rotation = Rotation { period: Duration::from_millis(1), grace: Duration::ZERO, ..Rotation::default() };
    let mut daemon = start(rotation);
    for _ in 0..3 {
        let FromWorker::Keys { keys } = daemon.next() else { panic!("nothing else happens") };
        assert_ne!(keys, daemon.keys);
        daemon.keys = keys;
    }
}

#[test]
fn a_rest_is_interrupted_by_orders_but_not_by_work() {
    let mut daemon = start_with(Rotation::default(), Duty::of_one_step(), alive::PERIOD);
    let (first, _) = daemon.run();
    assert_eq!(daemon.events.recv(), Ok((0, true)));
    daemon.permit(vec![token()]);
    daemon.frame_of(first);
    // Now it rests, for ever. A cancelled task ends nevertheless, and its slot is given away.
    daemon.send(&ToWorker::Cancel { task: first });
    assert_eq!(daemon.events.recv(), Ok((0, false)));
    let (second, _) = daemon.run();
    assert_eq!(daemon.events.recv(), Ok((1, true)));
    daemon.permit(vec![token()]);
    daemon.send(&ToWorker::Shutdown);
    // Nothing was computed: the first thing that the second task hears is the end.
    daemon.frame_of(second);
    assert_eq!(daemon.next(), FromWorker::Finished { task: second, usage: Usage::default() });
    assert_eq!(daemon.worker.join().unwrap(), (Exit::Shutdown, 1));
}

#[test]
fn there_are_signs_of_life_during_a_long_step_and_none_while_idle() {
    let mut daemon = start_with(Rotation::default(), Duty::of_percent(100), Duration::from_millis(1));
    let (task, _) = daemon.run();
    // The engine is inside a step until it is permitted to end it.
    assert_eq!(daemon.events.recv(), Ok((0, true)));
    for _ in 0..3 {
        assert_eq!(daemon.next_of_all(), FromWorker::Alive);
    }
    daemon.permit(vec![done()]);
    daemon.frame_of(task);
    let usage = Usage { prompt_tokens: 1, completion_tokens: 2 };
    assert_eq!(daemon.next(), FromWorker::Finished { task, usage });
    // One sign may have been under way when the task ended. Behind it there is nothing, for as long as one looks.
    daemon.synchronise();
    daemon.socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let nothing = daemon.socket.read(&mut [0]).unwrap_err();
    assert!(matches!(nothing.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut), "{nothing}");
}
