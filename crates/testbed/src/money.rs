//! What the command line says of a home's credits.

use crate::{Home, eventually};
use serde_json::Value;
use std::time::Duration;

/// Only a hang takes as long.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a command printed.
///
/// # Panics
/// If it fails.
pub fn printed(home: &Home, arguments: &[&str]) -> String {
    let output = home.run(arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "`darkbloom {}`: {error}", arguments.join(" "));
    String::from_utf8(output.stdout).expect("text")
}

/// The JSON that it printed.
pub fn json(home: &Home, arguments: &[&str]) -> Value {
    serde_json::from_str(&printed(home, arguments)).expect("JSON")
}

/// What a home has, in micro-credits: to be spent, and held.
pub fn balance(home: &Home) -> (u64, u64) {
    let balance = json(home, &["credits", "balance", "--json"]);
    let number = |name: &str| balance[name].as_u64().expect("a number");
    (number("available_micro"), number("held_micro"))
}

/// All that the pool ever gave out, in micro-credits.
pub fn issued(home: &Home) -> u64 {
    json(home, &["credits", "balance", "--json"])["issued_micro"].as_u64().expect("a number")
}

/// Waits until nothing of a home is held any more, and returns what it has.
pub async fn settled(home: &Home) -> u64 {
    eventually("nothing is held", PATIENCE, async || {
        let (available, held) = balance(home);
        (held == 0).then_some(available)
    })
    .await
    .0
}
