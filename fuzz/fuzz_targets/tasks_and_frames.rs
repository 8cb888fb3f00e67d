//! Plaintext after it was opened: authentic, and still from a stranger.
#![no_main]

use fuzz::round_trip;
use libfuzzer_sys::fuzz_target;
use protocol::{
    limits::{FRAME_BYTES_MAX, TASK_BYTES_MAX},
    task::{Frame, Task},
};

fuzz_target!(|bytes: &[u8]| {
    if let Some(task) = round_trip::<Task>(bytes, TASK_BYTES_MAX) {
        let _ = task.check();
    }
    if let Some(frame) = round_trip::<Frame>(bytes, FRAME_BYTES_MAX) {
        let _ = frame.is_final();
    }
});
