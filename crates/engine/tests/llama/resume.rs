//! Answers that another engine began, on the real model.
//!
//! Numbers differ in their last bits with the composition of batches, so a resumed answer need not be the undisturbed one.
//! What must hold: every token is, when the whole answer is read at once, the likeliest or as good as that.

use crate::runner::Runner;
use crate::{LOG_PROB_TOLERANCE, STORY, chat, completion, greedy};
use engine::Engine;
use protocol::task::{Finish, Frame, Generation, Prompt, Resume, Sampling, Task, TaskError};

fn resumed(generation: Generation, ids: &[u32], text: &str) -> Generation {
    Generation { resume: Resume { ids: ids.to_vec(), text_bytes: text.len() as u64 }, ..generation }
}

/// The text of the first tokens, as far as it was sent.
fn text_of(runner: &mut Runner, generation: Generation, ids: &[u32]) -> String {
    // An answer that is complete after these tokens sends all of their text.
    let generation = Generation { max_tokens: Some(ids.len() as u32), ..resumed(generation, ids, "") };
    runner.run(&completion(STORY, generation)).text
}

#[test]
fn a_greedy_answer_goes_on_from_any_token() {
    let mut runner = Runner::default();
    let whole = runner.run(&completion(STORY, greedy(40)));
    for cut in [0, 1, 2, 7, 19, 38, 39, 40] {
        let had = text_of(&mut runner, greedy(40), &whole.ids[..cut.max(1)]);
        let had = if cut == 0 { "" } else { &had };
        let rest = runner.run(&completion(STORY, resumed(greedy(40), &whole.ids[..cut], had)));
        assert_eq!(rest.started, whole.started, "the prompt's own tokens");
        assert_eq!(rest.usage, whole.usage, "as if nothing had happened");
        assert_eq!(rest.finish, whole.finish);
        let ids = [&whole.ids[..cut], &rest.ids].concat();
        let text = format!("{had}{}", rest.text);
        if ids == whole.ids {
            assert_eq!(text, whole.text);
        }
        let score = Task::Score { prompt: Prompt::Text(STORY.to_owned()), ids };
        let (log_probs, best) = runner.run(&score).scores;
        for (place, (log_prob, best)) in log_probs.iter().zip(&best).enumerate() {
            assert!(
                best - log_prob <= LOG_PROB_TOLERANCE,
                "token {place} of the answer cut at {cut}: {best} {log_prob}"
            );
        }
    }
}

#[test]
fn what_was_complete_is_not_computed() {
    let mut runner = Runner::default();
    let whole = runner.run(&completion(STORY, greedy(5)));
    let task = completion(STORY, resumed(greedy(5), &whole.ids, &whole.text[..3]));
    runner.start(1, &task);
    assert!(!runner.step(), "one step, and no pass through the model");
    let rest = runner.answer(1);
    assert_eq!((rest.ids.len(), rest.text.as_str()), (0, &whole.text[3..]));
    assert_eq!((rest.finish, rest.usage), (whole.finish, whole.usage));
}

#[test]
fn an_answer_that_ended_by_itself_ends_again() {
    let mut runner = Runner::default();
    let generation = Generation { max_tokens: None, ..greedy(1) };
    let whole = runner.run(&chat("Say: yes", generation.clone()));
    assert_eq!(whole.finish, Finish::Stop);
    let rest = runner.run(&chat("Say: yes", resumed(generation, &whole.ids, &whole.text)));
    assert_eq!((rest.ids.len(), rest.text.as_str(), rest.finish), (0, "", Finish::Stop));
    assert_eq!(rest.usage, whole.usage);
}

#[test]
fn a_stop_string_is_found_across_the_interruption() {
    let mut runner = Runner::default();
    let whole = runner.run(&completion(STORY, greedy(40)));
    let stop: String = whole.text.chars().skip(30).take(12).collect();
    let generation = Generation { stop: vec![stop.clone()], ..greedy(40) };
    let stopped = runner.run(&completion(STORY, generation.clone()));
    assert_eq!(stopped.finish, Finish::Stop);
    // In the middle of the stop string, whose beginning has not been sent.
    let cut = stopped.ids.len() - 1;
    let frames: Vec<Frame> = {
        runner.run(&completion(STORY, generation.clone()));
        runner.frames(0).to_vec()
    };
    let mut had = String::new();
    let mut tokens = 0;
    for frame in &frames {
        if let Frame::Tokens { ids, text, .. } = frame
            && tokens < cut
        {
            tokens += ids.len();
            had.push_str(text);
        }
    }
    let rest = runner.run(&completion(STORY, resumed(generation, &whole.ids[..cut], &had)));
    assert_eq!((rest.finish, format!("{had}{}", rest.text)), (Finish::Stop, stopped.text));
}

#[test]
fn a_drawn_answer_goes_on_with_its_seed() {
    let mut runner = Runner::default();
    let sampling = Sampling { seed: Some(11), temperature: 0.9, repeat_penalty: 1.1, ..Sampling::default() };
    let generation = Generation { sampling, ..greedy(30) };
    let whole = runner.run(&completion(STORY, generation.clone()));
    let mut same = 0;
    for cut in [1, 10, 20, 29] {
        let rest = runner.run(&completion(STORY, resumed(generation.clone(), &whole.ids[..cut], "")));
        assert_eq!(rest.ids.len(), 30 - cut);
        same += usize::from(rest.ids == whole.ids[cut..]);
        // A valid continuation: nothing that the cuts had to leave out.
        let score =
            Task::Score { prompt: Prompt::Text(STORY.to_owned()), ids: [&whole.ids[..cut], &rest.ids].concat() };
        let log_probs = runner.run(&score).scores.0;
        assert!(log_probs.iter().all(|log_prob| *log_prob > -12.0), "{log_probs:?}");
    }
    // Noise of the last bits changes a draw in one of thousands: a stream that began anew would change all of them.
    assert!(same >= 2, "{same} of 4 continuations are those of the seed");
}

#[test]
fn penalties_know_what_was_written_before() {
    let mut runner = Runner::default();
    let whole = runner.run(&completion(STORY, greedy(40))).ids;
    let cut = (1..40).find(|cut| whole[..*cut].contains(&whole[*cut])).expect("a story repeats a word");
    let sampling = Sampling { repeat_penalty: 10.0, presence_penalty: 2.0, ..Sampling::greedy() };
    let penalised = Generation { sampling, ..greedy(40) };
    let mut next = |generation| runner.run(&completion(STORY, resumed(generation, &whole[..cut], ""))).ids[0];
    assert_eq!(next(greedy(40)), whole[cut]);
    let other = next(penalised);
    assert!(!whole[..cut].contains(&other), "nothing of what was said before");
}

#[test]
fn beginnings_out_of_bounds_are_refused() {
    let mut runner = Runner::default();
    let end = 2; // `<|im_end|>`
    let cases: [(&[u32], u64, u32); 6] =
        [(&[49_152], 0, 9), (&[u32::MAX], 0, 9), (&[end], 0, 9), (&[9, 9], 100, 9), (&[], 1, 9), (&[9, 9, 9], 0, 2)];
    for (ids, text_bytes, max_tokens) in cases {
        let resume = Resume { ids: ids.to_vec(), text_bytes };
        let task = completion(STORY, Generation { resume, ..greedy(max_tokens) });
        let error = runner.engine.start(1, &task).unwrap_err();
        assert!(matches!(error, TaskError::Invalid { .. }), "{ids:?} {text_bytes}: {error}");
    }
    let resume = Resume { ids: vec![9; 600], text_bytes: 0 };
    let error = runner.engine.start(1, &completion(STORY, Generation { resume, ..greedy(1) })).unwrap_err();
    assert!(matches!(error, TaskError::ContextExceeded { context_tokens: 512, .. }), "another node may have room");
    assert_eq!(runner.engine.free_slots(), 4);
}
