//! Between daemon and worker: a worker is believed to be hostile once it has read a model.
#![no_main]

use fuzz::{prefixed_round_trip, round_trip};
use libfuzzer_sys::fuzz_target;
use protocol::{ipc, limits::IPC_MESSAGE_BYTES_MAX as LIMIT};

fuzz_target!(|bytes: &[u8]| {
    round_trip::<ipc::ToWorker>(bytes, LIMIT);
    round_trip::<ipc::FromWorker>(bytes, LIMIT);
    prefixed_round_trip::<ipc::FromWorker>(bytes, LIMIT);
});
