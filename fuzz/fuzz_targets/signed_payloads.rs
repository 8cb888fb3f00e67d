//! Permits and evidence, before and after their signature has been looked at.
#![no_main]

use fuzz::round_trip;
use libfuzzer_sys::fuzz_target;
use protocol::{
    grant::{Permit, WorkerEvidence},
    ids::NodeId,
    limits::SIGNED_BYTES_MAX,
    signed::{Signable, Signed},
};

fuzz_target!(|bytes: &[u8]| {
    one::<Permit>(bytes);
    one::<WorkerEvidence>(bytes);
});

fn one<T: Signable>(bytes: &[u8]) {
    if let Some(signed) = round_trip::<Signed<T>>(bytes, 2 * SIGNED_BYTES_MAX) {
        let message = signed.message();
        assert!(message.ends_with(&signed.payload) && message.len() > signed.payload.len());
        let _ = signed.decode_unverified();
        assert!(trust::open(&signed).is_err(), "a signature was guessed");
    }
    // What a signature covers is what is read.
    if let Some(payload) = round_trip::<T>(bytes, SIGNED_BYTES_MAX)
        && let Ok(signed) = Signed::new(NodeId([1; 32]), &payload, |_| [2; 64])
    {
        assert_eq!(signed.signature(), [2; 64]);
        assert!(signed.decode_unverified().is_ok());
    }
}
