//! The daemon's side: starts a worker, sends it sealed tasks, opens what comes back.

use protocol::{
    codec,
    ids::TaskId,
    ipc::{FromWorker, ModelFacts, ToWorker},
    limits::IPC_MESSAGE_BYTES_MAX,
    sealing::{FrameOpener, SealedTask, SealingKey, Suite, seal_task},
    task::{Frame, Task, Usage},
};
use std::{
    collections::HashMap,
    fs::File,
    io::{Read, Write},
    os::unix::net::UnixStream,
    process::{Child, Command, Stdio},
};
use worker::{Options, launch};

pub(crate) struct Daemon {
    child: Child,
    socket: UnixStream,
    pub(crate) keys: Vec<SealingKey>,
    pub(crate) model: ModelFacts,
    pub(crate) sandbox_json: String,
    answers: HashMap<TaskId, Answer>,
}

struct Answer {
    opener: FrameOpener,
    frames: Vec<Frame>,
    finished: Option<Usage>,
}

impl Daemon {
    /// A worker that is ready.
    pub(crate) fn start(slots: u32) -> Self {
        let mut daemon = Self::spawn("obedient", slots, |_| {});
        daemon.await_ready();
        daemon
    }

    /// A worker whose model file holds `model`.
    pub(crate) fn spawn(model: &str, slots: u32, change: impl FnOnce(&mut Command)) -> Self {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(model.as_bytes()).unwrap();
        Self::spawn_on(File::open(file.path()).unwrap(), slots, change)
    }

    pub(crate) fn spawn_writable() -> Self {
        Self::spawn_on(tempfile::tempfile().unwrap(), 1, |_| {})
    }

    fn spawn_on(model: File, slots: u32, change: impl FnOnce(&mut Command)) -> Self {
        let options = Options { slots: Some(slots), ..Options::default() };
        let program = std::env::current_exe().unwrap();
        let launch::Launch { mut command, socket } = launch::prepare(&program, model, options.arguments()).unwrap();
        change(&mut command);
        let child = command.stderr(Stdio::piped()).spawn().unwrap();
        let model =
            ModelFacts { architecture: String::new(), context_tokens: 0, slots: 0, embedding_length: 0, chat: false };
        Self { child, socket, keys: Vec::new(), model, sandbox_json: String::new(), answers: HashMap::new() }
    }

    pub(crate) fn await_ready(&mut self) {
        match self.next() {
            FromWorker::Ready { keys, model, sandbox_json } => {
                (self.keys, self.model, self.sandbox_json) = (keys, model, sandbox_json);
            }
            other => panic!("{other:?} before it was ready"),
        }
    }

    pub(crate) fn send(&mut self, message: &ToWorker) {
        self.send_bytes(&codec::encode_prefixed(message, IPC_MESSAGE_BYTES_MAX).unwrap());
    }

    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).unwrap();
    }

    /// Seals a completion to the worker's best key.
    pub(crate) fn seal(&mut self, prompt: &str) -> (TaskId, SealedTask) {
        let id = TaskId::random();
        let task = Task::Completion { prompt: prompt.to_owned(), generation: Default::default() };
        (id, self.seal_as(id, &task))
    }

    pub(crate) fn seal_as(&mut self, id: TaskId, task: &Task) -> SealedTask {
        let (sealed, opener) = seal_task(&self.keys[0], id, task).unwrap();
        self.answers.entry(id).or_insert(Answer { opener, frames: Vec::new(), finished: None });
        sealed
    }

    pub(crate) fn run(&mut self, prompt: &str) -> TaskId {
        let (task, sealed) = self.seal(prompt);
        self.send(&ToWorker::Run { task, sealed });
        task
    }

    pub(crate) fn run_with(&mut self, suite: Suite, prompt: &str) -> TaskId {
        self.keys.retain(|key| key.suite == suite);
        self.run(prompt)
    }

    pub(crate) fn run_task(&mut self, task: &Task) -> TaskId {
        let id = TaskId::random();
        let sealed = self.seal_as(id, task);
        self.send(&ToWorker::Run { task: id, sealed });
        id
    }

    /// The next message; `None` at the end.
    fn read(&mut self) -> Option<FromWorker> {
        let mut prefix = [0; codec::PREFIX_BYTES];
        self.socket.read_exact(&mut prefix).ok()?;
        let mut bytes = vec![0; codec::decode_prefix(prefix, IPC_MESSAGE_BYTES_MAX).unwrap()];
        self.socket.read_exact(&mut bytes).ok()?;
        Some(codec::decode(&bytes, IPC_MESSAGE_BYTES_MAX).unwrap())
    }

    /// The next message that is no sign of life.
    pub(crate) fn next(&mut self) -> FromWorker {
        loop {
            match self.next_of_all() {
                FromWorker::Alive => {}
                message => return message,
            }
        }
    }

    pub(crate) fn next_of_all(&mut self) -> FromWorker {
        self.read().expect("the worker says something")
    }

    pub(crate) fn signal(&self, signal: libc::c_int) {
        // SAFETY: our own child, which has not been waited for.
        assert_eq!(unsafe { libc::kill(self.child.id() as libc::pid_t, signal) }, 0);
    }

    /// Whether the worker says something within a time.
    pub(crate) fn is_heard_within(&mut self, limit: std::time::Duration) -> bool {
        self.socket.set_read_timeout(Some(limit)).unwrap();
        let mut byte = [0];
        // SAFETY: reads at most one byte into a buffer of one; nothing is taken from the stream.
        let seen = unsafe {
            let socket = std::os::fd::AsRawFd::as_raw_fd(&self.socket);
            libc::recv(socket, byte.as_mut_ptr().cast(), 1, libc::MSG_PEEK)
        };
        self.socket.set_read_timeout(None).unwrap();
        seen == 1
    }

    /// Takes frames into their answers; gives the first other message that is not the end of an answer.
    pub(crate) fn next_but_frames(&mut self) -> FromWorker {
        loop {
            let message = self.next();
            if let Some(message) = self.keep(message) {
                return message;
            }
        }
    }

    fn keep(&mut self, message: FromWorker) -> Option<FromWorker> {
        match message {
            FromWorker::Frames { task, frames } => {
                let answer = self.answers.get_mut(&task).expect("a task that was sent");
                for frame in frames {
                    answer.frames.push(answer.opener.open(&frame).expect("authentic and in order"));
                }
                None
            }
            FromWorker::Finished { task, usage } => {
                let answer = self.answers.get_mut(&task).expect("a task that was sent");
                assert!(answer.opener.is_complete(), "finished before its last frame");
                assert_eq!(answer.finished.replace(usage), None, "finished twice");
                None
            }
            other => Some(other),
        }
    }

    pub(crate) fn await_start(&mut self, task: TaskId) {
        while self.answers[&task].frames.is_empty() {
            let message = self.next();
            assert_eq!(self.keep(message), None);
        }
    }

    /// Everything that one task got, until it is finished.
    pub(crate) fn answer(&mut self, task: TaskId) -> (Vec<Frame>, Usage) {
        loop {
            if let Some(usage) = self.answers[&task].finished {
                return (self.answers[&task].frames.clone(), usage);
            }
            let message = self.next();
            assert_eq!(self.keep(message), None);
        }
    }

    /// All messages until the worker ends.
    pub(crate) fn rest(&mut self) -> Vec<FromWorker> {
        std::iter::from_fn(|| self.read()).filter(|message| *message != FromWorker::Alive).collect()
    }

    /// The worker's exit code and what it printed.
    pub(crate) fn exit(mut self) -> (Option<i32>, String) {
        self.rest();
        self.collect()
    }

    /// As [`Self::exit`], after hanging up.
    pub(crate) fn hang_up(mut self) -> (Option<i32>, String) {
        self.socket.shutdown(std::net::Shutdown::Both).unwrap();
        self.collect()
    }

    fn collect(&mut self) -> (Option<i32>, String) {
        let mut printed = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut printed).unwrap();
        let status = self.child.wait().unwrap();
        (status.code(), printed)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // A test that failed, or that has seen enough.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The text of an answer.
pub(crate) fn text_of(frames: &[Frame]) -> String {
    let text = |frame: &Frame| match frame {
        Frame::Tokens { text, .. } => text.clone(),
        _ => String::new(),
    };
    frames.iter().map(text).collect()
}
