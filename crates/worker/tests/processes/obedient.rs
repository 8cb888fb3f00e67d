//! An engine that does what the prompt says, one word in each step.

use engine::{Engine, EngineError, ModelInfo};
use protocol::task::{Finish, Frame, Task, TaskError, Usage};
use std::{collections::BTreeMap, fs::File, io::Read, path::Path};
use worker::Options;

pub(crate) struct Obedient {
    info: ModelInfo,
    running: BTreeMap<u64, Work>,
}

struct Work {
    prompt_tokens: u32,
    started: bool,
    said: u32,
    /// Its step takes for ever.
    stuck: bool,
    /// Last word first; `None`: for ever.
    words: Option<Vec<String>>,
}

#[derive(Debug, thiserror::Error)]
#[error("the model says `{0}`")]
struct Broken(String, #[source] Cause);

#[derive(Debug, thiserror::Error)]
#[error("its cause")]
struct Cause;

/// Loads a file that names what loading does.
pub(crate) fn load(path: &Path, options: &Options) -> Result<Box<dyn Engine>, worker::LoadFailure> {
    let mut model = String::new();
    File::open(path)?.read_to_string(&mut model)?;
    match model.as_str() {
        "broken" => return Err(Box::new(Broken(model, Cause))),
        "hang" => loop {
            std::thread::park();
        },
        "print" => eprintln!("loading"),
        _ => {}
    }
    let info = ModelInfo {
        name: model.clone(),
        architecture: model,
        parameters: 0,
        weights_bytes: 0,
        vocabulary: 0,
        embedding_length: 0,
        trained_context_tokens: 100,
        context_tokens: 100,
        slots: options.slots.unwrap(),
        completion: true,
        chat: false,
        embedding: false,
    };
    Ok(Box::new(Obedient { info, running: BTreeMap::new() }))
}

impl Engine for Obedient {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn free_slots(&self) -> usize {
        self.info.slots as usize - self.running.len()
    }

    fn start(&mut self, id: u64, task: &Task) -> Result<(), TaskError> {
        task.check()?;
        assert!(self.free_slots() > 0, "started beyond its slots");
        let Task::Completion { prompt, .. } = task else {
            return Err(TaskError::Unsupported { message: "completions only".to_owned() });
        };
        let mut words: Vec<String> = prompt.split(' ').rev().map(str::to_owned).collect();
        let prompt_tokens = words.len() as u32;
        let words = match words.pop().as_deref() {
            Some("say") => Some(words),
            Some("print") => {
                println!("{prompt}");
                eprintln!("{prompt}");
                Some(words)
            }
            Some("panic") => panic!("{prompt}"),
            Some("thread") => {
                std::thread::spawn(|| {}).join().expect("it does nothing");
                Some(vec!["joined".to_owned()])
            }
            Some("open") => {
                let result = File::open(worker::sandbox::model_path());
                Some(vec![result.map_or_else(|error| format!("{:?}", error.kind()), |_| "opened".to_owned())])
            }
            Some("stick") => None,
            Some("break") => Some(vec!["break".to_owned()]),
            _ => None,
        };
        let stuck = prompt.starts_with("stick");
        self.running.insert(id, Work { prompt_tokens, started: false, said: 0, stuck, words });
        Ok(())
    }

    fn cancel(&mut self, id: u64) {
        self.running.remove(&id);
    }

    fn step(&mut self, emit: &mut dyn FnMut(u64, Frame)) -> Result<bool, EngineError> {
        if self.running.values().any(|work| work.words.as_deref() == Some(&["break".to_owned()])) {
            for (id, _) in std::mem::take(&mut self.running) {
                emit(id, Frame::Failed { error: TaskError::Engine { message: "broken".to_owned() } });
            }
            return Err(EngineError::Compute { reason: "broken".to_owned() });
        }
        self.running.retain(|id, work| work.step(&mut |frame| emit(*id, frame)));
        Ok(!self.running.is_empty())
    }
}

impl Work {
    /// Whether it goes on.
    fn step(&mut self, emit: &mut dyn FnMut(Frame)) -> bool {
        if !self.started {
            self.started = true;
            emit(Frame::Started { prompt_tokens: self.prompt_tokens });
            return true;
        }
        if self.stuck {
            loop {
                std::thread::park();
            }
        }
        let word = match &mut self.words {
            Some(words) => words.pop(),
            None => Some("on".to_owned()),
        };
        match word {
            Some(word) => {
                self.said += 1;
                emit(Frame::Tokens { ids: vec![self.said], text: format!("{word} "), log_probs: vec![-0.5] });
                true
            }
            None => {
                let usage = Usage { prompt_tokens: self.prompt_tokens, completion_tokens: self.said };
                emit(Frame::Done { finish: Finish::Stop, usage });
                false
            }
        }
    }
}
