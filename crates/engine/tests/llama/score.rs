//! Given answers, scored by the real model.

use crate::runner::Runner;
use crate::{LOG_PROB_TOLERANCE, STORY, chat, completion, greedy};
use engine::{Engine, EngineOptions};
use protocol::task::{Frame, Generation, Message, Prompt, Sampling, Task, TaskError, Usage};

fn text(prompt: &str, ids: &[u32]) -> Task {
    Task::Score { prompt: Prompt::Text(prompt.to_owned()), ids: ids.to_vec() }
}

fn distance(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn a_greedy_answer_is_the_likeliest_in_every_place() {
    let mut runner = Runner::default();
    let said = runner.run(&completion(STORY, greedy(60)));
    let scored = runner.run(&text(STORY, &said.ids));
    assert_eq!(scored.usage, Usage { prompt_tokens: said.started, completion_tokens: 0 });
    assert_eq!(scored.started, said.started);
    let (log_probs, best) = &scored.scores;
    assert_eq!(log_probs.len(), 60);
    assert!(distance(log_probs, &said.log_probs) <= LOG_PROB_TOLERANCE, "what it said when it wrote them");
    assert!(distance(log_probs, best) <= LOG_PROB_TOLERANCE);
}

#[test]
fn a_chat_is_scored_as_it_was_asked() {
    let mut runner = Runner::default();
    let said = runner.run(&chat("What is a cat?", greedy(24)));
    let messages = vec![Message { role: "user".to_owned(), content: "What is a cat?".to_owned() }];
    let scored = runner.run(&Task::Score { prompt: Prompt::Chat(messages), ids: said.ids.clone() });
    assert_eq!(scored.started, said.started);
    assert!(distance(&scored.scores.0, &said.log_probs) <= LOG_PROB_TOLERANCE);
}

#[test]
fn the_neighbours_in_a_batch_change_little() {
    let mut runner = Runner::default();
    let said = runner.run(&completion(STORY, greedy(60)));
    let alone = runner.run(&text(STORY, &said.ids)).scores.0;
    for id in 1..4 {
        runner.start(id, &chat("Count to one hundred.", greedy(100)));
    }
    runner.start(0, &text(STORY, &said.ids));
    while runner.frames(0).last().is_none_or(|frame| !frame.is_final()) {
        runner.step();
    }
    assert!(distance(&runner.answer(0).scores.0, &alone) <= LOG_PROB_TOLERANCE);
}

#[test]
fn log_probs_are_those_before_temperature_penalties_and_cuts() {
    let mut runner = Runner::default();
    let sampling = Sampling { temperature: 1.9, top_k: 3, repeat_penalty: 2.0, seed: Some(3), ..Sampling::default() };
    let said = runner.run(&completion(STORY, Generation { sampling, ..greedy(40) }));
    let scored = runner.run(&text(STORY, &said.ids));
    assert!(distance(&scored.scores.0, &said.log_probs) <= LOG_PROB_TOLERANCE);
    assert!(distance(&scored.scores.0, &scored.scores.1) > 0.5, "it was not greedy");
}

#[test]
fn another_answer_is_less_likely() {
    let mut runner = Runner::default();
    let said = runner.run(&completion(STORY, greedy(30)));
    let backwards: Vec<u32> = said.ids.iter().rev().copied().collect();
    let mean = |values: &[f32]| values.iter().sum::<f32>() / values.len() as f32;
    let own = mean(&runner.run(&text(STORY, &said.ids)).scores.0);
    let other = mean(&runner.run(&text(STORY, &backwards)).scores.0);
    assert!(other < own - 2.0, "{other} {own}");
    assert_eq!(runner.run(&text(STORY, &said.ids[..1])).scores.0.len(), 1, "one token is scored by the prompt's end");
}

#[test]
fn a_long_answer_comes_in_parts_and_does_not_hold_up_others() {
    let mut runner = Runner::new(EngineOptions { slots: 3, batch_tokens: 512, ..EngineOptions::default() });
    let said = runner.run(&completion(STORY, greedy(1)));
    runner.start(1, &completion(STORY, greedy(60)));
    runner.step();
    runner.start(2, &text(STORY, &[said.ids[0]; 1000]));
    runner.start(3, &text(STORY, &[said.ids[0]; 4]));
    let before = runner.tokens(1);
    runner.step();
    assert!(
        matches!(runner.frames(3).last(), Some(Frame::Done { .. })),
        "the short one does not wait for the long one"
    );
    let mut steps = 1;
    while runner.frames(2).last().is_none_or(|frame| !frame.is_final()) {
        runner.step();
        steps += 1;
    }
    assert_eq!(runner.tokens(1) - before, steps, "a token of the answer at each step");
    assert!((1000 / 64..=1000 / 64 + 2).contains(&steps), "{steps}");
    let scores = |frame: &Frame| if let Frame::Scores { log_probs, .. } = frame { log_probs.len() } else { 0 };
    assert!(runner.frames(2).iter().all(|frame| scores(frame) <= 64));
    assert_eq!(runner.answer(2).scores.0.len(), 1000);
}

#[test]
fn a_cancelled_score_is_gone_before_the_next_step() {
    let mut runner = Runner::new(EngineOptions { slots: 1, ..EngineOptions::default() });
    let expected = runner.run(&completion(STORY, greedy(10)));
    runner.start(1, &text(STORY, &[9; 1000]));
    runner.step();
    runner.engine.cancel(1);
    assert!(!runner.step());
    assert_eq!(runner.run(&completion(STORY, greedy(10))), expected, "the slot is clean");
}

#[test]
fn scores_out_of_bounds_are_refused() {
    let mut runner = Runner::default();
    for ids in [&[][..], &[49_152], &[u32::MAX, 1]] {
        let error = runner.engine.start(1, &text(STORY, ids)).unwrap_err();
        assert!(matches!(error, TaskError::Invalid { .. }), "{ids:?}");
    }
    let error = runner.engine.start(1, &text(STORY, &[9; 600])).unwrap_err();
    assert!(matches!(error, TaskError::ContextExceeded { prompt_tokens, context_tokens: 512 } if prompt_tokens > 600));
    assert_eq!(runner.engine.free_slots(), 4);
}
