//! How `darkbloom status`, `pause`, `resume` and `drain` reach the daemon of a home: a socket that only the owner opens, one
//! question on a line, one answer.

use crate::{failure::Failure, home::Home, report::Status};
use serde::{Deserialize, Serialize};
use std::{io::ErrorKind, os::unix::fs::PermissionsExt, path::PathBuf, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
};

const QUESTION_BYTES_MAX: u64 = 1 << 10;
const ANSWER_BYTES_MAX: u64 = 16 << 20;
const TIME_MAX: Duration = Duration::from_secs(5);

/// What a daemon is asked. Every answer is its status afterwards.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub enum Question {
    /// How are you?
    Status,
    /// Give the machine back.
    Pause {
        /// Until when, in milliseconds since 1970; `None`: until it is resumed.
        until_unix_ms: Option<u64>,
    },
    /// End a pause or a drain.
    Resume,
    /// Finish what runs.
    Drain,
}

/// The answer, or why there is none.
type Answer = Result<Status, String>;

/// Answers until it is dropped.
pub struct Control {
    path: PathBuf,
    serving: tokio::task::JoinHandle<()>,
}

impl Control {
    /// Listens in `home`. The caller holds the home's lock, so that a socket that is there is a dead one's.
    pub fn listen(home: &Home, answer: impl Fn(Question) -> Answer + Send + Sync + 'static) -> Result<Self, Failure> {
        let path = home.control_socket();
        let fail = |error| Failure::new(format!("cannot listen on {}: {error}", path.display()));
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(fail(error)),
            _ => {}
        }
        let listener = UnixListener::bind(&path).map_err(fail)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).map_err(fail)?;
        let answer = Arc::new(answer);
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if !is_ours(&stream) {
                    continue;
                }
                let answer = Arc::clone(&answer);
                tokio::spawn(async move {
                    // A caller that has gone needs no answer.
                    let _ = tokio::time::timeout(TIME_MAX, serve(stream, &*answer)).await;
                });
            }
        });
        Ok(Self { path, serving })
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.serving.abort();
        // Another start removes it too.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Whether the other end runs as the same user. A long home's socket lies where others can make one of the same name.
fn is_ours(stream: &UnixStream) -> bool {
    stream.peer_cred().is_ok_and(|peer| peer.uid() == nix::unistd::geteuid().as_raw())
}

async fn serve(stream: UnixStream, answer: &(dyn Fn(Question) -> Answer + Send + Sync)) -> std::io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut line = String::new();
    BufReader::new(reader.take(QUESTION_BYTES_MAX)).read_line(&mut line).await?;
    // Another version's question gets no answer.
    if let Ok(question) = serde_json::from_str(&line) {
        let json = serde_json::to_vec(&answer(question)).map_err(std::io::Error::other)?;
        writer.write_all(&json).await?;
    }
    writer.shutdown().await
}

/// Asks the daemon in `home`; `None` where none runs.
pub async fn ask(home: &Home, question: Question) -> Result<Option<Status>, Failure> {
    let path = home.control_socket();
    let mut stream = match UnixStream::connect(&path).await {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => return Ok(None),
        Err(error) => return Err(Failure::new(format!("cannot reach the daemon at {}: {error}", path.display()))),
    };
    if !is_ours(&stream) {
        return Err(Failure::new(format!("{} is another user's", path.display()))
            .hint("somebody took the name of this home's socket: remove it, or choose a shorter home"));
    }
    let exchange = async {
        let mut line = serde_json::to_vec(&question).map_err(std::io::Error::other)?;
        line.push(b'\n');
        stream.write_all(&line).await?;
        let mut json = Vec::new();
        stream.take(ANSWER_BYTES_MAX).read_to_end(&mut json).await?;
        Ok::<_, std::io::Error>(json)
    };
    let silent = || Failure::new("the daemon of this home does not answer").hint("it may be shutting down; try again");
    let json = tokio::time::timeout(TIME_MAX, exchange).await.map_err(|_| silent())?.map_err(|_| silent())?;
    let answer: Answer = serde_json::from_slice(&json).map_err(|_| {
        Failure::new("the daemon of this home is of another version").hint("stop it and start it again with this one")
    })?;
    answer.map(Some).map_err(Failure::new)
}
