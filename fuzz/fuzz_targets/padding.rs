//! Padding: what is taken off is exactly what was put on.
#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::padding::{FRAME_BUCKET_MIN, TASK_BUCKET_MIN, pad, unpad};

fuzz_target!(|bytes: &[u8]| {
    for min in [FRAME_BUCKET_MIN, TASK_BUCKET_MIN] {
        if let Some(content) = unpad(bytes, min) {
            assert_eq!(pad(content, min, 0), bytes, "two paddings of one content");
        }
        assert_eq!(unpad(&pad(bytes, min, 16), min), Some(bytes));
    }
});
