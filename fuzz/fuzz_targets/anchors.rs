//! What shows a block to somebody who was not there, before any signature of it has been looked at.
#![no_main]

use fuzz::round_trip;
use libfuzzer_sys::fuzz_target;
use protocol::{
    genesis::Genesis,
    header::{Anchor, Certificate, Committee, Handover, Header},
    limits::ANCHOR_BYTES_MAX,
};

fuzz_target!(|bytes: &[u8]| {
    // An anchor, and the longest committee behind it.
    const LIMIT: usize = 2 * ANCHOR_BYTES_MAX;
    if let Some(header) = round_trip::<Header>(bytes, LIMIT) {
        assert_eq!(header.digest(), header.clone().digest());
    }
    round_trip::<Certificate>(bytes, LIMIT);
    if let Some(anchor) = round_trip::<Anchor>(bytes, LIMIT) {
        let message = anchor.certificate.message(&anchor.header);
        assert!(message.ends_with(&anchor.header.digest()), "a vote is for its block");
    }
    for committee in
        [round_trip::<Committee>(bytes, LIMIT), round_trip::<Handover>(bytes, LIMIT).map(|handover| handover.next)]
            .into_iter()
            .flatten()
    {
        assert!(committee.members().windows(2).all(|pair| pair[0] < pair[1]), "a committee has one form");
        assert!(
            2 * committee.quorum() > committee.members().len() + committee.faults(),
            "two quorums share an honest one"
        );
    }
    if let Some(genesis) = round_trip::<Genesis>(bytes, LIMIT) {
        assert_eq!(genesis.pool().is_ok(), genesis.digest().is_ok());
    }
});
