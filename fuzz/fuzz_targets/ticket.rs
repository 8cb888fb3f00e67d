//! The line that a person pastes to join a pool.
#![no_main]

use data_encoding::BASE64URL_NOPAD;
use libfuzzer_sys::fuzz_target;
use protocol::ticket::Ticket;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes) {
        check(text);
    }
    // With the right prefix and checksum, so that what lies behind them is reached.
    let checksum = blake3::hash(bytes);
    let body = [bytes, &checksum.as_bytes()[..4]].concat();
    check(&format!("dbt1-{}", BASE64URL_NOPAD.encode(&body)));
});

fn check(text: &str) {
    if let Ok(ticket) = text.parse::<Ticket>() {
        assert!(!ticket.orchestrators.is_empty());
        assert_eq!(ticket.to_string().parse().as_ref(), Ok(&ticket), "a ticket does not survive being copied");
    }
}
