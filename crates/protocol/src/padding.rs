//! Power-of-two buckets: an observer learns the bucket of a length, not the length.
//!
//! Padded form: four-byte little-endian length, content, zeros. The padding is inside the encryption, so that a wrong
//! byte in it is an error too.

/// Smallest bucket of a task, in bytes. A short question fits.
pub const TASK_BUCKET_MIN: usize = 1024;
/// Smallest bucket of an answer's frame, in bytes. A token fits.
pub const FRAME_BUCKET_MIN: usize = 64;
const PREFIX: usize = 4;

/// The bucket that holds `content` bytes with their length: the next power of two, at least `min`.
pub const fn bucket(content: usize, min: usize) -> usize {
    let needed = content + PREFIX;
    if needed <= min { min } else { needed.next_power_of_two() }
}

/// Pads `content` to its bucket. The buffer has room for `extra` bytes more, so that encryption need not move it.
pub fn pad(content: &[u8], min: usize, extra: usize) -> Vec<u8> {
    let bucket = bucket(content.len(), min);
    let mut padded = Vec::with_capacity(bucket + extra);
    padded.extend_from_slice(&u32::try_from(content.len()).expect("limits are below 4 GiB").to_le_bytes());
    padded.extend_from_slice(content);
    padded.resize(bucket, 0);
    padded
}

/// The content of a padded buffer; `None` unless it is exactly what [`pad`] makes.
pub fn unpad(padded: &[u8], min: usize) -> Option<&[u8]> {
    let (prefix, rest) = padded.split_at_checked(PREFIX)?;
    let length = u32::from_le_bytes(prefix.try_into().ok()?) as usize;
    let (content, zeros) = rest.split_at_checked(length)?;
    (padded.len() == bucket(length, min) && zeros.iter().all(|byte| *byte == 0)).then_some(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_round_trips_in_a_power_of_two() {
        for length in [0, 1, 59, 60, 61, 124, 125, 1000, 4092, 4093] {
            let content = vec![1; length];
            let padded = pad(&content, 64, 16);
            assert!(padded.len().is_power_of_two() && padded.len() >= 64);
            assert_eq!(unpad(&padded, 64), Some(&content[..]));
        }
        assert_eq!((bucket(60, 64), bucket(61, 64)), (64, 128));
    }

    #[test]
    fn anything_else_is_refused() {
        let mut padded = pad(b"content", 64, 0);
        padded[63] = 1;
        assert_eq!(unpad(&padded, 64), None, "padding carries a message");
        assert_eq!(unpad(&pad(b"content", 64, 0)[..32], 64), None, "cut");
        assert_eq!(unpad(&[0; 128], 64), None, "larger bucket than needed");
        assert_eq!(unpad(&pad(b"content", 64, 0), 128), None, "smaller bucket than allowed");
        assert_eq!(unpad(&[255; 64], 64), None, "length beyond the end");
        assert_eq!(unpad(&[], 64), None);
    }
}
