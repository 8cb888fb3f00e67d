//! How far log-probabilities of one answer are apart: between ways to compute it, and between models.
//!
//! `GOMP_SPINCOUNT=1000 cargo run --release -p engine --example distance -- REFERENCE.gguf [OTHER.gguf ..]`
//!
//! Each model answers the same prompts, greedily and drawn with a seed, and says how likely it found each token. Then the
//! reference scores the answers. Of each answer: the distance that canaries are judged by (`trust::canary`), and the mean
//! over its tokens of |Δ log-probability| and of the gap to the likeliest token; of all answers the least, the median and
//! the largest of these, and the largest single ones. The
//! reference scores its own answers alone and beside three streams, so that batches are composed differently.

use engine::{Engine, EngineOptions, LlamaEngine};
use protocol::task::{Frame, Generation, Message, Prompt, Sampling, Task};
use std::path::Path;
use trust::canary;

type Failure = Box<dyn std::error::Error>;

const ANSWER_TOKENS: u32 = 64;
const QUESTIONS: [&str; 16] = [
    "What is a cat?",
    "Count from one to twenty.",
    "Write a short poem about the sea.",
    "Explain how a bicycle stays upright.",
    "Name five fruits and say what each tastes like.",
    "Translate `good morning` into French, Spanish and German.",
    "What is 17 times 23? Show the steps.",
    "Write a function in Python that reverses a string.",
    "Why is the sky blue?",
    "Tell me a story about a lighthouse keeper.",
    "List the planets of the solar system.",
    "Summarise the rules of chess in three sentences.",
    "Give three tips for learning a language.",
    "What should I cook with rice, eggs and onions?",
    "Describe the colour red to somebody who cannot see.",
    "Write an email that asks for a day off.",
];

/// An answer, as one who asked has it.
#[derive(Default)]
struct Said {
    ids: Vec<u32>,
    log_probs: Vec<f32>,
    best: Vec<f32>,
}

fn message(question: &str) -> Vec<Message> {
    vec![Message { role: "user".to_owned(), content: question.to_owned() }]
}

/// Runs tasks side by side; gives what came of the first.
fn run(engine: &mut LlamaEngine, tasks: &[Task]) -> Result<Said, Failure> {
    let mut said = Said::default();
    let mut failed = None;
    for (id, task) in (0..).zip(tasks) {
        engine.start(id, task)?;
    }
    let mut done = false;
    while !done {
        engine.step(&mut |id, frame| {
            done |= id == 0 && frame.is_final();
            match &frame {
                Frame::Tokens { ids, log_probs, .. } if id == 0 => {
                    said.ids.extend(ids);
                    said.log_probs.extend(log_probs);
                }
                Frame::Scores { log_probs, best } if id == 0 => {
                    said.log_probs.extend(log_probs);
                    said.best.extend(best);
                }
                Frame::Failed { error } => failed = Some(error.clone()),
                _ => {}
            }
        })?;
    }
    (1..tasks.len() as u64).for_each(|id| engine.cancel(id));
    failed.map_or(Ok(said), |error| Err(error.into()))
}

fn ask(question: &str, sampling: Sampling) -> Task {
    let generation = Generation { max_tokens: Some(ANSWER_TOKENS), sampling, ..Generation::default() };
    Task::Chat { messages: message(question), generation }
}

fn score(question: &str, said: &Said) -> Task {
    Task::Score { prompt: Prompt::Chat(message(question)), ids: said.ids.clone() }
}

/// What the answers' figures are.
#[derive(Default)]
struct Figures {
    /// Of the answers that a canary would judge.
    canary: Vec<f32>,
    /// Tokens that count in the answer that has the fewest of them.
    counted_min: Option<usize>,
    differences: Vec<f32>,
    gaps: Vec<f32>,
    difference_max: f32,
    gap_max: f32,
    tokens: usize,
    not_likeliest: usize,
}

impl Figures {
    fn add(&mut self, said: &Said, scored: &Said) {
        let (distance, counted) = canary::distance(&said.log_probs, &scored.log_probs);
        self.counted_min = Some(self.counted_min.unwrap_or(usize::MAX).min(counted));
        if counted >= canary::TOKENS_MIN {
            self.canary.push(distance as f32);
        }
        let difference: Vec<f32> = said.log_probs.iter().zip(&scored.log_probs).map(|(a, b)| (a - b).abs()).collect();
        let gap: Vec<f32> = scored.best.iter().zip(&scored.log_probs).map(|(best, own)| best - own).collect();
        let mean = |values: &[f32]| values.iter().sum::<f32>() / values.len().max(1) as f32;
        self.differences.push(mean(&difference));
        self.gaps.push(mean(&gap));
        self.difference_max = difference.into_iter().fold(self.difference_max, f32::max);
        self.gap_max = gap.iter().copied().fold(self.gap_max, f32::max);
        self.tokens += gap.len();
        self.not_likeliest += gap.iter().filter(|gap| **gap > 0.0).count();
    }

    fn print(mut self, name: &str) {
        let spread = |values: &mut Vec<f32>| {
            values.sort_by(f32::total_cmp);
            let at =
                |share: usize| values.get(values.len().saturating_sub(1) * share / 100).copied().unwrap_or_default();
            format!("{:.4} {:.4} {:.4}", at(0), at(50), at(100))
        };
        println!(
            "{name}: {} answers, {} tokens; canary {} ({} judged, at least {} tokens count); mean |Δ| {}, largest {:.4}; \
             mean gap {}, largest {:.4}; {} not the likeliest",
            self.differences.len(),
            self.tokens,
            spread(&mut self.canary),
            self.canary.len(),
            self.counted_min.unwrap_or_default(),
            spread(&mut self.differences),
            self.difference_max,
            spread(&mut self.gaps),
            self.gap_max,
            self.not_likeliest,
        );
    }
}

fn main() -> Result<(), Failure> {
    let models: Vec<String> = std::env::args().skip(1).collect();
    let [reference, ..] = models.as_slice() else {
        return Err("usage: distance REFERENCE.gguf [OTHER.gguf ..]".into());
    };
    let load = |model: &str| {
        LlamaEngine::load(model.as_ref(), EngineOptions { step_time: None, context_tokens: 512, ..Default::default() })
    };
    let mut referee = load(reference)?;
    let endless = |question| ask(question, Sampling { temperature: 1.0, ..Sampling::default() });
    let others = [endless(QUESTIONS[2]), endless(QUESTIONS[9]), endless(QUESTIONS[15])];
    for model in &models {
        let name = Path::new(model).file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut subject = load(model)?;
        for (how, temperature) in [("greedy", 0.0), ("temperature 0.8", 0.8)] {
            let (mut alone, mut crowded) = (Figures::default(), Figures::default());
            for question in QUESTIONS {
                let sampling = Sampling { temperature, seed: Some(7), ..Sampling::default() };
                let task = ask(question, sampling);
                let said = run(&mut subject, std::slice::from_ref(&task))?;
                alone.add(&said, &run(&mut referee, &[score(question, &said)])?);
                // The other way round too: written in a crowd, scored alone.
                let [a, b, c] = others.clone();
                let said = run(&mut subject, &[task, a, b, c])?;
                crowded.add(&said, &run(&mut referee, &[score(question, &said)])?);
                let [a, b, c] = others.clone();
                crowded.add(&said, &run(&mut referee, &[score(question, &said), a, b, c])?);
            }
            alone.print(&format!("{name}, {how}, alone"));
            crowded.print(&format!("{name}, {how}, beside three"));
        }
    }
    Ok(())
}
