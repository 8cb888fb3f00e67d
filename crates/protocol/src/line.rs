//! What people paste: one line with a prefix that says what it is, and a sum that finds typing errors.

use crate::{codec, limits};
use data_encoding::BASE64URL_NOPAD;
use serde::{Serialize, de::DeserializeOwned};

/// Something that is handed from person to person as one line.
pub trait Pasted: Serialize + DeserializeOwned {
    /// How its line begins.
    const PREFIX: &'static str;
    /// What people call it.
    const NAME: &'static str;

    /// Whether it is one that this program would have made.
    fn is_valid(&self) -> bool;
}

/// A line that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseLineError {
    /// Another word, or one of another version.
    #[error("not a {name}: a {name} is one line that begins with `{prefix}`")]
    Prefix {
        /// What was expected.
        name: &'static str,
        /// How it begins.
        prefix: &'static str,
    },
    /// Cut off or mistyped.
    #[error("damaged {name}: copy the whole line again")]
    Damaged {
        /// What it should have been.
        name: &'static str,
    },
}

/// The line; `None` where it would be longer than [`limits::TICKET_CHARS_MAX`].
pub(crate) fn write<T: Pasted>(value: &T) -> Option<String> {
    let mut bytes = codec::encode(value, limits::TICKET_CHARS_MAX).ok()?;
    bytes.extend_from_slice(&check(&bytes));
    let line = BASE64URL_NOPAD.encode(&bytes);
    (line.len() <= limits::TICKET_CHARS_MAX).then(|| format!("{}{line}", T::PREFIX))
}

pub(crate) fn read<T: Pasted>(text: &str) -> Result<T, ParseLineError> {
    let (name, prefix) = (T::NAME, T::PREFIX);
    let body = text.trim().strip_prefix(prefix).ok_or(ParseLineError::Prefix { name, prefix })?;
    decode(body).filter(T::is_valid).ok_or(ParseLineError::Damaged { name })
}

fn decode<T: Pasted>(body: &str) -> Option<T> {
    if body.len() > limits::TICKET_CHARS_MAX {
        return None;
    }
    let bytes = BASE64URL_NOPAD.decode(body.as_bytes()).ok()?;
    let (content, sum) = bytes.split_last_chunk::<4>()?;
    if *sum != check(content) {
        return None;
    }
    codec::decode(content, limits::TICKET_CHARS_MAX).ok()
}

/// Finds typing errors; security comes from what is in the line.
fn check(content: &[u8]) -> [u8; 4] {
    let digest = blake3::hash(content);
    digest.as_bytes()[..4].try_into().expect("a hash has 32 bytes")
}

/// Gives a [`Pasted`] type its line as text, both ways.
macro_rules! pasted {
    ($type:ty) => {
        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&$crate::line::write(self).ok_or(std::fmt::Error)?)
            }
        }

        impl std::str::FromStr for $type {
            type Err = $crate::line::ParseLineError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                $crate::line::read(text)
            }
        }
    };
}

pub(crate) use pasted;
