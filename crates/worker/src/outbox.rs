//! Messages to the daemon. Those of one step of the engine are collected and leave in one write.

use protocol::{codec, ipc::FromWorker, limits};
use std::{
    fs::File,
    io::{self, Write},
    mem,
    sync::{Arc, Mutex, MutexGuard},
};

/// Collected bytes beyond which they leave at once.
const COLLECTED_BYTES_MAX: usize = 64 << 10;

#[derive(Debug)]
pub(crate) struct Outbox(Mutex<Collected>);

#[derive(Debug)]
struct Collected {
    socket: Arc<File>,
    bytes: Vec<u8>,
    failed: Option<io::ErrorKind>,
}

impl Outbox {
    pub(crate) fn new(socket: Arc<File>) -> Self {
        Self(Mutex::new(Collected { socket, bytes: Vec::new(), failed: None }))
    }

    /// Adds a message. It leaves with the next [`Self::flush`] of any thread, which also tells of a failure.
    pub(crate) fn put(&self, message: &FromWorker) {
        let bytes = codec::encode_prefixed(message, limits::IPC_MESSAGE_BYTES_MAX)
            .expect("a sealed frame and everything else that a worker sends is within the limit");
        let mut collected = self.lock();
        collected.bytes.extend_from_slice(&bytes);
        if collected.bytes.len() > COLLECTED_BYTES_MAX {
            collected.write();
        }
    }

    /// Writes what was collected. Blocks while the daemon reads nothing, up to the socket's own limit.
    pub(crate) fn flush(&self) -> io::Result<()> {
        let mut collected = self.lock();
        collected.write();
        match collected.failed {
            Some(kind) => Err(kind.into()),
            None => Ok(()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Collected> {
        self.0.lock().expect("a panic ends the process")
    }
}

impl Collected {
    fn write(&mut self) {
        let mut bytes = mem::take(&mut self.bytes);
        if self.failed.is_none() && !bytes.is_empty() {
            self.failed = self.socket.as_ref().write_all(&bytes).err().map(|error| error.kind());
        }
        // The next step needs the room again.
        bytes.clear();
        self.bytes = bytes;
    }
}
