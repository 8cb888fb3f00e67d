use super::*;
use protocol::task::{Finish, Generation};

fn tokens(ids: &[u32], text: &str) -> Frame {
    Frame::Tokens { ids: ids.to_vec(), text: text.to_owned(), log_probs: vec![-1.0; ids.len()] }
}

fn done(prompt_tokens: u32, completion_tokens: u32) -> Frame {
    Frame::Done { finish: Finish::Stop, usage: Usage { prompt_tokens, completion_tokens } }
}

fn started() -> Frame {
    Frame::Started { prompt_tokens: 3 }
}

fn chat(max_tokens: Option<u32>) -> Task {
    let mut task = Task::chat("hello");
    if let Task::Chat { generation, .. } = &mut task {
        *generation = Generation { max_tokens, ..Generation::default() };
    }
    task
}

#[test]
fn another_node_goes_on_behind_what_was_seen() {
    let task = chat(None);
    let mut progress = Progress::new(&task);
    let mut first = progress.cursor();
    assert_eq!(progress.take(&mut first, started()), Ok(Step::Begins(started())));
    assert_eq!(progress.take(&mut first, tokens(&[1, 2], "é")), Ok(Step::Advances(tokens(&[1, 2], "é"))));

    let Task::Chat { generation, .. } = &progress.rest_of(&task) else { panic!("another task") };
    assert_eq!((&generation.resume.ids[..], generation.resume.text_bytes), (&[1, 2][..], 2));

    let mut second = progress.cursor();
    assert_eq!(progress.take(&mut second, started()), Ok(Step::Nothing), "the reader has seen the beginning");
    assert_eq!(progress.take(&mut second, tokens(&[3], "x")), Ok(Step::Advances(tokens(&[3], "x"))));
    assert!(progress.take(&mut first, tokens(&[3], "y")).is_err(), "the slower node is not mixed in");
    assert_eq!(progress.take(&mut second, done(3, 1)), Ok(Step::Ends(done(3, 3))), "all that was delivered counts");
}

#[test]
fn frames_out_of_place_are_found() {
    let mut progress = Progress::new(&chat(Some(2)));
    let mut cursor = progress.cursor();
    assert!(progress.take(&mut cursor, tokens(&[1], "a")).is_err(), "not begun");
    assert!(progress.take(&mut cursor, started()).is_ok());
    assert!(progress.take(&mut cursor, started()).is_err(), "begun twice");
    assert!(progress.take(&mut cursor, Frame::Embedding { index: 0, vector: vec![1.0] }).is_err());
    assert_eq!(progress.take(&mut cursor, tokens(&[], "")), Ok(Step::Nothing));
    assert!(progress.take(&mut cursor, tokens(&[1, 2, 3], "abc")).is_err(), "longer than asked for");
    assert!(!progress.has_advanced());
}

#[test]
fn an_answer_has_no_more_text_than_its_tokens() {
    let mut progress = Progress::new(&chat(None));
    let mut cursor = progress.cursor();
    progress.take(&mut cursor, started()).unwrap();
    assert!(progress.take(&mut cursor, tokens(&[1], &"x".repeat(4097))).is_err(), "too long for one token");
    let mut without = tokens(&[1, 2], "x");
    if let Frame::Tokens { log_probs, .. } = &mut without {
        log_probs.pop();
    }
    assert!(progress.take(&mut cursor, without).is_err(), "each has its log-probability");
    progress.take(&mut cursor, tokens(&[1], "x")).unwrap();
    assert_eq!(progress.take(&mut cursor, tokens(&[], "y")), Ok(Step::Advances(tokens(&[], "y"))), "the last text");
    assert!(progress.take(&mut cursor, tokens(&[], "z")).is_err(), "there is one last text");
    assert!(progress.take(&mut cursor, tokens(&[2], "z")).is_err(), "and no token behind it");

    let mut second = progress.cursor();
    progress.take(&mut second, started()).unwrap();
    progress.take(&mut second, tokens(&[], "kept back")).unwrap();
    progress.take(&mut second, tokens(&[2], "z")).unwrap();
    progress.take(&mut second, tokens(&[], "end")).unwrap();
    assert!(matches!(progress.take(&mut second, done(3, 2)), Ok(Step::Ends(_))));
}

#[test]
fn an_answer_without_a_bound_has_one() {
    let mut progress = Progress::new(&chat(None));
    let mut cursor = progress.cursor();
    progress.take(&mut cursor, started()).unwrap();
    let most = vec![7; limits::RESUME_TOKENS_MAX];
    progress.take(&mut cursor, tokens(&most, "x")).unwrap();
    assert!(progress.take(&mut cursor, tokens(&[7], "x")).is_err());
}

#[test]
fn vectors_are_shown_once_and_all_of_them() {
    let mut progress = Progress::new(&Task::Embedding { inputs: vec!["a".to_owned(), "b".to_owned()] });
    let vector = |index| Frame::Embedding { index, vector: vec![1.0] };
    let mut first = progress.cursor();
    progress.take(&mut first, started()).unwrap();
    assert_eq!(progress.take(&mut first, vector(0)), Ok(Step::Advances(vector(0))));
    assert!(progress.take(&mut first, vector(2)).is_err());
    assert!(progress.take(&mut first, done(2, 0)).is_err(), "one is missing");
    let mut second = progress.cursor();
    progress.take(&mut second, started()).unwrap();
    assert_eq!(progress.take(&mut second, vector(0)), Ok(Step::Nothing));
    assert_eq!(progress.take(&mut second, vector(1)), Ok(Step::Advances(vector(1))));
    assert_eq!(progress.take(&mut second, done(2, 0)), Ok(Step::Ends(done(2, 0))));
}

#[test]
fn scores_are_shown_once_whatever_their_portions() {
    let prompt = protocol::task::Prompt::Text("x".to_owned());
    let mut progress = Progress::new(&Task::Score { prompt, ids: vec![1, 2, 3, 4] });
    let scores = |values: &[f32]| Frame::Scores { log_probs: values.to_vec(), best: values.to_vec() };
    let mut first = progress.cursor();
    progress.take(&mut first, started()).unwrap();
    assert_eq!(progress.take(&mut first, scores(&[0.0, 1.0])), Ok(Step::Advances(scores(&[0.0, 1.0]))));
    let mut second = progress.cursor();
    progress.take(&mut second, started()).unwrap();
    assert_eq!(progress.take(&mut second, scores(&[0.0])), Ok(Step::Nothing));
    assert_eq!(progress.take(&mut second, scores(&[1.0, 2.0])), Ok(Step::Advances(scores(&[2.0]))));
    assert!(progress.take(&mut second, done(1, 0)).is_err(), "one is missing");
    assert!(progress.take(&mut second, scores(&[3.0, 4.0])).is_err(), "one too many");
    assert_eq!(progress.take(&mut second, scores(&[3.0])), Ok(Step::Advances(scores(&[3.0]))));
    assert_eq!(progress.take(&mut second, done(1, 0)), Ok(Step::Ends(done(1, 0))));
}

#[test]
fn a_growing_list_keeps_its_order() {
    let mut ids = Vec::new();
    for id in 0..2_000 {
        append(&mut ids, &[id]);
    }
    assert!(ids.iter().copied().eq(0..2_000));
}
