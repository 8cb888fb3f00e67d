//! A worker runs a model that nobody has vetted: what it says is bounded before the daemon believes, signs or passes it on.

use protocol::{
    ipc::{FromWorker, ModelFacts},
    limits,
    sealing::{SealingKey, Suite},
};

/// A suite is offered once.
const KEYS_MAX: usize = Suite::PREFERENCE.len();
/// Longer than the key of any suite.
const KEY_BYTES_MAX: usize = 2048;
const TEXT_CHARS_MAX: usize = 200;
const SANDBOX_BYTES_MAX: usize = 64 << 10;

/// The message as it may be used; an error ends the worker.
pub(super) fn vet(message: FromWorker) -> Result<FromWorker, &'static str> {
    match message {
        FromWorker::Ready { keys, model, sandbox_json } => {
            check_keys(&keys)?;
            if sandbox_json.len() > SANDBOX_BYTES_MAX {
                return Err("it described its sandbox at too great a length");
            }
            let model = ModelFacts { architecture: plain(&model.architecture), ..model };
            if model.slots == 0 || model.slots > limits::SLOTS_MAX {
                return Err("it claims an impossible number of slots");
            }
            Ok(FromWorker::Ready { keys, model, sandbox_json })
        }
        FromWorker::Keys { keys } => check_keys(&keys).map(|()| FromWorker::Keys { keys }),
        FromWorker::Frames { task, frames } => {
            let bytes: usize = frames.iter().map(Vec::len).sum();
            if frames.len() > limits::FRAMES_PER_MESSAGE_MAX || bytes > 2 * limits::FRAME_BYTES_MAX {
                return Err("it sent more frames at once than a worker does");
            }
            Ok(FromWorker::Frames { task, frames })
        }
        FromWorker::Failed { why } => Ok(FromWorker::Failed { why: plain(&why) }),
        other => Ok(other),
    }
}

fn check_keys(keys: &[SealingKey]) -> Result<(), &'static str> {
    let fits = |key: &SealingKey| key.bytes.len() <= KEY_BYTES_MAX;
    if keys.is_empty() || keys.len() > KEYS_MAX || !keys.iter().all(fits) {
        return Err("it offered keys that are none");
    }
    Ok(())
}

/// Text for people: bounded, without control characters that could write to their terminals.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(TEXT_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::{ids::TaskId, sealing::WorkerKey};

    fn key() -> SealingKey {
        WorkerKey::generate(Suite::X25519).public().clone()
    }

    #[test]
    fn honest_messages_pass() {
        let keys = vec![key()];
        assert_eq!(vet(FromWorker::Keys { keys: keys.clone() }), Ok(FromWorker::Keys { keys }));
        let frames = FromWorker::Frames { task: TaskId([0; 16]), frames: vec![vec![0; 80]; 8] };
        assert_eq!(vet(frames.clone()), Ok(frames));
    }

    #[test]
    fn what_would_hurt_the_daemon_does_not() {
        let huge = SealingKey { suite: Suite::X25519, bytes: vec![0; 70_000] };
        assert!(vet(FromWorker::Keys { keys: vec![huge] }).is_err());
        assert!(vet(FromWorker::Keys { keys: vec![] }).is_err());
        assert!(vet(FromWorker::Keys { keys: vec![key(); 3] }).is_err());
        assert!(vet(FromWorker::Frames { task: TaskId([0; 16]), frames: vec![vec![]; 1000] }).is_err());
        assert!(vet(FromWorker::Frames { task: TaskId([0; 16]), frames: vec![vec![0; 8 << 20]] }).is_err());
        let why = FromWorker::Failed { why: "\u{1b}[2Jgone\n".repeat(1000) };
        let Ok(FromWorker::Failed { why }) = vet(why) else { panic!("text is cut, not refused") };
        assert!(why.chars().count() <= TEXT_CHARS_MAX && !why.contains(char::is_control));
    }
}
