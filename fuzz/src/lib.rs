//! What the fuzz targets share: the laws that every decoder obeys, whatever it is fed.

use protocol::codec;
use serde::{Serialize, de::DeserializeOwned};

/// A decoder is total, and what it accepts it can say again: encoding a decoded message and decoding that gives the
/// same bytes once more. (Compared as bytes, because a message may hold a NaN.)
pub fn round_trip<T: Serialize + DeserializeOwned>(bytes: &[u8], limit: usize) -> Option<T> {
    let message: T = codec::decode(bytes, limit).ok()?;
    let encoded = codec::encode(&message, usize::MAX).expect("what was decoded can be encoded");
    let again: T = codec::decode(&encoded, usize::MAX).expect("what was encoded can be decoded");
    assert_eq!(codec::encode(&again, usize::MAX).as_ref(), Ok(&encoded), "two encodings of one message");
    Some(message)
}

/// The same for a message behind its length, as it stands in a stream.
pub fn prefixed_round_trip<T: Serialize + DeserializeOwned>(bytes: &[u8], limit: usize) {
    let Some((prefix, rest)) = bytes.split_first_chunk::<{ codec::PREFIX_BYTES }>() else { return };
    let Ok(length) = codec::decode_prefix(*prefix, limit) else { return };
    assert!(length <= limit, "a prefix beyond the limit passed");
    let Some(content) = rest.get(..length) else { return };
    if let Some(message) = round_trip::<T>(content, limit)
        && let Ok(encoded) = codec::encode_prefixed(&message, limit)
    {
        assert_eq!(encoded.len(), u32::from_le_bytes(encoded[..4].try_into().expect("four bytes")) as usize + 4);
    }
}
