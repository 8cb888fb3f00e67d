//! Names of machines, pools, tasks and models: fixed-size bytes with one text form each.

use data_encoding::BASE32_NOPAD;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// A text that is not the id it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a {kind}: expected {expected}")]
pub struct ParseIdError {
    kind: &'static str,
    expected: &'static str,
    text: String,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $len:literal, $kind:literal, $expected:literal, $encode:expr, $decode:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// The raw bytes.
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }

            /// The first ten characters, for people.
            pub fn short(&self) -> String {
                self.to_string().chars().take(10).collect()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&$encode(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.short())
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                let error = || ParseIdError { kind: $kind, expected: $expected, text: text.chars().take(80).collect() };
                let bytes: Vec<u8> = $decode(text).ok_or_else(error)?;
                Ok(Self(bytes.try_into().map_err(|_| error())?))
            }
        }
    };
}

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    data_encoding::HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok()
}

fn base32(bytes: &[u8]) -> String {
    BASE32_NOPAD.encode(bytes).to_ascii_lowercase()
}

fn unbase32(text: &str) -> Option<Vec<u8>> {
    BASE32_NOPAD.decode(text.to_ascii_uppercase().as_bytes()).ok()
}

id!(
    /// A machine: its Ed25519 public key, which is its QUIC endpoint id too. Text: 64 hexadecimal digits.
    NodeId, 32, "machine id", "64 hexadecimal digits", hex, unhex
);
id!(
    /// A pool: the BLAKE3 hash of its genesis. Text: 52 characters of base 32.
    PoolId, 32, "pool id", "52 characters of base 32", base32, unbase32
);
id!(
    /// One task, named by its client. Text: 26 characters of base 32.
    TaskId, 16, "task id", "26 characters of base 32", base32, unbase32
);
id!(
    /// A file of weights: its BLAKE3 hash. Text: 64 hexadecimal digits.
    ModelDigest, 32, "model digest", "64 hexadecimal digits", hex, unhex
);

id!(
    /// Who earns and spends: an Ed25519 public key. A machine that belongs to no other account is its own, under its own
    /// key. Text: 52 characters of base 32.
    AccountId, 32, "account id", "52 characters of base 32", base32, unbase32
);

impl From<NodeId> for AccountId {
    fn from(node: NodeId) -> Self {
        Self(node.0)
    }
}

impl From<AccountId> for NodeId {
    fn from(account: AccountId) -> Self {
        Self(account.0)
    }
}

impl TaskId {
    /// A fresh id from the system's random source.
    pub fn random() -> Self {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).expect("the operating system has a random source");
        Self(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_forms_round_trip_and_reject_others() {
        let node = NodeId([7; 32]);
        assert_eq!(node.to_string().parse::<NodeId>(), Ok(node));
        let pool = PoolId([9; 32]);
        assert_eq!(pool.to_string().to_uppercase().parse::<PoolId>(), Ok(pool));
        assert!("".parse::<NodeId>().is_err());
        assert!("zz".repeat(32).parse::<NodeId>().is_err());
        assert!("ab".repeat(33).parse::<NodeId>().is_err());
        assert_ne!(TaskId::random(), TaskId::random());
    }
}
