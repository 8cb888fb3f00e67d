//! One encoding for every message: postcard, behind a four-byte little-endian length where messages share a stream.

use serde::{Serialize, de::DeserializeOwned};

/// Why bytes are not the message they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// The sender's or the receiver's limit is exceeded.
    #[error("message of {bytes} bytes, at most {limit} are allowed")]
    TooLong {
        /// Length of the message.
        bytes: usize,
        /// The limit in [`crate::limits`].
        limit: usize,
    },
    /// The bytes do not decode, or some are left over.
    #[error("malformed message")]
    Malformed,
}

/// Length of the prefix in front of each message of a stream.
pub const PREFIX_BYTES: usize = 4;

/// Encodes `message`, at most `limit` bytes long.
pub fn encode<T: Serialize>(message: &T, limit: usize) -> Result<Vec<u8>, CodecError> {
    let bytes = postcard::to_stdvec(message).map_err(|_| CodecError::Malformed)?;
    check_length(bytes.len(), limit)?;
    Ok(bytes)
}

/// Encodes `message` behind its length.
pub fn encode_prefixed<T: Serialize>(message: &T, limit: usize) -> Result<Vec<u8>, CodecError> {
    let mut bytes = postcard::to_extend(message, vec![0; PREFIX_BYTES]).map_err(|_| CodecError::Malformed)?;
    let prefix = prefix(&bytes[PREFIX_BYTES..], limit)?;
    bytes[..PREFIX_BYTES].copy_from_slice(&prefix);
    Ok(bytes)
}

/// The length in front of a message that is encoded already.
pub fn prefix(message: &[u8], limit: usize) -> Result<[u8; PREFIX_BYTES], CodecError> {
    check_length(message.len(), limit)?;
    Ok(u32::try_from(message.len()).expect("limits are below 4 GiB").to_le_bytes())
}

/// Reads a length prefix, refusing a message longer than `limit` before anything is allocated for it.
pub fn decode_prefix(prefix: [u8; PREFIX_BYTES], limit: usize) -> Result<usize, CodecError> {
    let length = u32::from_le_bytes(prefix) as usize;
    check_length(length, limit)?;
    Ok(length)
}

/// Decodes exactly one message from `bytes`.
pub fn decode<T: DeserializeOwned>(bytes: &[u8], limit: usize) -> Result<T, CodecError> {
    check_length(bytes.len(), limit)?;
    match postcard::take_from_bytes(bytes) {
        Ok((message, [])) => Ok(message),
        _ => Err(CodecError::Malformed),
    }
}

fn check_length(bytes: usize, limit: usize) -> Result<(), CodecError> {
    if bytes > limit {
        return Err(CodecError::TooLong { bytes, limit });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leftovers_and_excess_are_errors() {
        let bytes = encode(&(7u32, "seven"), 64).unwrap();
        assert_eq!(decode::<(u32, String)>(&bytes, 64), Ok((7, "seven".to_owned())));
        let mut longer = bytes.clone();
        longer.push(0);
        assert_eq!(decode::<(u32, String)>(&longer, 64), Err(CodecError::Malformed));
        assert_eq!(decode::<(u32, String)>(&bytes[..3], 64), Err(CodecError::Malformed));
        assert_eq!(encode(&vec![0u8; 64], 64), Err(CodecError::TooLong { bytes: 65, limit: 64 }));
        assert_eq!(decode_prefix([255; 4], 64), Err(CodecError::TooLong { bytes: 0xffff_ffff, limit: 64 }));
    }
}
