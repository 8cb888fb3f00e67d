//! The first prompt of `darkbloom up`, asked as any application would: over HTTP, at the gateway.

use super::ask;
use crate::{cli::GatewayArguments, failure::Failure};
use std::time::Duration;

/// Time for the whole answer. A slow machine gives a token now and then; nothing for this long is no answer.
const SILENCE_MAX: Duration = Duration::from_secs(120);
const ANSWER_TOKENS_MAX: u32 = 128;
const LINE_BYTES_MAX: usize = 1 << 20;

/// Prints the streamed answer; an error where there was none.
pub async fn ask(base_url: &str, prompt: &str, gateway: &GatewayArguments) -> Result<(), Failure> {
    let fail = |error: &dyn std::fmt::Display| {
        Failure::new(format!("no answer to the first prompt: {error}")).hint("`darkbloom doctor` looks for the cause")
    };
    let body = serde_json::json!({
        "model": "default",
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": ANSWER_TOKENS_MAX,
        "stream": true,
    });
    let client =
        reqwest::Client::builder().no_proxy().read_timeout(SILENCE_MAX).build().map_err(|error| fail(&error))?;
    let mut request = client
        .post(format!("{base_url}/chat/completions"))
        .header("content-type", "application/json")
        .body(body.to_string());
    if let Some(path) = &gateway.api_key_file {
        let keys = std::fs::read_to_string(path).map_err(|error| fail(&error))?;
        request = request.bearer_auth(keys.lines().map(str::trim).find(|key| !key.is_empty()).unwrap_or_default());
    }
    let mut response = request.send().await.map_err(|error| fail(&error))?;
    if !response.status().is_success() {
        let text = response.text().await.unwrap_or_default();
        return Err(fail(&error_in(&text).unwrap_or(text)));
    }
    let mut pending = Vec::new();
    let mut answered = false;
    while let Some(bytes) = response.chunk().await.map_err(|error| fail(&error))? {
        pending.extend_from_slice(&bytes);
        while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = pending.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            let Some(data) = line.trim_end().strip_prefix("data: ") else { continue };
            if data == "[DONE]" {
                println!();
                return if answered { Ok(()) } else { Err(fail(&"it was empty")) };
            }
            if let Some(error) = error_in(data) {
                return Err(fail(&error));
            }
            if let Some(text) = text_in(data) {
                answered |= !text.is_empty();
                ask::print(&text);
            }
        }
        if pending.len() > LINE_BYTES_MAX {
            return Err(fail(&"a line without end"));
        }
    }
    Err(fail(&"the stream ended early"))
}

fn error_in(json: &str) -> Option<String> {
    let value: serde_json::Value = serde_json::from_str(json).ok()?;
    Some(value.get("error")?.get("message")?.as_str()?.to_owned())
}

fn text_in(json: &str) -> Option<String> {
    let value: serde_json::Value = serde_json::from_str(json).ok()?;
    Some(value.get("choices")?.get(0)?.get("delta")?.get("content")?.as_str()?.to_owned())
}
