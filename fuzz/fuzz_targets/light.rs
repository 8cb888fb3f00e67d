//! What a light client is shown: any bytes are judged, and nothing that is not signed counts.
#![no_main]

use fuzz::round_trip;
use libfuzzer_sys::fuzz_target;
use protocol::{
    genesis::Genesis,
    header::{Anchor, Handover},
    limits::{ANCHOR_BYTES_MAX, LINK_MESSAGE_BYTES_MAX},
    proof::Proof,
    witness::{Lineage, Witness},
};
use trust::{
    MachineKey,
    light::{Checkpoint, Light},
};

fuzz_target!(|input: (u64, &[u8])| {
    let (now, bytes) = input;
    let orchestrators = (1..=4).map(|seed| MachineKey::from_seed(&[seed; 32]).id()).collect();
    let genesis = Genesis::new(orchestrators, &[7; 32], 1);
    let pool = genesis.pool().expect("four orchestrators found a pool");
    let mut light = Light::new(pool, &genesis).expect("it is its genesis");
    if let Some(anchor) = round_trip::<Anchor>(bytes, ANCHOR_BYTES_MAX) {
        assert!(light.check_within(&anchor, u64::MAX, now).is_err(), "nobody has signed it");
    }
    if let Some(handover) = round_trip::<Handover>(bytes, 2 * ANCHOR_BYTES_MAX) {
        assert!(!matches!(light.advance(&handover), Ok(true)), "nobody has signed it");
    }
    if let Ok(checkpoint) = Checkpoint::decode(bytes) {
        assert_eq!(Checkpoint::decode(&checkpoint.encode()), Ok(checkpoint.clone()));
        let _ = Light::resume(pool, checkpoint);
    }
    round_trip::<Lineage>(bytes, LINK_MESSAGE_BYTES_MAX);
    if let Some(witness) = round_trip::<Witness>(bytes, LINK_MESSAGE_BYTES_MAX) {
        let _ = registry::keys::policy().check(&witness.policy, &witness.anchor.header.state);
    }
    if let Some(proof) = round_trip::<Proof>(bytes, LINK_MESSAGE_BYTES_MAX) {
        let _ = proof.check(&[0; 32], b"key");
    }
});
