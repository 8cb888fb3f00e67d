//! Runs tasks on an engine and collects their frames.

use engine::{Engine, EngineOptions, LlamaEngine};
use protocol::task::{Finish, Frame, Task, Usage};
use std::collections::HashMap;
use std::path::PathBuf;

/// The path of the default model. `make test` fetches it and says where it is.
pub(crate) fn model() -> PathBuf {
    std::env::var_os("DARKBLOOM_TEST_MODEL").map(PathBuf::from).expect(
        "DARKBLOOM_TEST_MODEL names no model file: run `make test`, which fetches the default model and sets it",
    )
}

pub(crate) fn engine(options: EngineOptions) -> LlamaEngine {
    // One thread: tests run beside each other, and OpenMP threads that wait for each other would hold all of them up.
    // Steps of a fixed size, so that every run computes the same batches.
    LlamaEngine::load(&model(), EngineOptions { threads: 1, step_time: None, ..options }).unwrap()
}

/// A whole answer.
#[derive(Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) started: u32,
    pub(crate) ids: Vec<u32>,
    pub(crate) log_probs: Vec<f32>,
    pub(crate) text: String,
    /// Log-probabilities of a given answer, and of the likeliest token in each place.
    pub(crate) scores: (Vec<f32>, Vec<f32>),
    pub(crate) vectors: Vec<Vec<f32>>,
    pub(crate) finish: Finish,
    pub(crate) usage: Usage,
}

pub(crate) struct Runner {
    pub(crate) engine: LlamaEngine,
    frames: HashMap<u64, Vec<Frame>>,
}

impl Default for Runner {
    fn default() -> Self {
        Self::new(EngineOptions { context_tokens: 512, ..EngineOptions::default() })
    }
}

impl Runner {
    pub(crate) fn new(options: EngineOptions) -> Self {
        Self { engine: engine(options), frames: HashMap::new() }
    }

    pub(crate) fn start(&mut self, id: u64, task: &Task) {
        self.frames.remove(&id);
        self.engine.start(id, task).unwrap();
    }

    pub(crate) fn step(&mut self) -> bool {
        let frames = &mut self.frames;
        self.engine.step(&mut |id, frame| frames.entry(id).or_default().push(frame)).unwrap()
    }

    /// Runs one task alone to its end.
    pub(crate) fn run(&mut self, task: &Task) -> Answer {
        self.start(0, task);
        while self.step() {}
        self.answer(0)
    }

    pub(crate) fn frames(&self, id: u64) -> &[Frame] {
        self.frames.get(&id).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn started(&self, id: u64) -> Option<u32> {
        match self.frames(id).first() {
            Some(Frame::Started { prompt_tokens }) => Some(*prompt_tokens),
            _ => None,
        }
    }

    /// Tokens of the answer so far.
    pub(crate) fn tokens(&self, id: u64) -> usize {
        let ids = |frame: &Frame| if let Frame::Tokens { ids, .. } = frame { ids.len() } else { 0 };
        self.frames(id).iter().map(ids).sum()
    }

    /// The answer, whose frames must be complete and in order.
    pub(crate) fn answer(&self, id: u64) -> Answer {
        let frames = self.frames(id);
        let Some(Frame::Done { finish, usage }) = frames.last() else { panic!("no end: {frames:?}") };
        let started = self.started(id).unwrap();
        let mut answer = Answer {
            started,
            ids: vec![],
            log_probs: vec![],
            text: String::new(),
            scores: (vec![], vec![]),
            vectors: vec![],
            finish: *finish,
            usage: *usage,
        };
        for frame in &frames[1..frames.len() - 1] {
            match frame {
                Frame::Tokens { ids, text, log_probs } => {
                    assert_eq!(ids.len(), log_probs.len());
                    assert!(log_probs.iter().all(|log_prob| (-1000.0..=0.0).contains(log_prob)), "{log_probs:?}");
                    answer.ids.extend(ids);
                    answer.log_probs.extend(log_probs);
                    answer.text.push_str(text);
                }
                Frame::Scores { log_probs, best } => {
                    assert_eq!(log_probs.len(), best.len());
                    answer.scores.0.extend(log_probs);
                    answer.scores.1.extend(best);
                }
                Frame::Embedding { index, vector } => {
                    assert_eq!(*index as usize, answer.vectors.len());
                    answer.vectors.push(vector.clone());
                }
                other => panic!("out of order: {other:?}"),
            }
        }
        answer
    }
}
