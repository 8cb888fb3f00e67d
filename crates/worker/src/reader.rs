//! The reading thread: takes messages from the daemon, opens tasks, and answers at once what cannot be taken, so that
//! the engine's thread never waits for cryptography.

use crate::{
    Exit,
    inbox::{Inbox, Opened},
    keys::KeyRing,
    outbox::Outbox,
};
use protocol::{
    codec,
    ids::TaskId,
    ipc::{FromWorker, Rejection, ToWorker},
    limits,
    sealing::SealedTask,
};
use std::{
    io::{self, BufReader, Read},
    sync::{Arc, Mutex},
    time::Instant,
};

pub(crate) struct Reader {
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) keys: Arc<Mutex<KeyRing>>,
}

/// Why nothing more is read.
enum Stop {
    DaemonGone,
    /// The daemon is not hostile in the worker's eyes, but a broken one cannot be followed any further.
    Malformed,
}

impl From<io::Error> for Stop {
    fn from(_: io::Error) -> Self {
        Self::DaemonGone
    }
}

impl From<codec::CodecError> for Stop {
    fn from(_: codec::CodecError) -> Self {
        Self::Malformed
    }
}

impl Reader {
    /// Reads until the daemon is gone. The process has no purpose afterwards.
    pub(crate) fn run(&self, socket: impl Read) -> Exit {
        let mut socket = BufReader::new(socket);
        let stop = loop {
            match read_message(&mut socket) {
                Ok(message) => match self.obey(message) {
                    Ok(()) => {}
                    Err(_) => break Stop::DaemonGone,
                },
                Err(stop) => break stop,
            }
        };
        let exit = match stop {
            Stop::DaemonGone => Exit::DaemonGone,
            Stop::Malformed => Exit::Protocol,
        };
        self.inbox.cut_off(exit);
        exit
    }

    fn obey(&self, message: ToWorker) -> io::Result<()> {
        match message {
            ToWorker::Run { task, sealed } => match self.admit(task, &sealed) {
                Ok(()) => Ok(()),
                Err(why) => {
                    self.outbox.put(&FromWorker::Rejected { task, why });
                    self.outbox.flush()
                }
            },
            ToWorker::Cancel { task } => {
                self.inbox.cancel(task);
                Ok(())
            }
            ToWorker::Shutdown => {
                self.inbox.shut_down();
                Ok(())
            }
        }
    }

    fn admit(&self, id: TaskId, sealed: &SealedTask) -> Result<(), Rejection> {
        let bytes = sealed.ciphertext.len();
        self.inbox.check(id, bytes)?;
        let now = Instant::now();
        let mut keys = self.keys.lock().expect("a panic ends the process");
        let (task, frames) = keys.open(id, sealed, now)?;
        turn_keys(&mut keys, &self.outbox, now);
        drop(keys);
        self.inbox.add(Opened { id, task, frames, bytes });
        Ok(())
    }
}

/// Renews keys that are due and announces them. Under one lock, so that announcements leave in order. The ring's first
/// keys are announced by `Ready`.
pub(crate) fn turn_keys(keys: &mut KeyRing, outbox: &Outbox, now: Instant) {
    if keys.turn(now) {
        outbox.put(&FromWorker::Keys { keys: keys.public() });
        // A failure shows at the next write too.
        let _ = outbox.flush();
    }
}

fn read_message(socket: &mut impl Read) -> Result<ToWorker, Stop> {
    let mut prefix = [0; codec::PREFIX_BYTES];
    socket.read_exact(&mut prefix)?;
    let mut bytes = vec![0; codec::decode_prefix(prefix, limits::IPC_MESSAGE_BYTES_MAX)?];
    socket.read_exact(&mut bytes)?;
    Ok(codec::decode(&bytes, limits::IPC_MESSAGE_BYTES_MAX)?)
}
