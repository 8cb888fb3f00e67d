use super::*;
use proptest::prelude::*;
use protocol::task::Resume;

/// What an asker has of an answer.
#[derive(Debug, Clone, Default, PartialEq)]
struct Received {
    ids: Vec<u32>,
    text: String,
    finish: Option<Finish>,
}

impl Received {
    fn take(&mut self, frame: Frame) {
        let Frame::Tokens { ids, text, log_probs } = &frame else { panic!("{frame:?}") };
        assert_eq!(ids.len(), log_probs.len());
        self.ids.extend(ids);
        self.text.push_str(text);
    }
}

/// A model that says `pieces`, then ends; token `i` is piece `i`.
struct Script {
    pieces: Vec<Vec<u8>>,
    stop: Vec<String>,
    max_tokens: Option<u32>,
}

impl Script {
    fn generation(&self, received: &Received) -> Generation {
        let resume = Resume { ids: received.ids.clone(), text_bytes: received.text.len() as u64 };
        Generation { max_tokens: self.max_tokens, stop: self.stop.clone(), resume, ..Generation::default() }
    }

    /// Goes on from `received`. Gives what the asker has after each frame, the state at the start included, as if each
    /// were the last that came through.
    fn run(&self, mut received: Received) -> Vec<Received> {
        let mut states = vec![received.clone()];
        let limit = self.pieces.len() as u32 + 5;
        let piece = |id: u32, bytes: &mut Vec<u8>| bytes.extend_from_slice(&self.pieces[id as usize]);
        let mut answer = Answer::new(&self.generation(&received), limit, piece).unwrap();
        let mut emit = |frame| {
            received.take(frame);
            states.push(received.clone());
        };
        let mut finish = answer.begin(&mut emit);
        while finish.is_none() {
            let next = answer.generated();
            finish = match self.pieces.get(next as usize) {
                Some(piece) => answer.push(next, -1.0, piece, &mut emit),
                None => Some(answer.end(&mut emit)),
            };
        }
        assert_eq!(answer.generated() as usize, states.last().unwrap().ids.len());
        states.push(Received { finish, ..states.last().unwrap().clone() });
        states
    }

    /// Wherever it is interrupted, what was received and what follows is the undisturbed answer.
    fn check_every_cut(&self) {
        let undisturbed = self.run(Received::default());
        let whole = undisturbed.last().unwrap();
        for state in &undisturbed[..undisturbed.len() - 1] {
            assert_eq!(self.run(state.clone()).last().unwrap(), whole, "interrupted at {state:?}");
        }
        // Also where the tokens came through, but not all of their text.
        for state in &undisturbed[..undisturbed.len() - 1] {
            for (at, _) in state.text.char_indices() {
                let early = Received { text: state.text[..at].to_owned(), ..state.clone() };
                assert_eq!(self.run(early).last().unwrap(), whole, "{at} bytes of {state:?}");
            }
        }
    }
}

fn script(pieces: &[&[u8]], stop: &[&str]) -> Script {
    let pieces = pieces.iter().map(|piece| piece.to_vec()).collect();
    Script { pieces, stop: stop.iter().map(|stop| (*stop).to_owned()).collect(), max_tokens: None }
}

#[test]
fn a_character_that_was_cut_is_whole() {
    script(&["caf".as_bytes(), &[0xC3], &[0xA9], b" ", &[0xF0, 0x9F], &[0x98, 0x80]], &[]).check_every_cut();
}

#[test]
fn an_undecided_stop_string_stays_undecided() {
    script(&[b"go S", b"TA", b"RT ST", b"OP now"], &["STOP"]).check_every_cut();
}

#[test]
fn what_is_sent_at_the_very_end_is_not_sent_twice() {
    // The answer ends inside a character and inside a stop string: both are sent behind the last token.
    let script = script(&[b"see </", b"ans", &[0xF0, 0x9F]], &["</answer>"]);
    let undisturbed = script.run(Received::default());
    assert_eq!(undisturbed.last().unwrap().text, "see </ans\u{FFFD}");
    script.check_every_cut();
}

#[test]
fn an_answer_that_was_complete_needs_no_token() {
    let piece = |_: u32, bytes: &mut Vec<u8>| bytes.extend_from_slice(b"ab");
    let complete = |max_tokens, stop: &[&str], text_bytes| {
        let resume = Resume { ids: vec![0, 0], text_bytes };
        let stop = stop.iter().map(|stop| (*stop).to_owned()).collect();
        let generation = Generation { max_tokens, stop, resume, ..Generation::default() };
        let mut answer = Answer::new(&generation, 100, piece).unwrap();
        let mut received = Received::default();
        let finish = answer.begin(&mut |frame| received.take(frame));
        (finish, received.text, answer.generated())
    };
    assert_eq!(complete(Some(2), &[], 4), (Some(Finish::Length), String::new(), 2));
    assert_eq!(complete(Some(2), &[], 1), (Some(Finish::Length), "bab".to_owned(), 2));
    assert_eq!(complete(None, &["ba"], 1), (Some(Finish::Stop), String::new(), 2));
    assert_eq!(complete(None, &["bx"], 3), (None, String::new(), 2));
    assert_eq!(complete(None, &["bx"], 4), (Some(Finish::Stop), String::new(), 2), "the end has been sent");
}

#[test]
fn a_beginning_that_nobody_sends_is_refused() {
    let piece = |id: u32, bytes: &mut Vec<u8>| bytes.extend_from_slice([b"ab", "é".as_bytes()][id as usize]);
    let refuses = |ids: &[u32], text_bytes, max_tokens, stop: &[&str]| {
        let resume = Resume { ids: ids.to_vec(), text_bytes };
        let stop = stop.iter().map(|stop| (*stop).to_owned()).collect();
        let generation = Generation { max_tokens, stop, resume, ..Generation::default() };
        matches!(Answer::new(&generation, 100, piece), Err(TaskError::Invalid { .. }))
    };
    assert!(!refuses(&[0, 1], 4, None, &[]));
    assert!(refuses(&[0, 1], 5, None, &[]), "more text than the tokens make");
    assert!(refuses(&[0, 1], 3, None, &[]), "half a character");
    assert!(refuses(&[], 1, None, &[]), "text without tokens");
    assert!(refuses(&[], u64::MAX, None, &[]));
    assert!(refuses(&[0, 0, 0], 6, Some(2), &[]), "more tokens than asked for");
    assert!(refuses(&[0; 101], 202, None, &[]), "more tokens than there is room for");
    assert!(refuses(&[0, 0, 0], 1, None, &["ba"]), "tokens behind a stop string");
}

/// Bytes of few kinds, so that characters are cut, broken and whole, and stop strings begin everywhere.
fn pieces() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let unit = prop_oneof![
        Just(b"a".to_vec()),
        Just(b"b".to_vec()),
        Just("é".as_bytes().to_vec()),
        Just("🙂".as_bytes().to_vec()),
        Just(vec![0xFF]),
    ];
    let text = prop::collection::vec(unit, 0..24).prop_map(|units| units.concat());
    (text, prop::collection::vec(1..4usize, 0..60)).prop_map(|(bytes, lengths)| {
        let mut rest = bytes.as_slice();
        let mut pieces = Vec::new();
        for length in lengths {
            let (piece, after) = rest.split_at(length.min(rest.len()));
            pieces.push(piece.to_vec());
            rest = after;
        }
        pieces.push(rest.to_vec());
        pieces
    })
}

proptest! {
    #[test]
    fn any_answer_goes_on_from_any_token(
        pieces in pieces(),
        stop in prop::collection::vec("[abé🙂]{1,4}", 0..3),
        max_tokens in prop::option::of(1..40u32),
    ) {
        Script { pieces, stop, max_tokens }.check_every_cut();
    }
}
