//! What a fetch may use, and how long it waits.

use std::{env, fmt, time::Duration};

/// What a fetch may use, and how long it waits.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Whether origins may be asked at all; without, only what is here is used.
    pub network: bool,
    /// The hub.
    pub hub: HubSettings,
    /// The Python package installer.
    pub python: PythonSettings,
    /// Time limits.
    pub patience: Patience,
}

/// Which hub, and as whom.
#[derive(Debug, Clone)]
pub struct HubSettings {
    /// Base URL of the hub or of a mirror.
    pub endpoint: String,
    /// Sent to the endpoint and to nobody else.
    pub token: Option<Token>,
}

/// How `pip` is called: each command is tried until one exists.
#[derive(Debug, Clone)]
pub struct PythonSettings {
    /// Programs with their first arguments.
    pub commands: Vec<Vec<String>>,
}

/// How long a fetch waits for what.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For a connection.
    pub connect: Duration,
    /// For the first answer to a request.
    pub answer: Duration,
    /// For the next bytes. A transfer that brings less than [`Patience::bytes_min`] in this time has stalled too.
    pub stall: Duration,
    /// See [`Patience::stall`].
    pub bytes_min: u64,
    /// Attempts in a row that bring next to nothing before an origin is given up.
    pub attempts_idle_max: u32,
    /// Pause before the second attempt in a row; doubled for each further one.
    pub retry_pause: Duration,
    /// How often a lock held by another process is tried, and the size of a growing package is looked at.
    pub lock_poll: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            answer: Duration::from_secs(15),
            stall: Duration::from_secs(30),
            bytes_min: 16 << 10,
            attempts_idle_max: 4,
            retry_pause: Duration::from_millis(500),
            lock_poll: Duration::from_millis(200),
        }
    }
}

/// A secret that opens gated repositories. It never shows in logs.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(pub String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

impl Settings {
    /// The usual settings: `HF_ENDPOINT` (default `https://huggingface.co`) and `HF_TOKEN` as every client of the hub reads
    /// them, `python3 -m pip` or `pip3`. Proxies (`HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`) are honoured by the HTTP client,
    /// and package indexes (`PIP_INDEX_URL`, `pip.conf`) by pip.
    pub fn from_environment() -> Self {
        let set = |name| env::var(name).ok().map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        let command = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        Self {
            network: true,
            hub: HubSettings {
                endpoint: set("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".to_owned()),
                token: set("HF_TOKEN").map(Token),
            },
            python: PythonSettings { commands: vec![command(&["python3", "-m", "pip"]), command(&["pip3"])] },
            patience: Patience::default(),
        }
    }
}
