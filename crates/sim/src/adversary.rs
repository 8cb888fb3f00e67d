//! Nodes that are not what they seem.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a node really is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Character {
    /// It does what it says.
    Honest,
    /// A fake node, one of many of one hand: it joins where anybody may, claims to be fast, and answers at once with
    /// noise.
    Sybil,
    /// It takes every task and fails it at once, so that it always looks idle.
    BlackHole,
    /// It takes every task and never says a word about it.
    Mute,
    /// It claims ten times its speed.
    Liar,
}

/// How many times its speed a liar claims.
pub const LIE: f64 = 10.0;
/// From a task's arrival at a black hole to its failure, in seconds.
pub const BLACK_HOLE_S: f64 = 0.05;
/// What a fake node claims, and shows with noise: tokens of a prompt and of an answer in a second.
pub const SYBIL_RATES: (f64, f64) = (2_000.0, 100.0);

impl Character {
    /// Every one, in order.
    pub const ALL: [Self; 5] = [Self::Honest, Self::Sybil, Self::BlackHole, Self::Mute, Self::Liar];

    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Honest => "honest",
            Self::Sybil => "sybil",
            Self::BlackHole => "black hole",
            Self::Mute => "mute",
            Self::Liar => "liar",
        }
    }
}
