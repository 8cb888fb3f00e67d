//! Frames: each opens once, in its place, unchanged; whatever came before it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::{
    ids::TaskId,
    sealing::{Suite, WorkerKey, seal_task},
    task::{Frame, Task},
};
use std::sync::LazyLock;

static KEY: LazyLock<WorkerKey> = LazyLock::new(|| WorkerKey::generate(Suite::X25519));

fuzz_target!(|input: (&str, u16, u8, &[u8])| {
    let (text, position, change, garbage) = input;
    let id = TaskId([7; 16]);
    let (sealed, mut opener) = seal_task(KEY.public(), id, &Task::chat("hello")).expect("a good key");
    let (_, mut sealer) = KEY.open_task(id, &sealed).expect("sealed to this key");

    assert!(opener.open(garbage).is_err(), "a made-up frame opened");
    let frame = Frame::Tokens { ids: vec![u32::from(position)], text: text.to_owned(), log_probs: vec![-0.5] };
    let Ok(wire) = sealer.seal(&frame) else { return };
    let mut changed = wire.clone();
    changed[usize::from(position) % wire.len()] ^= change;
    if change != 0 {
        assert!(opener.open(&changed).is_err(), "a changed frame opened");
    }
    assert_eq!(opener.open(&wire), Ok(frame), "a bad frame spoilt the next good one");
    assert!(opener.open(&wire).is_err(), "a frame opened twice");
    assert!(!opener.is_complete());
});
