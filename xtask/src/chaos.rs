//! `cargo xtask chaos`: the chaos test of CI with as many blows as one has time for.

use crate::failure::Failure;
use crate::process::{cargo, run as run_command};
use crate::workspace::Workspace;

const BLOWS: u64 = 1_000;

/// `cargo xtask chaos [--blows N] [--seed N]`
pub(crate) fn run(workspace: &Workspace, arguments: &[&str]) -> Result<(), Failure> {
    let (mut blows, mut seed) = (BLOWS, 1);
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let value = match *argument {
            "--blows" => &mut blows,
            "--seed" => &mut seed,
            other => return Err(Failure::new(format!("`chaos` does not know `{other}`")).hint("cargo xtask help")),
        };
        let text = arguments.next().ok_or_else(|| Failure::new(format!("`{argument}` needs a number")))?;
        *value = text.parse().map_err(|_| Failure::new(format!("`{text}` is not a number")))?;
    }
    // The programs that the test starts.
    run_command(&mut cargo(workspace, "build --release --workspace --locked"))?;
    let mut test = cargo(workspace, "test --release --locked -p testbed --test chaos -- --nocapture");
    test.env("DARKBLOOM_CHAOS_BLOWS", blows.to_string()).env("DARKBLOOM_CHAOS_SEED", seed.to_string());
    run_command(&mut test)
}
