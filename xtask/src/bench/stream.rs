//! One streamed answer of an OpenAI API, and when its tokens came.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::http::Connection;

/// Asks for events, the last of them with the number of tokens.
const STREAMED: &str = r#""stream":true,"stream_options":{"include_usage":true}"#;

/// What to ask.
pub(super) enum Question<'text> {
    Chat(&'text str),
    Completion(&'text str),
}

/// When an answer came, and how long it was.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) asked: Instant,
    pub(super) first_token: Instant,
    pub(super) last_token: Instant,
    pub(super) ended: Instant,
    pub(super) prompt_tokens: u64,
    pub(super) tokens: u64,
}

impl Answer {
    /// From the request to the first text.
    pub(super) fn time_to_first_token(&self) -> Duration {
        self.first_token - self.asked
    }

    /// Tokens a second after the first.
    pub(super) fn decode_rate(&self) -> f64 {
        self.tokens.saturating_sub(1) as f64 / (self.last_token - self.first_token).as_secs_f64().max(1e-9)
    }
}

/// Asks over a connection of its own. Connecting is not part of the time.
pub(super) fn ask(address: SocketAddr, question: &Question<'_>, max_tokens: usize) -> std::io::Result<Answer> {
    ask_over(&mut Connection::open(address)?, question, max_tokens)
}

/// Asks over an open connection, greedily.
pub(super) fn ask_over(
    connection: &mut Connection,
    question: &Question<'_>,
    max_tokens: usize,
) -> std::io::Result<Answer> {
    // The prompts are ours and need no escaping.
    let (path, prompt, text_key) = match question {
        Question::Chat(text) => {
            ("/v1/chat/completions", format!(r#""messages":[{{"role":"user","content":"{text}"}}]"#), "content")
        }
        Question::Completion(text) => ("/v1/completions", format!(r#""prompt":"{text}""#), "text"),
    };
    let json = format!(r#"{{"model":"default",{prompt},"temperature":0,"max_tokens":{max_tokens},{STREAMED}}}"#);
    let (mut first, mut last, mut usage, mut error) = (None, None, None, None);
    let asked = Instant::now();
    connection.post_events(path, &json, &mut |event| {
        if has_text(event, text_key) {
            let now = Instant::now();
            first.get_or_insert(now);
            last = Some(now);
        }
        if let (Some(prompt), Some(answer)) = (number(event, "prompt_tokens"), number(event, "completion_tokens")) {
            usage = Some((prompt, answer));
        }
        if event.starts_with(r#"{"error""#) {
            error = Some(event.to_owned());
        }
    })?;
    let ended = Instant::now();
    match (first, last, usage) {
        (Some(first_token), Some(last_token), Some((prompt_tokens, tokens))) => {
            Ok(Answer { asked, first_token, last_token, ended, prompt_tokens, tokens })
        }
        _ => Err(std::io::Error::other(error.unwrap_or_else(|| "the answer had no text or no usage".to_owned()))),
    }
}

/// What follows the first `"key":`. The events are small and flat enough for that.
fn value<'json>(json: &'json str, key: &str) -> Option<&'json str> {
    let (_, after) = json.split_once(&format!("\"{key}\""))?;
    Some(after.trim_start().strip_prefix(':')?.trim_start())
}

fn number(json: &str, key: &str) -> Option<u64> {
    let value = value(json, key)?;
    value[..value.find(|character: char| !character.is_ascii_digit())?].parse().ok()
}

fn has_text(json: &str, key: &str) -> bool {
    value(json, key).is_some_and(|value| value.starts_with('"') && !value.starts_with("\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_usage_are_found() {
        assert!(has_text(r#"{"choices":[{"delta":{"content":"Once"}}]}"#, "content"));
        assert!(has_text(r#"{"choices":[{"delta":{"content" : "\""}}]}"#, "content"));
        for none in [r#"{"delta":{"content":null}}"#, r#"{"delta":{"content":""}}"#, r#"{"delta":{}}"#, "[DONE]"] {
            assert!(!has_text(none, "content"), "{none}");
        }
        let usage = r#"{"usage":{"prompt_tokens":44, "completion_tokens": 128,"total_tokens":172}}"#;
        assert_eq!((number(usage, "prompt_tokens"), number(usage, "completion_tokens")), (Some(44), Some(128)));
        assert_eq!(number(r#"{"usage":null}"#, "prompt_tokens"), None);
    }
}
