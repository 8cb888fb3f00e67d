//! How `darkbloom status` reaches the daemon of a home: a socket that only the owner opens, one question, one answer.

use crate::{failure::Failure, home::Home, report::Status};
use std::{io::ErrorKind, os::unix::fs::PermissionsExt, path::PathBuf, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
};

const STATUS: &[u8] = b"status\n";
const ANSWER_BYTES_MAX: u64 = 16 << 20;
const TIME_MAX: Duration = Duration::from_secs(5);

/// Answers until it is dropped.
pub struct Control {
    path: PathBuf,
    serving: tokio::task::JoinHandle<()>,
}

impl Control {
    /// Listens in `home`. The caller holds the home's lock, so that a socket that is there is a dead one's.
    pub fn listen(home: &Home, status: impl Fn() -> Status + Send + Sync + 'static) -> Result<Self, Failure> {
        let path = home.control_socket();
        let fail = |error| Failure::new(format!("cannot listen on {}: {error}", path.display()));
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(fail(error)),
            _ => {}
        }
        let listener = UnixListener::bind(&path).map_err(fail)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).map_err(fail)?;
        let status = Arc::new(status);
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if !is_ours(&stream) {
                    continue;
                }
                let status = Arc::clone(&status);
                tokio::spawn(async move {
                    // A caller that has gone needs no answer.
                    let _ = tokio::time::timeout(TIME_MAX, answer(stream, &*status)).await;
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

async fn answer(mut stream: UnixStream, status: &(dyn Fn() -> Status + Send + Sync)) -> std::io::Result<()> {
    let mut question = [0; STATUS.len()];
    stream.read_exact(&mut question).await?;
    if question == STATUS {
        let json = serde_json::to_vec(&status()).map_err(std::io::Error::other)?;
        stream.write_all(&json).await?;
    }
    stream.shutdown().await
}

/// The status of the daemon in `home`; `None` where none runs.
pub async fn ask(home: &Home) -> Result<Option<Status>, Failure> {
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
        stream.write_all(STATUS).await?;
        let mut json = Vec::new();
        stream.take(ANSWER_BYTES_MAX).read_to_end(&mut json).await?;
        Ok::<_, std::io::Error>(json)
    };
    let silent = || Failure::new("the daemon of this home does not answer").hint("it may be shutting down; try again");
    let json = tokio::time::timeout(TIME_MAX, exchange).await.map_err(|_| silent())?.map_err(|_| silent())?;
    serde_json::from_slice(&json).map(Some).map_err(|_| {
        Failure::new("the daemon of this home is of another version").hint("stop it and start it again with this one")
    })
}
