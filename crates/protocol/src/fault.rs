//! What members of a committee do that nobody honest does.

use serde::{Deserialize, Serialize};

/// How a member has contradicted itself. New kinds are added at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum FaultKind {
    /// Two votes to notarise different blocks in one round.
    ConflictingNotarize,
    /// Two votes to finalise different blocks in one round.
    ConflictingFinalize,
    /// A vote to finalise a block and one to skip the round.
    NullifyFinalize,
}

impl FaultKind {
    /// Its number, which never changes.
    pub fn number(self) -> u8 {
        self as u8
    }
}
