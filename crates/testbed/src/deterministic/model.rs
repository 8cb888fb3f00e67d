//! What the deterministic engine knows: its tokens, what it answers to a prompt, and the file that sets its pace.

use crate::dice::mix;
use std::{io, str::FromStr};

/// Tokens that are words. The others are halves of characters: each character of four bytes has two.
const WORDS: u32 = 4096;
/// Characters, from U+1F600 on.
const CHARACTERS: u32 = 64;
/// Tokens in all.
pub(super) const VOCABULARY: u32 = WORDS + 2 * CHARACTERS;

/// A model of the deterministic engine. Two of different paces give the same answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeterministicModel {
    /// How long a step takes, in milliseconds: the time from one token to the next.
    pub step_ms: u64,
    /// How long each token of a prompt takes beside that, in milliseconds, those of a resumed or scored answer included.
    pub prefill_ms: u64,
    /// After so many tokens of one answer, counted on this machine, no more come: the process lives, and goes on taking
    /// steps.
    pub stall_after_tokens: Option<u32>,
    /// How far it is from the model that it claims to be: of the words so many in a hundred are others, and
    /// log-probabilities are lower by as many hundredths, on average.
    pub distort_percent: u32,
}

impl DeterministicModel {
    /// What its file holds: `GGUF` and a line for each setting.
    pub fn file(&self) -> Vec<u8> {
        let Self { step_ms, prefill_ms, stall_after_tokens, distort_percent } = self;
        let mut text = format!("GGUF\nstep_ms={step_ms}\nprefill_ms={prefill_ms}\ndistort_percent={distort_percent}\n");
        if let Some(tokens) = stall_after_tokens {
            text.push_str(&format!("stall_after_tokens={tokens}\n"));
        }
        text.into_bytes()
    }

    /// The token at a place of the answer to a prompt, of which `prompt` is the hash: of nothing else, so that an answer
    /// goes on from anywhere.
    pub(super) fn token(&self, prompt: u64, place: u32) -> u32 {
        // Both halves of a character stand side by side.
        let pair = mix(prompt ^ u64::from(place / 2));
        if pair.is_multiple_of(4) {
            let character = (pair >> 32) as u32 % CHARACTERS;
            return WORDS + 2 * character + place % 2;
        }
        let own = mix(pair ^ u64::from(place % 2));
        let word = own as u32 % WORDS;
        if (own >> 32) % 100 < u64::from(self.distort_percent) { (word + 1) % WORDS } else { word }
    }

    /// The log-probability of a token at a place, and that of the likeliest.
    pub(super) fn log_prob(&self, prompt: u64, place: u32, token: u32) -> (f32, f32) {
        let unit = |bits: u64| (bits >> 40) as f32 / (1 << 24) as f32;
        let bits = mix(prompt ^ 0x5eed ^ u64::from(place));
        let lower = self.distort_percent as f32 / 50.0 * unit(mix(bits));
        let best = -0.05 - unit(bits) - lower;
        let other = best - 3.0 - unit(mix(bits ^ u64::from(token)));
        (if token == self.token(prompt, place) { best } else { other }, best)
    }
}

/// Appends the bytes of a token.
pub(super) fn piece(token: u32, bytes: &mut Vec<u8>) {
    match token.checked_sub(WORDS) {
        None => bytes.extend_from_slice(format!("{token} ").as_bytes()),
        Some(half) => {
            let character = char::from_u32(0x1F600 + half / 2).expect("these are characters");
            let mut utf8 = [0; 4];
            character.encode_utf8(&mut utf8);
            let (first, second) = utf8.split_at(2);
            bytes.extend_from_slice(if half.is_multiple_of(2) { first } else { second });
        }
    }
}

/// FNV-1a in 64 bits: the same on every machine.
pub(super) fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

impl FromStr for DeterministicModel {
    type Err = io::Error;

    fn from_str(text: &str) -> io::Result<Self> {
        let not = |what: &str| io::Error::other(format!("not a model of the deterministic engine: {what}"));
        let mut lines = text.lines();
        if lines.next() != Some("GGUF") {
            return Err(not("its first line"));
        }
        let mut model = Self::default();
        for line in lines {
            let (name, value) = line.split_once('=').ok_or_else(|| not(line))?;
            let value: u32 = value.parse().map_err(|_| not(line))?;
            match name {
                "step_ms" => model.step_ms = value.into(),
                "prefill_ms" => model.prefill_ms = value.into(),
                "stall_after_tokens" => model.stall_after_tokens = Some(value),
                "distort_percent" => model.distort_percent = value,
                _ => return Err(not(line)),
            }
        }
        Ok(model)
    }
}
