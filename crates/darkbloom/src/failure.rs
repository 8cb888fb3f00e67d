//! One voice for every failure: a cause, and a remedy where there is one.

use std::{fmt::Display, process::ExitCode};

/// What becomes of a machine that an administrator has to let in.
pub const AWAITS_APPROVAL: &str = "in an administrator's home `darkbloom pool members` lists who waits, and \
                                   `darkbloom pool approve ID` lets them in";

/// What the person at the terminal is told.
#[derive(Debug)]
pub struct Failure {
    cause: String,
    hint: Option<String>,
}

impl Failure {
    /// A failure with its cause.
    pub fn new(cause: impl Display) -> Self {
        Self { cause: cause.to_string(), hint: None }
    }

    /// Adds the remedy.
    pub fn hint(mut self, hint: impl Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }

    /// Prints it, and the exit status that goes with it.
    pub fn print(&self) -> ExitCode {
        eprintln!("error: {}", self.cause);
        if let Some(hint) = &self.hint {
            eprintln!("hint: {hint}");
        }
        ExitCode::FAILURE
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.cause)
    }
}

impl From<client::AskError> for Failure {
    fn from(error: client::AskError) -> Self {
        let hint = match &error {
            client::AskError::Unreachable { .. } => {
                Some("is the pool running? `darkbloom status` on its machine says so, `darkbloom up` starts one")
            }
            client::AskError::Denied(protocol::link::Denied::AwaitsApproval) => Some(AWAITS_APPROVAL),
            client::AskError::Denied(_) => Some("`darkbloom status` on the pool's machine shows its current ticket"),
            client::AskError::NotBelieved { .. } => {
                Some("an orchestrator shows what the pool has not agreed on: tell the pool's owner which one")
            }
            client::AskError::NoNode { reasons, .. }
                if reasons.iter().any(|reason| reason.contains("insufficient credits")) =>
            {
                Some(
                    "`darkbloom credits balance` shows what there is; lend a machine with `darkbloom join` to earn more",
                )
            }
            client::AskError::NoNode { .. } => Some("`darkbloom status` says what each node waits for"),
            _ => None,
        };
        let failure = Self::new(error);
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

impl From<swarm::store::StoreError> for Failure {
    fn from(error: swarm::store::StoreError) -> Self {
        let remedy = error.remedy();
        Self::new(error).hint(remedy)
    }
}

impl From<swarm::fetch::FetchError> for Failure {
    fn from(error: swarm::fetch::FetchError) -> Self {
        let remedy = error.remedy();
        Self::new(error).hint(remedy)
    }
}
