//! From text to tokens and back.

use crate::ControlTokens;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token::LlamaToken;
use protocol::task::TaskError;
use std::sync::Arc;
use zeroize::Zeroizing;

/// The tokens of a prompt; wiped when dropped.
pub(super) type Prompt = Zeroizing<Vec<i32>>;

/// Longest run of letters, of spaces or of other characters that is tokenised in one piece. For some vocabularies
/// llama.cpp splits words by `std::regex`, which recurses over a match and overflows the stack on a long one. Text that
/// people write has no such runs; where one is cut, at most one token differs.
const RUN_CHARS_MAX: usize = 2048;

/// A model's tokens.
pub(super) struct Vocabulary {
    weights: Arc<LlamaModel>,
    control: ControlTokens,
    size: u32,
    /// Bytes of the longest token: no text of more than this for each token of the context fits into it.
    longest_bytes: usize,
    bos: Option<LlamaToken>,
    eos: Option<LlamaToken>,
    bos_text: String,
    eos_text: String,
}

impl Vocabulary {
    /// `None` if there are no tokens.
    pub(super) fn read(weights: &Arc<LlamaModel>) -> Option<Self> {
        let vocab = weights.vocab();
        let size = u32::try_from(vocab.n_tokens()).ok().filter(|size| *size > 0)?;
        let text = |token: LlamaToken| String::from_utf8_lossy(&vocab.token_to_piece(token, true, None)).into_owned();
        // A file may name any number.
        let known = |token: LlamaToken| (0..size as i32).contains(&token.0).then_some(token);
        let (bos, eos) = (known(vocab.bos()), known(vocab.eos()));
        let mut longest_bytes = 1;
        let mut control = Vec::new();
        for token in vocab.tokens() {
            let piece = vocab.token_to_piece(token, true, None);
            longest_bytes = longest_bytes.max(piece.len());
            if vocab.is_control(token) || vocab.is_eog(token) {
                control.push(String::from_utf8_lossy(&piece).into_owned());
            }
        }
        Some(Self {
            control: ControlTokens::new(control),
            size,
            longest_bytes,
            bos,
            eos,
            bos_text: bos.map(text).unwrap_or_default(),
            eos_text: eos.map(text).unwrap_or_default(),
            weights: Arc::clone(weights),
        })
    }

    pub(super) fn size(&self) -> u32 {
        self.size
    }

    pub(super) fn control(&self) -> &ControlTokens {
        &self.control
    }

    pub(super) fn bos_text(&self) -> &str {
        &self.bos_text
    }

    pub(super) fn eos_text(&self) -> &str {
        &self.eos_text
    }

    /// A token that an asker names.
    pub(super) fn token(&self, id: u32) -> Result<LlamaToken, TaskError> {
        match i32::try_from(id) {
            Ok(token) if id < self.size => Ok(LlamaToken(token)),
            _ => Err(TaskError::Invalid { message: format!("token {id} is not one of the model's {}", self.size) }),
        }
    }

    pub(super) fn ends_generation(&self, token: LlamaToken) -> bool {
        self.weights.vocab().is_eog(token)
    }

    /// Appends a token's bytes. Control tokens have none.
    pub(super) fn piece(&self, token: LlamaToken, bytes: &mut Vec<u8>) {
        self.weights.vocab().token_to_piece_into(token, bytes, false, None);
    }

    /// The tokens of a rendered chat, in which markers are control tokens. Its pieces are separate texts.
    pub(super) fn chat<'a>(&self, pieces: impl Iterator<Item = &'a str>, room: u32) -> Result<Prompt, TaskError> {
        let mut tokens = Prompt::default();
        for (index, piece) in pieces.enumerate() {
            // Most templates write the begin token themselves.
            let begins = index == 0 && (self.bos_text.is_empty() || !piece.starts_with(&self.bos_text));
            self.tokenise(piece, begins, true, room, &mut tokens)?;
        }
        self.checked_prompt(tokens, room)
    }

    /// The tokens of a text to continue. Markers in it are control tokens: its author writes the whole prompt.
    pub(super) fn prompt(&self, text: &str, room: u32) -> Result<Prompt, TaskError> {
        let mut tokens = Prompt::default();
        self.tokenise(text, true, true, room, &mut tokens)?;
        self.checked_prompt(tokens, room)
    }

    /// The tokens of a text to embed. Markers in it are text.
    pub(super) fn input(&self, text: &str, room: u32) -> Result<Prompt, TaskError> {
        let mut tokens = Prompt::default();
        self.tokenise(text, true, false, room, &mut tokens)?;
        Ok(tokens)
    }

    /// Refuses what certainly does not fit, before any work is spent on it.
    pub(super) fn check_bytes(&self, bytes: usize, room: u32) -> Result<(), TaskError> {
        let least = bytes / self.longest_bytes;
        match u32::try_from(least) {
            Ok(least) if least <= room => Ok(()),
            _ => Err(exceeded(least, room)),
        }
    }

    fn checked_prompt(&self, mut tokens: Prompt, room: u32) -> Result<Prompt, TaskError> {
        // Some vocabularies append the end token to every text; a prompt goes on.
        let end = self.eos.filter(|_| self.weights.vocab().should_add_eos());
        if end.is_some_and(|eos| tokens.last() == Some(&eos.0)) {
            tokens.pop();
        }
        if tokens.is_empty() {
            let bos = self.bos.ok_or_else(|| TaskError::Invalid { message: "the prompt is empty".to_owned() })?;
            tokens.push(bos.0);
        }
        match tokens.len() < room as usize {
            true => Ok(tokens),
            false => Err(exceeded(tokens.len(), room)),
        }
    }

    fn tokenise(&self, text: &str, begins: bool, control: bool, room: u32, out: &mut Prompt) -> Result<(), TaskError> {
        self.check_bytes(text.len(), room)?;
        let vocab = self.weights.vocab();
        for (index, part) in parts(text).enumerate() {
            let mut tokens = vocab.tokenize(part.as_bytes(), begins && index == 0, control);
            out.extend(tokens.iter().map(|token| token.0));
            tokens.fill(LlamaToken(0));
            std::hint::black_box(&mut tokens);
        }
        Ok(())
    }
}

/// An error that names a prompt's length.
pub(super) fn exceeded(prompt_tokens: usize, context_tokens: u32) -> TaskError {
    TaskError::ContextExceeded { prompt_tokens: u32::try_from(prompt_tokens).unwrap_or(u32::MAX), context_tokens }
}

/// Cuts runs of more than [`RUN_CHARS_MAX`] characters of one kind. There is always a first part.
fn parts(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest.take()?;
        let cut = run_end(text);
        if cut < text.len() {
            rest = Some(&text[cut..]);
        }
        Some(&text[..cut])
    })
}

/// Where the first run that is too long has to be cut, or the length of the text.
fn run_end(text: &str) -> usize {
    if text.len() <= RUN_CHARS_MAX {
        return text.len();
    }
    let kind = |character: char| match character {
        _ if character.is_whitespace() => 0,
        _ if character.is_alphanumeric() => 1,
        _ => 2,
    };
    let (mut run, mut last) = (0, 3);
    for (at, character) in text.char_indices() {
        let this = kind(character);
        run = if this == last { run + 1 } else { 1 };
        last = this;
        if run > RUN_CHARS_MAX {
            return at;
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_text_is_one_part() {
        let text = "A word, another; 漢字 🙂!\n".repeat(5000);
        assert_eq!(parts(&text).count(), 1);
        assert_eq!(parts("").collect::<Vec<_>>(), [""]);
    }

    #[test]
    fn long_runs_are_cut_and_nothing_is_lost() {
        for unit in ["a", "漢", " ", "!", "🙂"] {
            let text = format!("before {} after", unit.repeat(3 * RUN_CHARS_MAX + 7));
            let parts: Vec<&str> = parts(&text).collect();
            assert_eq!(parts.concat(), text);
            assert_eq!(parts.len(), 4, "{unit}");
        }
    }
}
