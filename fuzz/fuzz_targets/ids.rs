//! Ids typed or pasted by people.
#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::ids::{ModelDigest, NodeId, PoolId, TaskId};
use std::{fmt::Display, str::FromStr};

fuzz_target!(|text: &str| {
    one::<NodeId>(text);
    one::<PoolId>(text);
    one::<TaskId>(text);
    one::<ModelDigest>(text);
});

fn one<Id: FromStr<Err: Display> + Display>(text: &str) {
    match text.parse::<Id>() {
        Ok(id) => assert!(id.to_string().eq_ignore_ascii_case(text), "an id has one text form"),
        Err(error) => assert!(error.to_string().len() < 1000, "an error repeats all of its input"),
    }
}
