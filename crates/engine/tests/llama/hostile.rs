//! Files that are no models, and texts that mean harm.

use crate::runner::{Runner, model};
use engine::{Engine, EngineOptions, LlamaEngine, LoadError};
use protocol::task::{Generation, Sampling, Task};
use std::path::{Path, PathBuf};

/// A file of these bytes, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str, bytes: &[u8]) -> Self {
        let path = std::env::temp_dir().join(format!("engine-{}-{name}", std::process::id()));
        std::fs::write(&path, bytes).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn load(path: &Path) -> Result<LlamaEngine, LoadError> {
    LlamaEngine::load(path, EngineOptions { slots: 1, context_tokens: 64, threads: 1, ..EngineOptions::default() })
}

#[test]
fn a_missing_file_is_named() {
    let error = load("/no/such/model.gguf".as_ref()).err().unwrap();
    assert!(matches!(&error, LoadError::File { .. }));
    assert!(error.to_string().contains("/no/such/model.gguf"));
}

#[test]
fn what_is_no_model_is_refused() {
    let header = |version: u32, tensors: u64, keys: u64| {
        [b"GGUF".as_slice(), &version.to_le_bytes(), &tensors.to_le_bytes(), &keys.to_le_bytes()].concat()
    };
    let garbage: Vec<u8> = (0..100_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let cases: [(&str, Vec<u8>); 9] = [
        ("empty", Vec::new()),
        ("short", b"GG".to_vec()),
        ("magic", b"GGUF".to_vec()),
        ("text", b"GGML is not GGUF".repeat(100)),
        ("garbage", [b"GGUF\x03\0\0\0".as_slice(), &garbage].concat()),
        ("no-keys", header(3, 0, 0)),
        ("many-keys", header(3, 0, u64::MAX)),
        ("many-tensors", header(3, u64::MAX, 1)),
        ("version", header(0xFFFF_FFFF, 1, 1)),
    ];
    for (name, bytes) in cases {
        let file = Scratch::new(name, &bytes);
        assert!(matches!(load(&file.0), Err(LoadError::Model { .. })), "{name}");
    }
}

#[test]
fn a_truncated_model_is_refused() {
    let whole = std::fs::read(model()).unwrap();
    for length in [64, 1000, 100_000, 2_000_000, whole.len() / 2, whole.len() - 1] {
        let file = Scratch::new(&format!("truncated-{length}"), &whole[..length]);
        assert!(matches!(load(&file.0), Err(LoadError::Model { .. })), "{length}");
    }
}

#[test]
fn options_out_of_bounds_are_refused() {
    for options in [
        EngineOptions { slots: 0, ..EngineOptions::default() },
        EngineOptions { slots: 65, ..EngineOptions::default() },
        EngineOptions { threads: 0, ..EngineOptions::default() },
        EngineOptions { batch_tokens: 0, ..EngineOptions::default() },
        EngineOptions { context_tokens: 0, ..EngineOptions::default() },
    ] {
        assert!(matches!(LlamaEngine::load(&model(), options), Err(LoadError::Option { .. })));
    }
}

/// Long runs overflow the stack in tokenisers that split words by recursive regular expressions.
#[test]
fn long_runs_of_one_kind_are_read() {
    let mut runner = Runner::new(EngineOptions { slots: 1, context_tokens: 8192, ..EngineOptions::default() });
    for unit in ["a", " ", "!", "7", "\n", "漢", "🙂", "\u{0}", "\u{FDD0}", "é\u{301}", "<|im_start|"] {
        let text = unit.repeat(300_000 / unit.len());
        let generation = Generation { max_tokens: Some(1), sampling: Sampling::greedy(), ..Generation::default() };
        let tasks = [
            Task::Completion { prompt: text.clone(), generation },
            Task::chat(text.clone()),
            Task::Embedding { inputs: vec![text] },
        ];
        for task in tasks {
            // Read or refused for its length: either way the process is still there.
            if runner.engine.start(1, &task).is_ok() {
                runner.engine.cancel(1);
            }
            assert_eq!(runner.engine.free_slots(), 1);
        }
    }
}
