//! Opening: nothing but what was sealed, as it was sealed, opens.
#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::{
    ids::TaskId,
    sealing::{KeyId, SealedTask, Suite, WorkerKey, seal_task},
    task::Task,
};
use std::sync::LazyLock;

const ID: TaskId = TaskId([7; 16]);

static KEYS: LazyLock<[WorkerKey; 2]> = LazyLock::new(|| Suite::PREFERENCE.map(WorkerKey::generate));
static SEALED: LazyLock<[SealedTask; 2]> = LazyLock::new(|| {
    KEYS.each_ref().map(|key| seal_task(key.public(), ID, &Task::chat("hello")).expect("a good key").0)
});

fuzz_target!(|input: (bool, bool, u16, u8, &[u8])| {
    let (suite, in_ciphertext, position, change, garbage) = input;
    let key = &KEYS[usize::from(suite)];

    let mut changed = SEALED[usize::from(suite)].clone();
    let field = if in_ciphertext { &mut changed.ciphertext } else { &mut changed.encapsulated };
    let position = usize::from(position) % field.len();
    field[position] ^= change;
    // X25519 ignores the highest bit of a point, and HPKE binds the encapsulation as it was sent, so any change shows.
    assert_eq!(key.open_task(ID, &changed).is_ok(), change == 0, "a changed task opened");

    let split = garbage.len().min(position);
    let (encapsulated, ciphertext) = garbage.split_at(split);
    let id = KeyId(*garbage.first_chunk().unwrap_or(&key.public().id().0));
    for id in [id, key.public().id()] {
        let made_up = SealedTask {
            key: id,
            suite: key.public().suite,
            encapsulated: encapsulated.to_vec(),
            ciphertext: ciphertext.to_vec(),
        };
        assert!(key.open_task(ID, &made_up).is_err(), "a made-up task opened");
    }
});
