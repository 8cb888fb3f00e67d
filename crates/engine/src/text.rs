//! From the bytes of tokens to text: whole characters only, and nothing of a stop string.

use zeroize::{Zeroize, ZeroizeOnDrop};

/// Joins the byte pieces of tokens into text and watches for stop strings.
///
/// A token may end in the middle of a character or of a stop string; what is not yet certain waits. The text and the
/// place where it stops depend only on the bytes, never on how they were cut into tokens.
///
/// ```
/// use engine::TextAssembler;
///
/// let mut assembler = TextAssembler::new(&["END".to_owned()]);
/// let mut text = String::new();
/// assert!(!assembler.push(b"caf\xc3", &mut text));
/// assert!(!assembler.push(b"\xa9 E", &mut text));
/// assert_eq!(text, "café ", "the E waits: it may begin END");
/// assert!(assembler.push(b"ND and more", &mut text));
/// assert_eq!(text, "café ");
/// ```
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct TextAssembler {
    stops: Vec<String>,
    /// Whole characters that may begin a stop string.
    held: String,
    /// The bytes of one unfinished character, at most three.
    tail: Vec<u8>,
}

impl TextAssembler {
    /// An assembler that ends before the first of `stops`. Empty stop strings are ignored.
    pub fn new(stops: &[String]) -> Self {
        let stops = stops.iter().filter(|stop| !stop.is_empty()).cloned().collect();
        Self { stops, held: String::new(), tail: Vec::new() }
    }

    /// Adds the bytes of one token and appends the text that is now certain to `text`.
    ///
    /// Returns whether a stop string came. Then `text` got everything before it, and the rest is wiped. Of several stop
    /// strings the one that is complete first counts; of those that are complete at once, the longest.
    pub fn push(&mut self, piece: &[u8], text: &mut String) -> bool {
        self.tail.extend_from_slice(piece);
        self.decode();
        if self.stops.is_empty() {
            text.push_str(&self.held);
            self.held.zeroize();
            return false;
        }
        if let Some(start) = self.first_stop() {
            text.push_str(&self.held[..start]);
            self.held.zeroize();
            self.tail.zeroize();
            return true;
        }
        let certain = self.held.len() - self.undecided_bytes();
        text.push_str(&self.held[..certain]);
        self.held.drain(..certain);
        false
    }

    /// Appends what still waits: the answer ended without a stop string. An unfinished character becomes U+FFFD.
    pub fn finish(&mut self, text: &mut String) {
        text.push_str(&self.held);
        if !self.tail.is_empty() {
            text.push(char::REPLACEMENT_CHARACTER);
        }
        self.held.zeroize();
        self.tail.zeroize();
    }

    /// Moves whole characters from `tail` to `held`; bytes that can never become one turn into U+FFFD, as in
    /// [`String::from_utf8_lossy`].
    fn decode(&mut self) {
        let mut rest = self.tail.as_slice();
        loop {
            match std::str::from_utf8(rest) {
                Ok(valid) => {
                    self.held.push_str(valid);
                    self.tail.clear();
                    return;
                }
                Err(error) => {
                    let (valid, after) = rest.split_at(error.valid_up_to());
                    self.held.push_str(std::str::from_utf8(valid).expect("valid up to there"));
                    let Some(broken) = error.error_len() else {
                        let unfinished = self.tail.len() - after.len();
                        self.tail.drain(..unfinished);
                        return;
                    };
                    self.held.push(char::REPLACEMENT_CHARACTER);
                    rest = &after[broken..];
                }
            }
        }
    }

    /// Where the stop string starts that is complete first.
    fn first_stop(&self) -> Option<usize> {
        let found = self.stops.iter().filter_map(|stop| self.held.find(stop.as_str()).map(|at| (at + stop.len(), at)));
        found.min().map(|(_, start)| start)
    }

    /// Bytes at the end of `held` that may begin a stop string.
    fn undecided_bytes(&self) -> usize {
        let held = self.held.as_bytes();
        let longest = |stop: &String| {
            let stop = stop.as_bytes();
            (1..stop.len().min(held.len() + 1)).rev().find(|&length| held.ends_with(&stop[..length]))
        };
        self.stops.iter().filter_map(longest).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text of `pieces` and whether a stop string ended it.
    fn assemble(stops: &[&str], pieces: &[&[u8]]) -> (String, bool) {
        let stops: Vec<String> = stops.iter().map(|stop| (*stop).to_owned()).collect();
        let mut assembler = TextAssembler::new(&stops);
        let mut text = String::new();
        for piece in pieces {
            if assembler.push(piece, &mut text) {
                return (text, true);
            }
        }
        assembler.finish(&mut text);
        (text, false)
    }

    #[test]
    fn characters_wait_until_they_are_whole() {
        let mut assembler = TextAssembler::new(&[]);
        let emoji = "👩🏽‍🚀漢".as_bytes();
        let mut seen = String::new();
        for byte in emoji {
            let mut text = String::new();
            assembler.push(std::slice::from_ref(byte), &mut text);
            assert!(text.is_empty() || text.chars().count() == 1);
            seen.push_str(&text);
        }
        assembler.finish(&mut seen);
        assert_eq!(seen, "👩🏽‍🚀漢");
    }

    #[test]
    fn a_broken_tail_becomes_one_replacement_character() {
        assert_eq!(assemble(&[], &[b"ok \xf0\x9f", b"\x98"]), ("ok \u{FFFD}".to_owned(), false));
    }

    #[test]
    fn bytes_that_are_no_text_do_not_stall_what_follows() {
        assert_eq!(assemble(&[], &[b"a\xff\xfe", b"b\xc3(", b"c"]), ("a\u{FFFD}\u{FFFD}b\u{FFFD}(c".to_owned(), false));
    }

    #[test]
    fn every_cut_of_the_bytes_gives_the_same_text() {
        let cases: [(&[&str], &str); 7] = [
            (&["END"], "one two ENd three END four"),
            (&["abc", "b"], "xxabcx"),
            (&["\n\n", "\n\nUser:"], "hello\nworld\n\nUser: hi"),
            (&["漢字", "🙂🙃"], "これは漢と🙂🙂🙃です"),
            (&["aab"], "aaaaaab"),
            (&["never"], "nevenevneneve"),
            (&[], "plain 🦀"),
        ];
        for (stops, whole) in cases {
            let bytes = whole.as_bytes();
            let expected = assemble(stops, &[bytes]);
            for first in 0..=bytes.len() {
                for second in first..=bytes.len() {
                    let pieces = [&bytes[..first], &bytes[first..second], &bytes[second..]];
                    assert_eq!(assemble(stops, &pieces), expected, "{stops:?} at {first} and {second}");
                }
            }
        }
    }

    #[test]
    fn the_stop_that_is_complete_first_counts_and_the_longest_of_two() {
        assert_eq!(assemble(&["abc", "b"], &[b"xxabcx"]), ("xxa".to_owned(), true));
        assert_eq!(assemble(&["b", "ab"], &[b"xxab"]), ("xx".to_owned(), true));
    }

    #[test]
    fn text_of_a_stop_that_never_completes_is_given_at_the_end() {
        assert_eq!(assemble(&["</answer>"], &[b"see </ans"]), ("see </ans".to_owned(), false));
    }

    #[test]
    fn what_cannot_be_a_stop_is_not_held_back() {
        let mut assembler = TextAssembler::new(&["STOP".to_owned()]);
        let mut text = String::new();
        assembler.push(b"go ST", &mut text);
        assert_eq!(text, "go ");
        assembler.push(b"ART", &mut text);
        assert_eq!(text, "go START");
    }
}
