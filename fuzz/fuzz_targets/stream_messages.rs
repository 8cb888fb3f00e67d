//! Between client and node: the first things that a stranger can send to a node.
#![no_main]

use fuzz::{prefixed_round_trip, round_trip};
use libfuzzer_sys::fuzz_target;
use protocol::{
    grant::Permit,
    limits::{PAYMENT_BYTES_MAX, PERMIT_BYTES_MAX, STREAM_MESSAGE_BYTES_MAX},
    sealing::SealedTask,
    signed::Signed,
    stream::{Payment, Reply},
};

fuzz_target!(|bytes: &[u8]| {
    if let Some(permit) = round_trip::<Signed<Permit>>(bytes, PERMIT_BYTES_MAX) {
        let _ = permit.decode_unverified();
    }
    round_trip::<SealedTask>(bytes, STREAM_MESSAGE_BYTES_MAX);
    round_trip::<Payment>(bytes, PAYMENT_BYTES_MAX);
    round_trip::<Reply>(bytes, STREAM_MESSAGE_BYTES_MAX);
    prefixed_round_trip::<Reply>(bytes, STREAM_MESSAGE_BYTES_MAX);
});
