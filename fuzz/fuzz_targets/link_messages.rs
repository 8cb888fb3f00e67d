//! Between members and orchestrators.
#![no_main]

use fuzz::{prefixed_round_trip, round_trip};
use libfuzzer_sys::fuzz_target;
use protocol::{grant, limits::LINK_MESSAGE_BYTES_MAX as LIMIT, link};

fuzz_target!(|bytes: &[u8]| {
    round_trip::<link::Hello>(bytes, LIMIT);
    round_trip::<link::HelloReply>(bytes, LIMIT);
    round_trip::<link::FromNode>(bytes, LIMIT);
    round_trip::<link::ToNode>(bytes, LIMIT);
    round_trip::<link::Question>(bytes, LIMIT);
    round_trip::<link::Answer>(bytes, LIMIT);
    round_trip::<grant::MatchReply>(bytes, LIMIT);
    prefixed_round_trip::<link::Question>(bytes, LIMIT);
});
