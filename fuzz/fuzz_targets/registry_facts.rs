//! The replicated state: any bytes are a fact or an error, and any fact is applied or rejected.
#![no_main]

use libfuzzer_sys::fuzz_target;
use registry::{Fact, Registry};

fuzz_target!(|log: Vec<&[u8]>| {
    let mut registry = Registry::default();
    for bytes in log {
        if let Ok(fact) = Fact::decode(bytes) {
            if let Ok(encoded) = fact.encode() {
                assert_eq!(Fact::decode(&encoded).as_ref(), Ok(&fact), "a fact does not survive being stored");
            }
            let _ = registry.apply(fact);
        }
    }
});
