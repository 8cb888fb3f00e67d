use super::*;
use protocol::task::{Resume, Sampling};

fn engine(model: DeterministicModel) -> DeterministicEngine {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), model.file()).unwrap();
    DeterministicEngine::load(file.path(), 4).unwrap()
}

fn frames(engine: &mut DeterministicEngine, task: &Task) -> Vec<Frame> {
    let mut frames = Vec::new();
    engine.start(1, task).unwrap();
    while engine.step(&mut |_, frame| frames.push(frame)).unwrap() {}
    frames
}

fn task(generation: Generation) -> Task {
    Task::Completion { prompt: "what is this about".to_owned(), generation }
}

fn score(ids: Vec<u32>) -> Task {
    Task::Score { prompt: Prompt::Text("what is this about".to_owned()), ids }
}

#[derive(Debug, Default, Clone, PartialEq)]
struct Received {
    ids: Vec<u32>,
    text: String,
    log_probs: Vec<f32>,
    best: Vec<f32>,
}

fn received(frames: &[Frame]) -> Received {
    let mut all = Received::default();
    for frame in frames {
        match frame {
            Frame::Tokens { ids, text, log_probs } => {
                all.ids.extend(ids);
                all.text.push_str(text);
                all.log_probs.extend(log_probs);
            }
            Frame::Scores { log_probs, best } => {
                all.log_probs.extend(log_probs);
                all.best.extend(best);
            }
            _ => {}
        }
    }
    all
}

#[test]
fn an_answer_resumed_anywhere_is_the_undisturbed_one_to_the_byte() {
    let mut engine = engine(DeterministicModel::default());
    let whole = frames(&mut engine, &task(Generation { max_tokens: Some(41), ..Generation::default() }));
    let text = received(&whole).text;
    let stop = text.chars().skip(40).take(5).collect();
    let sampling = Sampling { seed: Some(3), temperature: 1.0, ..Sampling::default() };
    for generation in [
        Generation { max_tokens: Some(41), ..Generation::default() },
        Generation { max_tokens: None, sampling, ..Generation::default() },
        Generation { max_tokens: Some(41), stop: vec![stop], ..Generation::default() },
    ] {
        let undisturbed = frames(&mut engine, &task(generation.clone()));
        for cut in 0..undisturbed.len() {
            let had = received(&undisturbed[..cut]);
            let resume = Resume { ids: had.ids.clone(), text_bytes: had.text.len() as u64 };
            let rest = frames(&mut engine, &task(Generation { resume, ..generation.clone() }));
            assert_eq!(rest.first(), undisturbed.first());
            assert_eq!(rest.last(), undisturbed.last(), "finish and usage");
            let got = received(&rest);
            let both = Received {
                ids: [had.ids, got.ids].concat(),
                text: had.text + &got.text,
                log_probs: [had.log_probs, got.log_probs].concat(),
                best: Vec::new(),
            };
            assert_eq!(both, received(&undisturbed), "cut after {cut} frames");
        }
    }
    assert!(text.chars().any(|character| character.len_utf8() == 4), "characters are cut in two: {text}");
}

#[test]
fn its_score_is_what_it_said_and_a_distorted_one_shows() {
    let mut honest = engine(DeterministicModel::default());
    let mut distorted = engine(DeterministicModel { distort_percent: 20, ..DeterministicModel::default() });
    let generation = Generation { max_tokens: Some(200), ..Generation::default() };
    let mut distance = |subject: &mut DeterministicEngine| {
        let said = received(&frames(subject, &task(generation.clone())));
        let scored = received(&frames(&mut honest, &score(said.ids.clone())));
        assert_eq!((scored.log_probs.len(), scored.best.len()), (200, 200));
        let sum: f32 = said.log_probs.iter().zip(&scored.log_probs).map(|(a, b)| (a - b).abs()).sum();
        sum / 200.0
    };
    assert_eq!(distance(&mut engine(DeterministicModel::default())), 0.0);
    assert!(distance(&mut distorted) > 0.2);
}

#[test]
fn a_stalled_engine_lives_and_says_nothing() {
    let mut engine = engine(DeterministicModel { stall_after_tokens: Some(3), ..DeterministicModel::default() });
    engine.start(1, &task(Generation::default())).unwrap();
    let mut seen = Vec::new();
    for _ in 0..20 {
        assert!(engine.step(&mut |_, frame| seen.push(frame)).unwrap());
    }
    assert_eq!(received(&seen).ids.len(), 3);
    engine.cancel(1);
    assert_eq!(engine.free_slots(), 4);
}

#[test]
fn a_slow_start_takes_steps_before_it_starts() {
    let mut engine = engine(DeterministicModel { prefill_ms: 25, ..DeterministicModel::default() });
    engine.start(1, &task(Generation::default())).unwrap();
    let mut steps = 0;
    let mut started = false;
    while !started {
        engine.step(&mut |_, _| started = true).unwrap();
        steps += 1;
    }
    assert_eq!(steps, 2, "four tokens, two in each step");
}

#[test]
fn what_is_out_of_bounds_is_refused() {
    let mut engine = engine(DeterministicModel::default());
    let resumed = |ids: &[u32], text_bytes| {
        task(Generation { resume: Resume { ids: ids.to_vec(), text_bytes }, ..Generation::default() })
    };
    for task in [resumed(&[VOCABULARY], 0), resumed(&[1], 100), score(vec![VOCABULARY]), resumed(&[1; 65], 0)] {
        assert!(matches!(engine.start(1, &task), Err(TaskError::Invalid { .. })), "{task:?}");
    }
    for task in [resumed(&[1; 1100], 0), score(vec![1; 1100])] {
        assert!(matches!(engine.start(1, &task), Err(TaskError::ContextExceeded { .. })));
    }
    assert_eq!(engine.free_slots(), 4);
}

#[test]
fn files_round_trip_and_others_are_refused() {
    let model = DeterministicModel { step_ms: 5, prefill_ms: 2, stall_after_tokens: Some(9), distort_percent: 3 };
    assert_eq!(String::from_utf8(model.file()).unwrap().parse::<DeterministicModel>().unwrap(), model);
    for text in ["", "GGUF\nstep_ms=x", "GGUF\nspeed=1", "GGML\nstep_ms=1"] {
        assert!(text.parse::<DeterministicModel>().is_err(), "{text}");
    }
}
