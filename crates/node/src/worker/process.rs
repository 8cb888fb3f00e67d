//! The worker's process: one read-only descriptor of the model, one socketpair, an empty environment.

use crate::NodeConfig;
use command_fds::{CommandFdExt, FdMapping};
use protocol::{
    codec,
    ipc::{FromWorker, MODEL_FD, SOCKET_FD, ToWorker},
    limits,
};
use std::{os::fd::OwnedFd, process::Stdio};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
    process::{Child, Command},
    sync::mpsc,
};

/// Messages that wait for the worker before a sender waits too.
const OUTBOX_MAX: usize = 1024;
/// Messages of the worker that wait for the supervisor.
const INBOX_MAX: usize = 1024;

pub(super) struct Process {
    child: Child,
    id: u32,
}

impl Process {
    pub(super) fn id(&self) -> u32 {
        self.id
    }

    /// Waits for the exit and says how it came.
    pub(super) async fn exit_reason(&mut self) -> String {
        match self.child.wait().await {
            Ok(status) => format!("it ended with {status}"),
            Err(error) => format!("it ended: {error}"),
        }
    }

    /// Ends it for good.
    pub(super) async fn end(&mut self) {
        // Fails only where it has ended already; `kill` also reaps.
        let _ = self.child.kill().await;
    }
}

type Parts = (Process, mpsc::Receiver<FromWorker>, mpsc::Sender<ToWorker>);

pub(super) async fn start(config: &NodeConfig) -> Result<Parts, String> {
    let model = config.model_file.try_clone().map_err(|error| format!("cannot hand over the model file: {error}"))?;
    let (ours, theirs) = UnixStream::pair().map_err(|error| format!("cannot make a socketpair: {error}"))?;
    let theirs = theirs
        .into_std()
        .and_then(|socket| socket.set_nonblocking(false).map(|()| socket))
        .map_err(|error| format!("cannot hand over a socket: {error}"))?;

    let mut command = Command::new(&config.worker_program);
    command.args(arguments(config)).env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit());
    // OpenMP's default spinning starves a machine with other work; measured: 80 against 2 tokens/s on two busy cores.
    command.env("GOMP_SPINCOUNT", "1000").kill_on_drop(true).current_dir("/");
    command
        .fd_mappings(vec![
            FdMapping { parent_fd: OwnedFd::from(model), child_fd: MODEL_FD },
            FdMapping { parent_fd: OwnedFd::from(theirs), child_fd: SOCKET_FD },
        ])
        .map_err(|error| format!("cannot map descriptors: {error}"))?;
    let child =
        command.spawn().map_err(|error| format!("cannot start {}: {error}", config.worker_program.display()))?;
    // Closes our copies of the worker's descriptors.
    drop(command);

    let (reader, writer) = ours.into_split();
    let (inbox, messages) = mpsc::channel(INBOX_MAX);
    let (outbox, outgoing) = mpsc::channel(OUTBOX_MAX);
    tokio::spawn(read(BufReader::with_capacity(64 << 10, reader), inbox));
    tokio::spawn(write(writer, outgoing));
    let id = child.id().unwrap_or_default();
    Ok((Process { child, id }, messages, outbox))
}

fn arguments(config: &NodeConfig) -> Vec<String> {
    let settings = &config.worker;
    let duty_percent = (settings.duty_percent < 100).then(|| u32::from(settings.duty_percent));
    [
        ("--slots", Some(settings.slots)),
        ("--threads", settings.threads),
        ("--context-tokens", settings.context_tokens),
        ("--duty-percent", duty_percent),
    ]
    .into_iter()
    .filter_map(|(name, value)| value.map(|value| format!("{name}={value}")))
    .collect()
}

async fn read(mut reader: BufReader<tokio::net::unix::OwnedReadHalf>, inbox: mpsc::Sender<FromWorker>) {
    loop {
        let mut prefix = [0; codec::PREFIX_BYTES];
        if reader.read_exact(&mut prefix).await.is_err() {
            return;
        }
        // The worker runs untrusted model code: its messages are bounded like a stranger's.
        let Ok(length) = codec::decode_prefix(prefix, limits::IPC_MESSAGE_BYTES_MAX) else {
            tracing::error!("the worker sent a message over the limit");
            return;
        };
        let mut bytes = vec![0; length];
        if reader.read_exact(&mut bytes).await.is_err() {
            return;
        }
        match codec::decode(&bytes, limits::IPC_MESSAGE_BYTES_MAX) {
            Ok(message) => {
                if inbox.send(message).await.is_err() {
                    return;
                }
            }
            Err(_) => {
                tracing::error!("the worker sent a malformed message");
                return;
            }
        }
    }
}

async fn write(mut writer: tokio::net::unix::OwnedWriteHalf, mut outgoing: mpsc::Receiver<ToWorker>) {
    while let Some(message) = outgoing.recv().await {
        let Ok(bytes) = codec::encode_prefixed(&message, limits::IPC_MESSAGE_BYTES_MAX) else {
            tracing::error!("a message to the worker is over the limit");
            continue;
        };
        if writer.write_all(&bytes).await.is_err() {
            return;
        }
    }
}
