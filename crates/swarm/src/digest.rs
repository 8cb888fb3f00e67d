//! The two hashes of a file of weights: BLAKE3 names it everywhere in Darkbloom, SHA-256 is what hubs publish.

use data_encoding::HEXLOWER;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use std::{fmt, str::FromStr};

/// A SHA-256 digest, as hubs publish it for large files. Text: 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sha256Digest(pub [u8; 32]);

/// A text that is not a SHA-256 digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a SHA-256 digest: expected 64 hexadecimal digits")]
pub struct ParseSha256Error;

impl FromStr for Sha256Digest {
    type Err = ParseSha256Error;

    fn from_str(text: &str) -> Result<Self, ParseSha256Error> {
        // A bound before the decoder allocates: the text may come from a stranger's HTTP header.
        if text.len() != 64 {
            return Err(ParseSha256Error);
        }
        let bytes = HEXLOWER.decode(text.to_ascii_lowercase().as_bytes()).map_err(|_| ParseSha256Error)?;
        Ok(Self(bytes.try_into().map_err(|_| ParseSha256Error)?))
    }
}

impl fmt::Display for Sha256Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for Sha256Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sha256Digest({self})")
    }
}

impl Serialize for Sha256Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Sha256Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// [`protocol::ids::ModelDigest`] as hexadecimal text in files that people read; on the wire it is plain bytes.
pub(crate) mod text {
    use super::*;
    use protocol::ids::ModelDigest;

    pub(crate) fn serialize<S: Serializer>(digest: &ModelDigest, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(digest)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ModelDigest, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_round_trips_and_rejects_others() {
        let digest = Sha256Digest([0xa5; 32]);
        assert_eq!(digest.to_string().to_uppercase().parse(), Ok(digest));
        for bad in ["", "a5", &"zz".repeat(32), &"ab".repeat(33), &"é".repeat(32)] {
            assert_eq!(bad.parse::<Sha256Digest>(), Err(ParseSha256Error), "{bad}");
        }
    }
}
